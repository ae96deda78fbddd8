"""Writing files so that nothing is ever lost half-way: to a temporary file beside the target, then renamed.

Links are followed, a file that is replaced keeps its mode, and what is no regular file (a device, a pipe) is written
to, never replaced.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, all or nothing. Raises OSError."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    temporary = target.with_name(f".robuststream.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if target.exists():
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
