"""Exactness across kernels, in child processes that are "other machines": instruction sets, threads, order of sums."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import cross_machine  # noqa: E402


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("streams")
    cross_machine._child("default", ["encode", str(directory), str(ROOT / "robuststream" / "samples" / "dog.png")])
    return directory


@pytest.mark.parametrize("machine", ["AVX2", "SSE4.1"])
def test_native_mode_is_never_silent(streams: Path, machine: str) -> None:
    (line,) = cross_machine._decode_child(machine, streams, "native")
    assert line["silent"] is False
    assert line["same"] or line["drifted"]


@pytest.mark.parametrize("machine", cross_machine.MACHINES)
def test_latents_are_identical(streams: Path, machine: str) -> None:
    lines = cross_machine._decode_child(machine, streams, "robuststream")
    assert [line["same"] for line in lines] == [True]


def test_the_check_can_fail(streams: Path) -> None:
    """Networks that round nowhere differ when sums are permuted."""
    default = cross_machine._decode_child("default", streams, "control")
    permuted = cross_machine._decode_child("sums permuted", streams, "control")
    assert default[0]["hash"] != permuted[0]["hash"]


def test_the_tool_explains_itself() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "cross_machine.py"), "-h"], capture_output=True, text=True
    )
    assert "other machines" in done.stdout
