"""What the README shows runs."""

from __future__ import annotations

import re
import shlex
import shutil
import warnings
from pathlib import Path

import pytest
import torch

import robuststream as rs
from robuststream.cli import main
from robuststream.model.store import BUNDLED, DEFAULT
from tests.small import SAMPLE, net

README = Path("README.md").read_text()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(SAMPLE, tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python_lines(folder: Path) -> None:
    ten, more = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec(ten, names)
    assert (folder / "decoded.png").exists()
    assert isinstance(names["out"], rs.Decoded)
    assert names["out"].report.exact
    (folder / "photo.robs").write_bytes(names["data"])  # type: ignore[arg-type]
    for name in ("a.png", "b.png"):
        shutil.copy(folder / "photo.png", folder / name)
    names["net"], names["x"] = net("mbt2018-mean"), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        exec(more, names)
    assert names["streams"] == [names["data"]] * 2
    assert isinstance(names["part"], rs.DecodedRegion)
    assert names["part"].image.size == (64, 64)


def test_shell_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split(" #")[0].strip() for line in re.findall(r"^robuststream .*$", README, re.MULTILINE)]
    codes: dict[str, set[int]] = {}
    for line in lines:
        command = shlex.split(line)[1:]
        if command[0] != "freeze":  # needs a checkpoint of the user's
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                codes.setdefault(command[0], set()).add(main(command))
    assert codes.pop("decode") == {2}
    assert set(codes) == {"encode", "inspect", "damage", "repair", "verify", "models"}
    assert all(code == {0} for code in codes.values())
    assert (folder / "whole.robs").read_bytes() == (folder / "safe.robs").read_bytes()
    assert (folder / "hurt.png").exists()
    assert (folder / "kept.safetensors").read_bytes() == (BUNDLED / f"{DEFAULT}.safetensors").read_bytes()
