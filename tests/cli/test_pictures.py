"""What a picture says beside its pixels, through the commands: carried, or one line that names it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import robuststream as rs
from tests.cli.conftest import Files, Run
from tests.picture.files import chunk, iccp, jpeg, noise, png
from tests.picture.test_io import ICC
from tests.picture.test_jpeg import EXTENSION, STANDARD, extension, properties, xmp
from tests.small import picture

PIXELS = picture(64, 70)


def lines(text: str) -> list[str]:
    said = text.splitlines()
    assert all(line.startswith("robuststream: warning: ") for line in said)
    return [line.removeprefix("robuststream: warning: ") for line in said]


def test_more_bits_are_one_line_and_exit_0(run: Run, files: Files, tmp_path: Path) -> None:
    deep = (PIXELS.astype(np.uint16) << 8) + 200
    (tmp_path / "a.png").write_bytes(png(deep, chunk(b"tEXt", b"Author\0somebody")))
    done = run("encode", tmp_path / "a.png", tmp_path / "a.robs", "--tile", 64, "--model", files.model)
    assert done.code == 0
    note = "16 bits a channel become 8; the stream does not carry text (Author)"
    assert lines(done.err) == [f"{tmp_path / 'a.png'}: {note}"]
    nearest = np.rint(deep.astype(float) * 255 / 65535).astype(np.uint8)
    assert (tmp_path / "a.robs").read_bytes() == rs.encode(nearest, rs.load_model(files.model), tile=64)


def test_a_large_profile(run: Run, files: Files, tmp_path: Path) -> None:
    large = ICC[:128] + noise(2 << 20).tobytes()
    (tmp_path / "a.png").write_bytes(png(PIXELS, iccp(large)))
    done = run("encode", tmp_path / "a.png", tmp_path / "a.robs", "--tile", 64, "--model", files.model)
    assert (done.code, done.err) == (0, "")
    done = run("decode", tmp_path / "a.robs", tmp_path / "b.png")
    assert done.code == 0
    (said,) = lines(done.err)
    assert said.startswith(f"{tmp_path / 'b.png'}: written as PNG without ICC profile of {len(large)} bytes")
    assert Image.open(tmp_path / "b.png").size == (70, 64)
    for suffix in ("webp", "tif", "jpg"):
        done = run("decode", tmp_path / "a.robs", tmp_path / f"b.{suffix}")
        assert (done.code, done.err) == (0, "")
        assert Image.open(tmp_path / f"b.{suffix}").info["icc_profile"] == large


def test_extended_xmp_there_and_back(run: Run, files: Files, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(xmp(STANDARD), *extension(), pixels=PIXELS))
    done = run("encode", tmp_path / "a.jpg", tmp_path / "a.robs", "--tile", 64, "--model", files.model)
    assert (done.code, done.err) == (0, "")
    assert run("decode", tmp_path / "a.robs", tmp_path / "b.jpg").err == ""
    assert run("encode", tmp_path / "b.jpg", tmp_path / "b.robs", "--tile", 64, "--model", files.model).err == ""
    blocks = []
    for name in ("a.robs", "b.robs"):
        with rs.open(tmp_path / name) as stream:
            assert stream.metadata.xmp is not None
            blocks.append(properties(stream.metadata.xmp))
    assert blocks[0] == blocks[1]
    assert properties(EXTENSION).items() <= blocks[0].items()


def test_our_limit_of_pixels_counts_in_place_of_pillows(
    run: Run, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = png(PIXELS)
    (tmp_path / "a.png").write_bytes(data)
    settings = ("--tile", 64, "--model", files.model)
    for source in (tmp_path / "a.png", "-"):
        done = run("encode", source, tmp_path / "x.robs", "--force", *settings, stdin=data)
        assert (done.code, done.err) == (0, "")
        done = run("encode", source, "-", "--max-pixels", 1000, *settings, stdin=data)
        assert done.code == 1
        assert "70 x 64 pixels are more than the limit of 1000" in done.error
        assert Image.MAX_IMAGE_PIXELS == 100


def test_advice_in_one_line(run: Run, files: Files, tmp_path: Path) -> None:
    for image, word in ((Image.new("CMYK", (4, 4)), "CMYK"), (Image.new("F", (4, 4)), "floating point")):
        image.save(tmp_path / "a.tif")
        done = run("encode", tmp_path / "a.tif", tmp_path / "a.robs")
        assert done.code == 1
        assert done.error.startswith(f"robuststream: error: {tmp_path / 'a.tif'}: ")
        assert word in done.error


def test_the_writers_of_a_profile_do_not_touch_the_image() -> None:
    from robuststream.picture.io import write_picture

    image = Image.fromarray(PIXELS)
    image.info["icc_profile"] = ICC
    write_picture(image, io.BytesIO())
    assert image.info["icc_profile"] == ICC
