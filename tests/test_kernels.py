"""Compiled code on disk: whatever is wrong with it, a kernel runs, and computes what it computes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

#: Prints what a kernel gives, and how often its machine code was found and not found.
RUN = """
import logging
logging.basicConfig(format="%(levelname)s %(message)s")
from robuststream.entropy import rans
result, stats = rans.words_needed(3, 10), rans.words_needed.stats
print(result, stats.cache_hits.total(), stats.cache_misses.total())
"""


def run(folder: Path, before: str = "", **environment: str) -> tuple[str, list[str]]:
    """What a fresh process prints, and the warnings in it; its compiled code is kept in `folder`."""
    variables = {**os.environ, "NUMBA_CACHE_DIR": str(folder), **environment}
    done = subprocess.run(
        [sys.executable, "-c", before + RUN], capture_output=True, text=True, env=variables, cwd=folder, check=True
    )
    return done.stdout.strip(), done.stderr.splitlines()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    assert run(folder) == ("24 0 1", [])
    assert run(folder) == ("24 1 0", [])
    return folder


@pytest.fixture
def cache(filled: Path, tmp_path: Path) -> Path:
    """A folder with a kernel's compiled code in it."""
    return Path(shutil.copytree(filled, tmp_path / "cache"))


def flipped(data: bytes) -> bytes:
    """One bit of the machine code: nothing that unpickling could see."""
    return data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:1],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: bytes(len(data)),
        lambda data: os.urandom(len(data)),
        lambda data: b"not a pickle\n",
        flipped,
    ],
)
def test_damaged_entries_are_compiled_anew(cache: Path, damage: Callable[[bytes], bytes]) -> None:
    paths = [path for path in cache.rglob("*") if path.is_file()]
    assert paths
    for path in paths:
        path.write_bytes(damage(path.read_bytes()))
    result, said = run(cache)
    assert result == "24 0 1"
    assert len(said) == 1
    assert said[0].startswith(f"WARNING {paths[0]}: compiled code is damaged")
    # In its place stands what is whole.
    data = paths[0].read_bytes()
    assert hashlib.sha256(data[32:]).digest() == data[:32]


def test_damage_of_many_is_said_once(cache: Path) -> None:
    more = """
import numpy as np
from robuststream.container.prefixes import SHIFTS, moved
moved(np.uint32(1), 2, SHIFTS)
"""
    assert run(cache, more) == ("24 1 0", [])
    paths = [path for path in cache.rglob("*") if path.is_file()]
    assert len(paths) == 2
    for path in paths:
        path.write_bytes(b"")
    result, said = run(cache, "import logging; logging.basicConfig()\n" + more)
    assert (result, len(said)) == ("24 0 1", 1)


def test_what_cannot_be_unpickled_is_compiled_anew(cache: Path) -> None:
    """With a checksum that holds: such as code that was kept with a package that is gone."""
    broken = "import pickle; pickle.loads = lambda data: pickle.Unpickler(__import__('io').BytesIO(b'')).load()\n"
    result, said = run(cache, broken)
    assert (result, len(said)) == ("24 0 1", 1)
    assert "Ran out of input" in said[0]


def test_code_of_another_numba_is_not_damaged_only_old(cache: Path) -> None:
    other = "import numba; numba.__version__ = '0.1'\n"
    assert run(cache, other) == ("24 0 1", [])
    assert run(cache, other) == ("24 1 0", [])
    assert run(cache) == ("24 0 1", [])


def test_a_kernel_hangs_on_the_kernels_it_calls(cache: Path) -> None:
    """Their code is part of its own, whatever file they stand in."""
    from robuststream.container import flood, prefixes

    callers = {name: set(f._cache._made_of(set())) for name, f in vars(flood).items() if hasattr(f, "_cache")}
    assert any(prefixes.moved._cache in made_of for name, made_of in callers.items() if name != "moved")


@pytest.mark.parametrize("kind", ["a file", "read only", "entries that are folders"])
def test_folders_that_cannot_be_used(cache: Path, kind: str) -> None:
    if kind == "a file":
        (cache / "file").touch()
        # numba then looks for another folder.
        assert run(cache, NUMBA_CACHE_DIR=str(cache / "file"))[1] == []
    elif kind == "read only":
        locked = (
            "import robuststream.files.writing as files\ndef no(*_):\n    raise OSError(30, 'Read-only file system')\n"
        )
        for path in cache.rglob("*.nbc"):
            path.unlink()
        assert run(cache, locked + "files.write_file = no\n") == ("24 0 1", [])
        assert not list(cache.rglob("*.nbc"))
    else:
        for path in cache.rglob("*.nbc"):
            path.unlink()
            path.mkdir()
        assert run(cache) == ("24 0 1", [])


@pytest.mark.skipif(sys.platform == "win32", reason="users without a home are a matter of Unix")
def test_users_without_a_home(tmp_path: Path) -> None:
    """As containers have them. numba by itself makes a folder called `~`."""
    homeless = """
import os, pwd
def unknown(uid): raise KeyError(uid)
pwd.getpwuid = unknown
for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"): os.environ.pop(name, None)
from numba.core import caching
for locator in caching.CompileResultCacheImpl._locator_classes:
    if "InTree" in locator.__name__:
        locator.from_function = classmethod(lambda *_: None)  # the package is not theirs to write to
"""
    assert run(tmp_path, homeless) == ("24 0 1", [])
    assert not list(tmp_path.iterdir())
    home = homeless + f"os.environ['XDG_CACHE_HOME'] = {str(tmp_path / 'kept')!r}\n"
    assert run(tmp_path, home) == ("24 0 1", [])
    assert run(tmp_path, home) == ("24 1 0", [])


def test_a_kernel_can_be_forgotten(cache: Path) -> None:
    forget = "from robuststream.entropy import rans\nrans.words_needed._cache.flush()\n"
    assert run(cache, forget) == ("24 0 1", [])


def test_a_numba_that_is_built_otherwise_costs_only_time(cache: Path) -> None:
    """Its caching is none of its public interface."""
    assert run(cache, "import numba.core.caching as c\ndel c.CompileResultCacheImpl\n") == ("24 0 1", [])
