"""tools/gpu_check.sh: says what it is for, and what it lacks. `DRY=1 tools/gpu_check.sh exact` tries all of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent.parent / "tools" / "gpu_check.sh"
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def check(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    more = {"PYTHON": sys.executable, **environment}
    return subprocess.run([SCRIPT, *arguments], env={**os.environ, **more}, capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [(), ("all",)])
def test_usage(arguments: tuple[str, ...]) -> None:
    done = check(*arguments)
    assert done.returncode == 2
    assert "tools/gpu_check.sh speed    # " in done.stdout
    assert "set -u" not in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu() -> None:
    done = check("speed")
    assert (done.returncode, done.stdout) == (
        2,
        "gpu_check speed: could not be tried: torch finds no CUDA device\n",
    )


def test_without_packages(tmp_path: Path) -> None:
    (tmp_path / "bad.whl").write_bytes(b"no wheel")
    done = check("exact", WHEELS=str(tmp_path))
    assert done.returncode == 2
    assert done.stdout.endswith(f"could not be tried: the wheels in {tmp_path} do not install\n")
