"""The process's standard streams, made to take all they are given or to raise."""

from __future__ import annotations

import contextlib
import errno
import io
import sys
from collections.abc import Iterator
from typing import IO, Any

from robuststream.files.pipes import write_all


class StreamError(OSError):
    """A standard stream takes no more: there is no use in going on."""


@contextlib.contextmanager
def whole_streams() -> Iterator[None]:
    """Inside, what is written to sys.stdout and sys.stderr arrives or is an OSError.

    Python's own are raw where PYTHONUNBUFFERED is set, and then print and write lose what a full disk or a pipe that
    does not block has not taken; closed ones are None, and print says nothing of it.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _whole(before[0], "standard output"), _whole(before[1], "standard error")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Whole(io.RawIOBase):
    """A raw file whose writes are never short."""

    def __init__(self, raw: Any, name: str) -> None:
        self._raw = raw
        self._name = name

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        return bool(self._raw.isatty())

    def write(self, data: Any, /) -> int:
        try:
            write_all(self._raw, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StreamError(error.errno, error.strerror, self._name) from error
        return memoryview(data).nbytes


class _Closed(io.RawIOBase):
    """Stands for a stream that was closed before the process began."""

    def __init__(self, name: str) -> None:
        self._name = name

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        raise StreamError(errno.EBADF, "is closed", self._name)


def is_closed(stream: IO[str] | None) -> bool:
    """Whether what is written to a standard stream has no reader."""
    return stream is None or isinstance(getattr(getattr(stream, "buffer", None), "raw", None), _Closed)


def _whole(stream: IO[str] | None, name: str) -> Any:
    if stream is None:
        return io.TextIOWrapper(io.BufferedWriter(_Closed(name)), encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper) or not _is_open_file(stream):
        return stream  # put there by other code, such as a test
    stream.flush()
    buffer: Any = stream.buffer
    return io.TextIOWrapper(
        io.BufferedWriter(_Whole(getattr(buffer, "raw", buffer), name)),
        encoding=stream.encoding,
        # A name that the terminal has no letters for is no reason to stop.
        errors="backslashreplace" if stream.errors == "strict" else stream.errors,
        line_buffering=stream.line_buffering or stream.write_through,
    )


def _is_open_file(stream: io.TextIOWrapper) -> bool:
    try:
        stream.fileno()
    except (OSError, ValueError):
        return False
    return isinstance(stream.buffer, (io.BufferedWriter, io.RawIOBase))
