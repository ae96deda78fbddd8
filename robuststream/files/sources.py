"""What streams are read from: bytes in memory, a path, a binary file. Imports no torch."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import IO, TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Buffer

#: Anything with the buffer protocol (bytes, bytearray, memoryview, mmap, a uint8 array), a uint8 tensor, a path, or a
#: binary file.
Source: TypeAlias = "Buffer | Tensor | str | os.PathLike[str] | IO[bytes]"

#: Formats of a buffer whose items are bytes.
_BYTES = ("B", "b", "c")
#: Characters of a text in a message that turned out to be no path.
_SHOWN = 40


def read_source(source: Source) -> bytes:
    """The bytes of a stream, without a copy of what is bytes already.

    Raises:
        OSError: the path or file cannot be read.
        TypeError: it is no source.
    """
    buffer = in_memory(source)
    if buffer is not None:
        return buffer if isinstance(buffer, bytes) else memoryview(buffer).tobytes()
    if isinstance(source, (str, os.PathLike)):
        with open_path(source) as file:
            return read_file(file)
    return read_file(binary_file(source))


def in_memory(source: Any) -> Buffer | None:
    """What has the bytes of `source` where they are in memory, a tensor's array or itself; None for paths and files.

    Raises:
        TypeError: memory, but no row of bytes.
    """
    if isinstance(source, (str, os.PathLike)):  # NumPy's texts are memory as well
        return None
    if isinstance(source, bytes):
        return bytes(source)  # those of NumPy's own type are no row
    # A tensor has no buffer protocol; there is none where torch was never imported.
    tensor_type = getattr(sys.modules.get("torch"), "Tensor", None)
    if tensor_type is not None and isinstance(source, tensor_type):
        kind = str(source.dtype).removeprefix("torch.")
        if kind != "uint8" or source.ndim != 1:
            raise TypeError(f"a tensor of shape {tuple(source.shape)}, {kind}, is no stream: uint8 (N,) is needed")
        source = source.detach().cpu().numpy()
    try:
        view = memoryview(source)
    except TypeError:
        return None
    with view:
        if view.ndim != 1 or view.format.lstrip("@=<>!") not in _BYTES:
            what = f"a {type(source).__name__} of shape {view.shape}, format {view.format!r},"
            raise TypeError(f"{what} is no stream: a row of bytes is needed, such as uint8 (N,)")
    buffer: Buffer = source
    return buffer


def open_path(path: str | os.PathLike[str]) -> io.FileIO:
    """A file of its own, without a buffer, which would read on behind each tile.

    Raises:
        OSError: it cannot be opened, or the text is no path at all.
    """
    try:
        return open(path, "rb", buffering=0)
    except ValueError as error:  # null bytes, or characters that the file system's encoding lacks
        raise _no_path(errno.EINVAL, path) from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise _no_path(errno.ENAMETOOLONG, path) from error
        if isinstance(error, PermissionError) and os.path.isdir(path):  # what Windows says of folders
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path)) from error
        raise


def _no_path(code: int, path: str | os.PathLike[str]) -> OSError:
    text = os.fspath(path)
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return OSError(code, f"{os.strerror(code)}: this text is no path; the bytes of a stream are given as bytes", shown)


def binary_file(source: Any) -> IO[bytes]:
    """`source` itself. Raises TypeError where it is no source at all."""
    if isinstance(source, io.TextIOBase):
        raise TypeError("the file is open as text: open it with mode 'rb'")
    if not callable(getattr(source, "read", None)):
        raise TypeError(
            f"a stream cannot be read from {'None' if source is None else f'a {type(source).__name__}'}: give bytes or "
            "anything else with the buffer protocol, a uint8 tensor (N,), a path, or a binary file"
        )
    file: IO[bytes] = source
    return file


def read_file(file: IO[bytes]) -> bytes:
    """What is left of a binary file, also of one that gives it in pieces. Raises OSError."""
    data = checked_piece(file.read())
    if not isinstance(file, io.IOBase):
        return data
    pieces = [data]
    while pieces[-1]:
        pieces.append(checked_piece(file.read()))
    return data if len(pieces) <= 2 else b"".join(pieces)


def checked_piece(piece: Any) -> bytes:
    """What a file's `read` gave, if it is bytes.

    Raises:
        BlockingIOError: there was nothing to read yet.
        TypeError: it is something else.
    """
    if piece is None:
        raise BlockingIOError(errno.EAGAIN, "nothing can be read from the file yet: wait until all of it is there")
    if not isinstance(piece, bytes):
        try:
            return memoryview(piece).tobytes()
        except TypeError:
            raise TypeError(
                f"the file's read gives {type(piece).__name__} and not bytes: open it with mode 'rb'"
            ) from None
    return piece
