"""Every fuzz target for a moment; `make fuzz` runs them for long."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="atheris, which has wheels for Linux x86-64 alone, is not installed")

FUZZ = Path(__file__).parent.parent / "tools" / "fuzz"
#: Executions of each target: a second or two.
RUNS = {
    "words": 3000,
    "scanner": 1000,
    "unit": 2000,
    "reader": 400,
    "flood": 500,
    "parity": 150,
    "decode": 100,
    "damage": 100,
    "model": 150,
}


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "ignore", str(FUZZ), *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("target", RUNS)
def test_nothing_is_found(target: str, tmp_path: Path) -> None:
    """In a child process, because libFuzzer ends it."""
    done = fuzz(target, "--runs", str(RUNS[target]), "--work", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    row = re.search(rf"^{target} +(\d+) .* (\d+) +0$", done.stdout, re.MULTILINE)
    assert row, done.stdout
    assert int(row[1]) >= RUNS[target]
    assert int(row[2]) > 1  # coverage grows: the package is measured


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    """A file that is no input of the model target's own, and one that is: the replay tells them apart."""
    (tmp_path / "good").write_bytes(b"no model")
    assert fuzz("model", "--work", str(tmp_path), "--replay", str(tmp_path / "good")).returncode == 0


def test_an_unknown_target_is_refused() -> None:
    done = fuzz("nothing")
    assert done.returncode == 2
    assert "the targets are words, scanner" in done.stderr
