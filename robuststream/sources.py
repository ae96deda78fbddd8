"""What streams are read from: bytes, a path, a binary file. Imports no torch."""

from __future__ import annotations

import os
from typing import IO

from robuststream.container.reader import Stream, read_stream
from robuststream.errors import RobustStreamError

Source = bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes]


def read_source(data: Source) -> bytes:
    """The bytes of a stream. Raises OSError."""
    if isinstance(data, (str, os.PathLike)):
        with open(data, "rb") as file:
            return file.read()
    return bytes(data) if isinstance(data, (bytes, bytearray, memoryview)) else data.read()


def read_lender(header_from: Source | Stream | None) -> Stream | None:
    """The stream whose header may be borrowed, read unless it is already. Raises OSError and RobustStreamError."""
    if header_from is None or isinstance(header_from, Stream):
        return header_from
    try:
        return read_stream(read_source(header_from))
    except RobustStreamError as error:
        raise type(error)(f"there is no header to borrow: {error}") from error
