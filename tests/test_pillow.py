"""Pillow opens and saves streams. What the library itself decodes and encodes is the oracle."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

import robuststream as rs
import robuststream.pillow
from robuststream import faults
from robuststream.container.layout import SYNC, build_packet
from robuststream.container.packets import Kind
from tests.picture.test_io import EXIF, ICC, XMP
from tests.small import model, picture

BLOCKS = {"icc_profile": ICC, "exif": b"Exif\0\0" + EXIF, "xmp": XMP}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Registered for one test, twice."""
    Image.init()  # else what a test makes Pillow load would be taken away again, and not be loaded a second time
    before = [dict(part) if isinstance(part, dict) else list(part) for part in _registries()]
    robuststream.pillow.register()
    robuststream.pillow.register()
    yield
    for part, kept in zip(_registries(), before, strict=True):
        part.clear()
        part.update(kept) if isinstance(part, dict) else part.extend(kept)


def _registries() -> list:
    return [Image.ID, Image.OPEN, Image.SAVE, Image.EXTENSION, Image.MIME]


@pytest.fixture(scope="module")
def data() -> bytes:
    """A small picture with metadata, of the bundled model, which is found by the stream's digest."""
    image = Image.fromarray(picture(100, 150))
    image.info.update(BLOCKS)
    return rs.encode(image, tile=64)


def test_a_stream_is_a_picture(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.robs"
    path.write_bytes(data)
    with Image.open(path) as image:
        assert (image.format, image.size, image.mode) == ("ROBS", (150, 100), "RGB")
        assert image.get_format_mimetype() == "image/vnd.robuststream"
        assert image.info == BLOCKS
        assert image.getexif()[ExifTags.Base.Make] == "Maker"
        np.testing.assert_array_equal(np.asarray(image), np.asarray(rs.decode(data).image))
        assert image.fp is None
        image.convert("L").resize((10, 10))
    # The name does not matter.
    with Image.open(io.BytesIO(data)) as image:
        assert image.getpixel((3, 3)) == rs.decode(data).image.getpixel((3, 3))


def test_opening_imports_no_torch(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.robs").write_bytes(data)
    code = """
import sys
import robuststream.pillow
from PIL import Image
robuststream.pillow.register()
image = Image.open(sys.argv[1])
print(image.size, image.mode, *image.info, "torch" in sys.modules)
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "a.robs")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == "(150, 100) RGB icc_profile exif xmp False\n"


def test_nothing_happens_without_register() -> None:
    code = "import robuststream.pillow; from PIL import Image; Image.init(); print('.robs' in Image.EXTENSION)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "False\n"


def test_a_damaged_stream_is_a_picture_and_a_warning(data: bytes) -> None:
    hurt = faults.drop_tiles(data, tiles=[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = Image.open(io.BytesIO(hurt))
    with pytest.warns(rs.DamageWarning, match="1 of 6 tiles"):
        image.load()
    with pytest.warns(rs.DamageWarning):
        np.testing.assert_array_equal(np.asarray(image), np.asarray(rs.decode(hurt).image))


def test_a_damaged_header(data: bytes) -> None:
    """Only the first bytes have to be there."""
    hurt = data[:6] + bytes(30) + data[36:]
    image = Image.open(io.BytesIO(hurt))
    assert image.size == (150, 100)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(rs.decode(data).image))


def test_what_is_no_stream() -> None:
    with pytest.raises(UnidentifiedImageError, match="cannot identify"):
        Image.open(io.BytesIO(SYNC + b"and then nothing of the kind"))
    unit = build_packet(Kind.UNIT, b"1234", 0, b"")
    with pytest.raises(UnidentifiedImageError, match="packed CompressAI unit"):
        Image.open(io.BytesIO(unit))


def test_no_model() -> None:
    image = Image.open(io.BytesIO(rs.encode(picture(64, 64), model(), tile=64)))
    with pytest.raises(OSError, match="no installed model has the digest"):
        image.load()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_limits_are_pillows(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(robuststream.pillow, "MAX_PIXELS", 100)
    assert np.asarray(Image.open(io.BytesIO(data))).shape == (100, 150, 3)


def test_saving(tmp_path: Path) -> None:
    small, path = model(), tmp_path / "b.robs"
    image = Image.fromarray(picture(100, 150))
    image.info["xmp"] = XMP
    image.save(path, model=small, tile=64, checkpoints=1)
    assert path.read_bytes() == rs.encode(image, small, tile=64, checkpoints=1)
    image.save(path, model=small)
    assert rs.inspect(path).header.tile == 256
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Other"
    image.save(path, model=small, icc_profile=ICC, exif=exif)
    with Image.open(path) as opened:
        assert opened.info["icc_profile"] == ICC
        assert opened.info["xmp"] == XMP
        assert opened.getexif()[ExifTags.Base.Make] == "Other"
    assert list(image.info) == ["xmp"]
    image.convert("L").save(path, model=small)
    with Image.open(path) as opened:
        assert opened.mode == "L"
    file = io.BytesIO()
    image.save(file, "ROBS", model=small)
    assert file.getvalue() == rs.encode(image, small)


def test_what_cannot_be_saved_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "c.robs"
    with pytest.raises(OSError, match="transparency"):
        Image.new("RGBA", (20, 20)).save(path)
    with pytest.raises(TypeError, match="optimise"):
        Image.new("RGB", (20, 20)).save(path, optimise=True)
    assert not path.exists()


def test_the_incremental_parser(data: bytes) -> None:
    parser = ImageFile.Parser()
    for start in range(0, len(data), 1000):
        parser.feed(data[start : start + 1000])
    np.testing.assert_array_equal(np.asarray(parser.close()), np.asarray(rs.decode(data).image))
