"""All that a pipe gives, and all that is to go into one: it may do either in pieces, and let its other side wait."""

from __future__ import annotations

import contextlib
import io
import select
import time
from typing import Any, Protocol

#: Seconds between two tries, where the system cannot say when a pipe is ready.
PAUSE = 0.01


class RawFile(Protocol):
    """What `open(path, "wb", buffering=0)` gives, as far as it is needed here."""

    def write(self, data: memoryview, /) -> int | None: ...
    def fileno(self) -> int: ...


def write_all(file: RawFile, data: bytes | bytearray | memoryview) -> None:
    """Every byte of `data`: a raw file may take less, and one that does not block takes none while its reader is slow.

    Raises:
        OSError: it takes no more.
    """
    view = memoryview(data).cast("B")
    while view:
        taken = file.write(view)
        if taken is None:
            _wait(file, writing=True)
        else:
            view = view[taken:]


def read_all(file: Any) -> bytes:
    """All of a binary file up to its end; one that does not block is waited for. Raises OSError."""
    whole = io.BytesIO()
    while True:
        piece = file.read(1 << 20)
        if piece is None:
            _wait(file, writing=False)
        elif piece:
            whole.write(piece)
        else:
            return whole.getvalue()


def _wait(file: Any, writing: bool) -> None:
    """Until the other side of a pipe has done something."""
    with contextlib.suppress(OSError, ValueError):
        select.select([] if writing else [file], [file] if writing else [], [])
        return
    time.sleep(PAUSE)
