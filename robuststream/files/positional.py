"""A stream's bytes by position, for any number of threads and forked processes at once. Imports no torch.

To seek and to read are two acts: between them another thread, or another process that shares the file's position,
may move it. So files are read at a position where the system can, and else under a lock.
"""

from __future__ import annotations

import io
import os
import threading
from abc import ABC, abstractmethod
from typing import IO, TYPE_CHECKING, Any

from robuststream.files.sources import Source, binary_file, checked_piece, in_memory, open_path, read_file

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: Bytes that are asked of a system at a time; macOS refuses 2^31.
_PIECE = 1 << 30


class Positional(ABC):
    """Bytes by position. What is read once does not move what is read next.

    Attributes:
        name: of the file, for messages.
    """

    name: str
    _closed = False

    def read(self, start: int, size: int = -1) -> bytes:
        """So many bytes from `start` on, or all; fewer only where the file ends.

        Raises:
            OSError: it cannot be read.
            ValueError: it is closed.
        """
        if self._closed:
            raise ValueError("the stream is closed: open it again")
        pieces = []
        while size:
            piece = self._some(start, size)
            if not piece:
                break
            pieces.append(piece)
            start += len(piece)
            size -= len(piece) if size > 0 else 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @abstractmethod
    def _some(self, start: int, size: int) -> bytes:
        """Some of them, and none only at the end."""

    def state(self) -> object:
        """Compares unequal once the file was written to; None where nothing tells."""
        return None

    def close(self) -> None:
        """Read no more, and close what was opened here."""
        self._closed = True


def positional(source: Source) -> Positional:
    """Read `source` by position: a binary file from where it stands, one that cannot seek is read to its end at once.

    Raises:
        OSError: it cannot be opened or read.
        TypeError: it is no source.
    """
    buffer = in_memory(source)
    if buffer is not None:
        return _Memory(buffer)
    if isinstance(source, (str, os.PathLike)):
        own = open_path(source)
        try:
            return _of_file(own, own)
        except BaseException:
            own.close()
            raise
    return _of_file(binary_file(source), None)


def _of_file(file: IO[bytes], own: io.FileIO | None) -> Positional:
    if not _can_seek(file):
        try:
            return _Memory(read_file(file), _name(file))
        finally:
            if own is not None:
                own.close()
    raw = file.raw if type(file) is io.BufferedReader else file
    # Other classes' `read` need not give what stands in the file: gzip's does not.
    if type(raw) is io.FileIO and hasattr(os, "pread"):
        return _Descriptor(file, own)
    return _Seeking(file, own)


class _Memory(Positional):
    """A buffer. It is looked at for the time of a read only, so that its owner may close or resize it."""

    def __init__(self, buffer: Buffer, name: str = "the stream") -> None:
        self.name = name
        self._buffer = buffer

    def _some(self, start: int, size: int) -> bytes:
        if isinstance(self._buffer, bytes) and start == 0 and size < 0:
            return self._buffer
        with memoryview(self._buffer) as view:
            return view[start : start + size if size >= 0 else None].tobytes()


class _Descriptor(Positional):
    """A file of the system, whose own position is neither used nor moved."""

    def __init__(self, file: IO[bytes], own: io.FileIO | None) -> None:
        self.name = _name(file)
        self._file = file
        self._begin = file.tell()
        self._own = own

    def _some(self, start: int, size: int) -> bytes:
        descriptor, at = self._file.fileno(), self._begin + start
        if size < 0:
            # Not all files say how long they are; some give more.
            size = max(os.fstat(descriptor).st_size - at, io.DEFAULT_BUFFER_SIZE)
        piece = os.pread(descriptor, min(size, _PIECE), at)
        # Closed meanwhile, the number may have been another file's.
        self._file.fileno()
        return piece

    def state(self) -> object:
        return _written(self._file.fileno())

    def close(self) -> None:
        super().close()
        if self._own is not None:
            self._own.close()


class _Seeking(Positional):
    """A file that is sought in and read under a lock."""

    def __init__(self, file: IO[bytes], own: io.FileIO | None) -> None:
        self.name = _name(file)
        self._file = file
        self._begin = file.tell()
        self._own = own
        self._lock = threading.Lock()

    def _some(self, start: int, size: int) -> bytes:
        with self._lock:
            self._file.seek(self._begin + start)
            return checked_piece(self._file.read(size))

    def state(self) -> object:
        try:
            with self._lock:
                return _written(self._file.fileno())
        except (AttributeError, OSError, ValueError, NotImplementedError):
            return None

    def close(self) -> None:
        super().close()
        if self._own is not None:
            self._own.close()


def _can_seek(file: IO[bytes]) -> bool:
    """Files of some libraries do not say."""
    seekable = getattr(file, "seekable", None)
    return bool(seekable()) if seekable is not None else all(hasattr(file, name) for name in ("seek", "tell"))


def _written(descriptor: int) -> tuple[int, int]:
    stat = os.fstat(descriptor)
    return stat.st_size, stat.st_mtime_ns


def _name(file: Any) -> str:
    """Files without a path have a number for a name, or none."""
    name = getattr(file, "name", None)
    return os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) and name else "the stream"
