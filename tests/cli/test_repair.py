"""`repair`, and `encode --parity`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import robuststream as rs
from robuststream import faults
from tests.cli.conftest import Files, Run
from tests.small import model


@pytest.fixture(scope="module")
def whole(shared: Files) -> bytes:
    return rs.encode(shared.photo, model(), tile=64, parity=0.3)


@pytest.fixture
def hurt(whole: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "hurt.robs"
    start = rs.inspect(whole).tiles[2].offset + 40
    path.write_bytes(whole[:start] + bytes(150) + whole[start + 150 :])
    return path


def test_encode_with_parity(whole: bytes, run: Run, files: Files, tmp_path: Path) -> None:
    options = ("--tile", 64, "--parity", 0.3, "--model", files.model)
    assert run("encode", files.photo, tmp_path / "out.robs", *options).code == 0
    assert (tmp_path / "out.robs").read_bytes() == whole
    assert run("verify", tmp_path / "out.robs", "--decode").code == 0


def test_byte_for_byte(whole: bytes, hurt: Path, run: Run, tmp_path: Path) -> None:
    result = run("repair", hurt, tmp_path / "out.robs")
    assert result.code == 0
    assert (
        result.err
        == f"robuststream: info: {tmp_path}/out.robs: whole, byte for byte what was written ({len(whole)} bytes)\n"
    )
    assert (tmp_path / "out.robs").read_bytes() == whole
    piped = run("repair", "-", "-", stdin=hurt.read_bytes())
    assert piped.out == whole


def test_decoding_repairs_by_itself(whole: bytes, hurt: Path, run: Run, files: Files, tmp_path: Path) -> None:
    result = run("decode", hurt, tmp_path / "out.png", "--mask", tmp_path / "mask.png")
    assert result.code == 2
    assert "damaged, but all tiles are exact" in result.err
    decoded, undamaged = rs.decode(hurt, model()), rs.decode(whole, model())
    assert (decoded.latents == undamaged.latents).all()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), np.asarray(undamaged.image))
    assert set(np.unique(np.asarray(Image.open(tmp_path / "mask.png")))) == {0, 1}
    assert decoded.report.verified
    assert not decoded.report.exact
    assert not decoded.report.intact
    with pytest.raises(rs.DamagedStream):
        rs.decode(hurt, model(), strict=True)


def test_not_enough(whole: bytes, run: Run, files: Files, tmp_path: Path) -> None:
    (tmp_path / "lost.robs").write_bytes(faults.drop_tiles(whole, tiles=[0, 1, 3, 4]))
    result = run("repair", tmp_path / "lost.robs", tmp_path / "out.robs")
    assert result.code == 2
    assert "not whole, missing are TILE 0, TILE 1, TILE 3, TILE 4; " in result.err
    assert "more repair symbols needed" in result.err
    assert set(rs.inspect(tmp_path / "out.robs").packets) == {"HEADER", "INDEX", "TILE", "PARITY"}


def test_copies_are_merged(run: Run, files: Files, tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.robs")
        paths[-1].write_bytes(faults.drop_tiles(files.stream.read_bytes(), tiles=[number, number + 1]))
    assert run("repair", *paths, "-o", tmp_path / "out.robs").code == 0
    assert (tmp_path / "out.robs").read_bytes() == files.stream.read_bytes()


def test_usage(hurt: Path, run: Run, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "many copies and -o OUT" in run("repair", hurt).error
    # Whoever forgets -o must not be told to overwrite a copy.
    assert "exists already: if it is another copy, give -o OUT" in run("repair", hurt, files.stream).error
    assert "no robuststream packet" in run("repair", files.photo, tmp_path / "out.robs").error
    assert "--parity 5.0 is not between" in run("encode", files.photo, tmp_path / "out.robs", "--parity", 5).error
    monkeypatch.setitem(sys.modules, "raptorq", None)
    for command in (("repair", hurt), ("encode", files.photo, "--parity", 0.1)):
        result = run(command[0], command[1], tmp_path / "out.robs", *command[2:])
        assert result.code == 1
        assert "pip install 'robuststream[parity]'" in result.error
    assert not (tmp_path / "out.robs").exists()


def test_another_stream_that_is_left_out_is_told(whole: bytes, run: Run, tmp_path: Path) -> None:
    other = rs.encode(np.zeros((64, 64, 3), np.uint8), model(), tile=64)
    (tmp_path / "in.robs").write_bytes(whole + other)
    result = run("repair", tmp_path / "in.robs", tmp_path / "out.robs")
    assert result.code == 0
    assert f"stream {rs.inspect(other).stream_id}, which stands in an input as well, is not in it" in result.err
