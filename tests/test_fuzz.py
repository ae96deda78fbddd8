"""Every fuzz target for a moment; `make fuzz` runs them for long."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("atheris", reason="atheris, which has wheels for Linux x86-64 alone, is not installed")

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from fuzz import harness, scanner, words

from robuststream.container.scanner import Scanner
from robuststream.entropy.coder import TileDecoder

FUZZ = Path(__file__).parent.parent / "tools" / "fuzz"
#: Executions of each target: a second or two.
RUNS = {
    "words": 3000,
    "scanner": 1000,
    "unit": 1000,
    "reader": 400,
    "flood": 300,
    "parity": 60,
    "decode": 60,
    "damage": 100,
    "model": 100,
}


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "ignore", str(FUZZ), *arguments], capture_output=True, text=True)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder, so that kernels are compiled once."""
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("target", RUNS)
def test_nothing_is_found(target: str, work: Path) -> None:
    """In a child process, because libFuzzer ends it."""
    done = fuzz(target, "--once", "--runs", str(RUNS[target]), "--work", str(work))
    assert done.returncode == 0, done.stdout + done.stderr
    row = re.search(rf"^{target} +(\d+) .* (\d+) +0$", done.stdout, re.MULTILINE)
    assert row, done.stdout
    assert int(row[1]) >= RUNS[target]
    assert int(row[2]) > 1  # coverage grows: the package is measured


def test_a_replay_of_files(work: Path) -> None:
    """Without coverage; each file is judged alone."""
    done = fuzz("scanner", "--work", str(work), "--replay", str(work / "corpus" / "scanner"))
    assert done.returncode == 0, done.stdout


def test_rules_are_held() -> None:
    def target(check: Callable[[bytes], object]) -> SimpleNamespace:
        return SimpleNamespace(check=check, ERRORS=(ValueError,))

    harness._held(target(int), b"no number", watched=True)
    with pytest.raises(harness.Broken, match="bytes of memory"):
        harness._held(target(lambda data: bytes(harness.FLOOR + harness.FACTOR * 2)), b"x", watched=True)
    with pytest.raises(KeyError):
        harness._held(target({}.__getitem__), b"x", watched=False)


def test_targets_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a scanner that says nothing at the end, and a decoder that is never at its end."""
    scanner.check(b"\7junk")
    coded = words.seeds()[2]
    words.check(coded)
    monkeypatch.setattr(Scanner, "close", lambda self: iter(()))
    with pytest.raises(harness.Broken, match="events end at"):
        scanner.check(b"\7junk")
    monkeypatch.setattr(TileDecoder, "complete", lambda self: self.status < 0)
    with pytest.raises(harness.Broken):
        words.check(coded)


def test_an_unknown_target_is_refused() -> None:
    done = fuzz("nothing")
    assert done.returncode == 2
    assert "the targets are words, scanner" in done.stderr


def test_no_kernel_is_instrumented() -> None:
    """numba cannot compile what atheris has rewritten."""
    package = Path(harness.__file__).parents[2]
    files = [path for path in (package / "robuststream").rglob("*.py") if "\n@kernel\n" in path.read_text()]
    named = {".".join(path.relative_to(package).with_suffix("").parts) for path in files}
    assert named == set(harness.COMPILED)
