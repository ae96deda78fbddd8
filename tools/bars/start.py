"""How long the first picture takes: whole processes against one that imports torch and does nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import robuststream as rs
from bars.common import ROOT, Figure, interleaved, photo_paths

RUNS = 7
#: Beyond the import of torch, in seconds: with kernels that were compiled before, and with none.
CACHED, FIRST = 1, 6


def startup(photos: Path) -> list[Figure]:
    """`robuststream decode` of one picture, with kernels cached and the first time ever; and from a read-only place."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        file = folder / "photo.robs"
        file.write_bytes(rs.encode(photo_paths(photos)[0]))
        kept, fresh = folder / "kept", (folder / f"fresh{number}" for number in count())
        _decode(file, _caching(kept))
        torch, cached, first = interleaved(
            RUNS,
            lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True),
            lambda: _decode(file, _caching(kept)),
            lambda: _decode(file, _caching(next(fresh))),
        )
        return [
            _against_torch("decode of one picture, kernels cached", cached, torch, CACHED),
            _against_torch("the same, the first time ever", first, torch, FIRST),
            *_read_only(file, folder),
        ]


def _against_torch(what: str, seconds: float, torch: float, more: float) -> Figure:
    value = f"{seconds:.2f} s (import torch: {torch:.2f} s)"
    return Figure(what, value, f"<= {torch + more:.2f} s", seconds <= torch + more)


def _read_only(file: Path, folder: Path) -> list[Figure]:
    """numba caches beside the source, or for the user where it cannot write there: files in the place of the cache
    folders stand for a read-only installation, even for root."""
    package = folder / "site" / "robuststream"
    shutil.copytree(ROOT / "robuststream", package, ignore=shutil.ignore_patterns("__pycache__"))
    for directory in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (directory / "__pycache__").touch()
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "XDG_CACHE_HOME": str(folder / "home")}
    environment.pop("NUMBA_CACHE_DIR", None)
    _decode(file, environment)
    compiled = _written(folder / "home")
    (later,) = interleaved(RUNS, lambda: _decode(file, environment))
    cached = bool(compiled) and _written(folder / "home") == compiled
    return [
        Figure("the same from a read-only installation, later", f"{later:.2f} s"),
        Figure("kernels cached there", "loaded" if cached else "compiled again", "loaded", cached),
    ]


def _written(folder: Path) -> dict[Path, int]:
    """When each file of compiled code was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.nbc")}


def _caching(folder: Path) -> Mapping[str, str]:
    return {**os.environ, "NUMBA_CACHE_DIR": str(folder)}


def _decode(file: Path, environment: Mapping[str, str], **options: Any) -> subprocess.CompletedProcess[Any]:
    command = [sys.executable, "-m", "robuststream", "decode", str(file), str(file.with_suffix(".png")), "--force"]
    return subprocess.run(command, env=environment, cwd=file.parent, check=True, **options)
