"""Our limit of pixels counts, Pillow's does not, and nothing of the process is left changed."""

from __future__ import annotations

import io
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from robuststream.errors import ImageError
from robuststream.picture import opening
from robuststream.picture.io import read_picture
from tests.picture.files import channels, jpeg, noise, png, saved

PIXELS = noise(40, 40, 3)
FORMATS = ["PNG", "JPEG", "TIFF", "GIF", "BMP", "MPO"] + ["WEBP"] * features.check("webp")


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would refuse 1600 pixels."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)


@pytest.mark.parametrize("format", FORMATS)
def test_pillows_limit_does_not_count(format: str) -> None:
    data = saved(Image.fromarray(PIXELS), format)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = read_picture(data)
    assert picture.pixels.shape == (3, 40, 40)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("format", FORMATS)
def test_ours_does(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(Image.fromarray(PIXELS), format)
    with pytest.raises(ImageError, match=r"40 x 40 pixels are more than the limit of 1599.*max_pixels|limit of 3198"):
        read_picture(data, max_pixels=1599)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**9)
    with pytest.raises(ImageError, match="40 x 40 pixels are more than the limit of 1599"):
        read_picture(data, max_pixels=1599)
    read_picture(data, max_pixels=1600)


def test_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Image.Image) -> None:
        raise AssertionError("decoded")

    data = jpeg(pixels=PIXELS)
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(ImageError, match="more than the limit"):
        read_picture(data, max_pixels=10)


def test_in_threads() -> None:
    """Those that need Pillow's limit lifted put back what they found, the last one out."""
    data = [saved(Image.fromarray(PIXELS), format) for format in FORMATS]
    start = threading.Barrier(8)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            start.wait()
            for turn in range(20):
                read_picture(data[(number + turn) % len(data)])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert Image.MAX_IMAGE_PIXELS == 100


def test_the_last_one_out_puts_it_back() -> None:
    first, second = opening.pillows_limit_at(1000), opening.pillows_limit_at(500)
    first.__enter__()
    second.__enter__()
    assert Image.MAX_IMAGE_PIXELS == 1000
    first.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS == 500
    second.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_who_dropped_it_meant_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with opening.pillows_limit_at(1000):
        assert Image.MAX_IMAGE_PIXELS is None
    assert Image.MAX_IMAGE_PIXELS is None


def test_paths_and_lazy_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(png(PIXELS))
    np.testing.assert_array_equal(channels(read_picture(tmp_path / "a.png")), PIXELS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    images = [Image.open(io.BytesIO(saved(Image.fromarray(PIXELS), format))) for format in FORMATS]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for image in images:
        read_picture(image)


def test_the_package_reads_what_pillow_reads() -> None:
    """Our way of finding a reader is Pillow's own."""
    Image.MAX_IMAGE_PIXELS = None
    for format in FORMATS:
        data = saved(Image.fromarray(PIXELS), format)
        with opening.opened(data, 10**6) as ours, Image.open(io.BytesIO(data)) as theirs:
            assert type(ours) is type(theirs)
            assert ours.format == theirs.format
