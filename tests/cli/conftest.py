"""Runs commands in this process, and the files they work on."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import robuststream as rs
from robuststream import faults
from robuststream.cli import main
from robuststream.transfers.reading import read_stream
from tests.small import model, picture


@dataclass(frozen=True)
class Result:
    code: int
    out: bytes
    err: str

    @property
    def error(self) -> str:
        """The one line an error is."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("robuststream: error: ")
        return lines[0]


Run = Callable[..., Result]


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """run("inspect", path, stdin=b"..."): exit code and both outputs."""

    def call(*argv: object, stdin: bytes = b"") -> Result:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main([str(word) for word in argv])
        out, err = capsysbinary.readouterr()
        return Result(code, out, err.decode())

    return call


@dataclass(frozen=True)
class Files:
    """A photo of 6 tiles, its model and stream, and damaged copies of the stream."""

    folder: Path
    photo: Path
    model: Path
    stream: Path
    lost: Path
    gap: Path
    flipped: Path
    pixels: np.ndarray


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("cli")
    pixels = picture(100, 170)
    data = rs.encode(pixels, model(), tile=64)
    files = Files(
        folder,
        folder / "photo.png",
        folder / "models" / "small.safetensors",
        folder / "photo.robs",
        folder / "lost.robs",
        folder / "gap.robs",
        folder / "flipped.robs",
        pixels,
    )
    files.model.parent.mkdir()
    model().save(files.model)
    Image.fromarray(pixels).save(files.photo)
    files.stream.write_bytes(data)
    files.lost.write_bytes(faults.drop_tiles(data, tiles=[4]))
    files.gap.write_bytes(data + b"more")
    at = read_stream(data).report.tiles[2].offset + 100
    files.flipped.write_bytes(data[:at] + bytes((data[at] ^ 4,)) + data[at + 1 :])
    return files


@pytest.fixture
def files(shared: Files, monkeypatch: pytest.MonkeyPatch) -> Files:
    """With the model in the user's model folder."""
    monkeypatch.setenv("ROBUSTSTREAM_MODELS", str(shared.model.parent))
    return shared
