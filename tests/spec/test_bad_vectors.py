"""Every bad file through every way into the package: an answer or an error of the package's own, and nothing else."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import robuststream as rs
from robuststream.cli import main
from robuststream.compressai import unpack
from robuststream.container.scanner import scan
from robuststream.transfers.reading import read_restored, restore

FOLDER = Path(__file__).parents[2] / "spec" / "vectors"
STREAMS = sorted(FOLDER.glob("bad-*.robs"))
MODELS = sorted(FOLDER.glob("models/bad-*.safetensors"))


@pytest.fixture(scope="module")
def model() -> rs.Model:
    return rs.load_model(FOLDER / "models" / "mean-scale-hyperprior.safetensors")


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_streams(path: Path, model: rs.Model, tmp_path: Path) -> None:
    data = path.read_bytes()
    entries: list[Callable[[], Any]] = [
        lambda: rs.inspect(data),
        lambda: read_restored(data),
        lambda: restore([data]),
        lambda: restore([data[: len(data) // 2], data[len(data) // 2 :]]),
        lambda: rs.decode(data, model),
        lambda: rs.decode(data, model, strict=True),
        lambda: rs.verify(data, model),
        lambda: unpack(data),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.DamageWarning)
        assert sum(event.size for event in scan(data) if hasattr(event, "size")) <= len(data)
        for entry in entries:
            with contextlib.suppress(rs.RobustStreamError, ImportError):  # without the package for parity
                entry()
        assert main(["inspect", str(path)]) in (0, 2)
        assert main(["repair", str(path), str(tmp_path / "out.robs")]) in (0, 1, 2)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_models(path: Path) -> None:
    with pytest.raises(rs.UnsupportedModel, match="not valid"):
        rs.load_model(path)
    assert main(["models", "show", str(path)]) == 2
