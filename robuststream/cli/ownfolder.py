"""A folder that each demo fills anew. Files in it that are not the demo's are never lost."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from robuststream.cli.places import UsageError, make_folder, write_output

#: What a demo leaves in its folder, the first to look at.
FILES = (
    "demo.png",
    "photo.robs",
    "damaged.robs",
    "robuststream.png",
    "robuststream-mask.png",
    "compressai.bin",
    "compressai-damaged.bin",
    "compressai-intact.png",
    "compressai.png",
)
#: Which files in the folder are the demo's own, in the form of sha256sum: what has changed since is so no more.
LIST = "files.sha256"
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\n]+)")


def check_folder(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder where one of these files, or the list of them, stands and is not an earlier demo's.

    Raises:
        UsageError: it does, or the folder is none.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"{folder}: is no folder: name another with --out")
    known = _listed(folder)
    for name in (LIST, *names):
        path = folder / name
        if os.path.lexists(path) and (known is None or (name != LIST and (_digest(path), name) not in known)):
            raise UsageError(f"{path}: exists already, and no demo has made it: name another folder with --out")


def fill_folder(folder: Path, source: Path, names: Iterable[str]) -> None:
    """Copy those of the files that are in `source`. Raises UsageError, as `check_folder`."""
    names = list(names)
    check_folder(folder, names)
    make_folder(folder)
    made = {name: (source / name).read_bytes() for name in names if (source / name).is_file()}
    new = {(hashlib.sha256(data).hexdigest(), name) for name, data in made.items()}
    # Stopped half-way, the files of this demo and those of the last one are all known.
    _write_list(folder, new | (_listed(folder) or set()))
    for name in names:
        if name in made:
            write_output(folder / name, made[name], force=True)
        else:
            (folder / name).unlink(missing_ok=True)
    _write_list(folder, new)


def _write_list(folder: Path, entries: Iterable[tuple[str, str]]) -> None:
    lines = [f"{digest}  {name}\n" for digest, name in sorted(entries, key=lambda entry: entry[::-1])]
    write_output(folder / LIST, "".join(lines).encode(), force=True)


def _listed(folder: Path) -> set[tuple[str, str]] | None:
    """Digests and names; None where there is no list, or a file of this name that is none."""
    try:
        lines = (folder / LIST).read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return None
    found = [_LINE.fullmatch(line) for line in lines]
    return {(line[1], line[2]) for line in found if line} if all(found) else None


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
