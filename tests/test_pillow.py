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
    assert not path.exists()


def test_the_incremental_parser(data: bytes) -> None:
    parser = ImageFile.Parser()
    for start in range(0, len(data), 1000):
        parser.feed(data[start : start + 1000])
    np.testing.assert_array_equal(np.asarray(parser.close()), np.asarray(rs.decode(data).image))


class TestSaveOptions:
    small = model("mbt2018-mean-vbr")
    image = Image.fromarray(picture(64, 64))

    def saved(self, **options: object) -> tuple[bytes, list[str]]:
        file = io.BytesIO()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.image.save(file, "ROBS", model=self.small, tile=64, **options)
        return file.getvalue(), [str(warning.message) for warning in caught]

    def coded(self, quality: int | None) -> bytes:
        return rs.encode(self.image, self.small, tile=64, quality=quality)

    def test_unknown_ones_are_ignored(self) -> None:
        assert self.saved(optimize=True, progressive=True, subsampling=0, lossless=False, method=6) == self.saved()

    def test_quality_is_ours(self) -> None:
        assert self.small.qualities > 2
        for quality in (0, 1, self.small.qualities - 1, np.int64(1)):
            assert self.saved(quality=quality) == (self.coded(int(quality)), [])
        for quality in (None, -1):
            assert self.saved(quality=quality) == (self.coded(None), [])

    @pytest.mark.parametrize("quality", [95, 75, 100, 3.5, "web_high", "keep", (1,)])
    def test_pillows_habits_are_the_best_we_have(self, quality: object) -> None:
        data, (said,) = self.saved(quality=quality)
        best = self.small.qualities - 1
        assert data == self.coded(best)
        assert f"quality {quality!r} is not one of the model's" in said
        assert f"0 to {best}" in said

    def test_a_model_of_one_rate(self) -> None:
        file = io.BytesIO()
        with pytest.warns(rs.PictureWarning, match="quality 95") as caught:
            self.image.save(file, "ROBS", model=model(), tile=64, quality=95)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert file.getvalue() == rs.encode(self.image, model(), tile=64)

    def test_other_values_that_are_not_possible(self, tmp_path: Path) -> None:
        for options in ({"tile": 100}, {"mode": "fast"}, {"parity": 9}, {"checkpoints": 99}):
            with pytest.raises(ValueError, match=next(iter(options))):
                self.image.save(tmp_path / "a.robs", model=self.small, **options)
        assert not list(tmp_path.iterdir())

    def test_max_pixels(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="limit of 100"):
            self.image.save(tmp_path / "a.robs", model=self.small, tile=64, max_pixels=100)

    def test_resolution(self) -> None:
        data, _ = self.saved(dpi=(300, 300))
        assert Image.open(io.BytesIO(data)).getexif()[ExifTags.Base.XResolution] == 300
        assert "dpi" not in self.image.info

    def test_no_profile_is_none(self) -> None:
        image = self.image.copy()
        image.info["icc_profile"] = ICC
        image.save(file := io.BytesIO(), "ROBS", model=self.small, tile=64, icc_profile=None)
        assert file.getvalue() == self.coded(None)


class TestVerify:
    def test_an_intact_one(self, data: bytes, tmp_path: Path) -> None:
        (tmp_path / "a.robs").write_bytes(data)
        for source in (tmp_path / "a.robs", io.BytesIO(data)):
            image = Image.open(source)
            image.verify()
            assert image.fp is None
            with pytest.raises(ValueError, match="closed"):
                image.load()

    @pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.99])
    def test_one_wrong_bit(self, data: bytes, place: float) -> None:
        at = int(place * len(data))
        with pytest.raises(OSError, match="damaged: ROBS-"):
            Image.open(io.BytesIO(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])).verify()

    def test_cut_short_and_added_to(self, data: bytes) -> None:
        for hurt in (data[:-1], data + b"x", faults.drop_tiles(data, tiles=[1])):
            with pytest.raises(OSError, match="damaged: ROBS-"):
                Image.open(io.BytesIO(hurt)).verify()

    def test_no_model_and_no_torch_are_needed(self, tmp_path: Path) -> None:
        (tmp_path / "a.robs").write_bytes(rs.encode(picture(64, 64), model(), tile=64))
        code = """
import sys
import robuststream.pillow
from PIL import Image
robuststream.pillow.register()
Image.open(sys.argv[1]).verify()
print("torch" in sys.modules)
"""
        command = [sys.executable, "-c", code, str(tmp_path / "a.robs")]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"

    def test_only_at_once(self, data: bytes) -> None:
        image = Image.open(io.BytesIO(data))
        image.load()
        with pytest.raises(RuntimeError, match="directly after open"):
            image.verify()
