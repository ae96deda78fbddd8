"""Bytes out: files are written whole or not at all, and pipes and devices as far as they go, or it is said.

A file is written to a temporary one beside it, then renamed. Links are followed, and a file that is replaced keeps its
mode. What is no regular file (a device, a pipe) is written to, never replaced.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from robuststream.files.pipes import write_all

_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
_NAMED_DESCRIPTORS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


def write_file(path: str | os.PathLike[str], data: bytes, *, replace: bool = True) -> None:
    """Write `data` to `path`, all or nothing.

    Args:
        replace: whether a regular file that stands there makes way.

    Raises:
        FileExistsError: it stands there, and is not to be replaced.
        OSError: it cannot be written.
    """
    number = descriptor(path)
    if number is not None:
        # Opened by its name, a file that the shell appends to would be emptied.
        _write_open(os.dup(number), data)
    elif _is_regular(path):
        _write_beside(Path(os.path.realpath(path)), data, replace)
    else:
        _write_open(path, data)


def descriptor(path: str | os.PathLike[str]) -> int | None:
    """The number of the open file that a path such as /dev/stdout or /dev/fd/3 names; None for any other path."""
    text = os.fspath(path)
    named = _DESCRIPTOR.fullmatch(text)
    return int(named[1]) if named else _NAMED_DESCRIPTORS.get(text)


def _is_regular(path: str | os.PathLike[str]) -> bool:
    """Also where nothing is yet. The system follows links that no path leads through, as to an open pipe."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return True


def _write_open(place: int | str | os.PathLike[str], data: bytes) -> None:
    with open(place, "wb", buffering=0) as file:
        write_all(file, data)


def _write_beside(target: Path, data: bytes, replace: bool) -> None:
    temporary = target.with_name(f".robuststream.{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            if target.exists():
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, target)
        else:
            _name(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _name(temporary: Path, target: Path) -> None:
    """Rename, but not onto a file: in one step where the file system has links, which know no race."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.replace(temporary, target)
    else:
        temporary.unlink()
