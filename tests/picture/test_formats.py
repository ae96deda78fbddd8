"""Every other reader that Pillow has: what its files say is carried, or named."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, features

from robuststream.container.packets import Colour, Metadata
from robuststream.errors import ImageError
from robuststream.picture.io import read_picture, to_image, write_picture
from tests.picture.files import box, channels, noise, read, saved
from tests.picture.test_io import EXIF, ICC, XMP, facts

PIXELS = noise(6, 8, 3)
IMAGE = Image.fromarray(PIXELS)


@pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow reads no JPEG 2000")
class TestJpeg2000:
    data = b""

    @pytest.fixture(autouse=True)
    def _data(self) -> None:
        self.data = saved(IMAGE, "JPEG2000")

    def with_colour(self, colour: bytes) -> bytes:
        """Another box that says what colours are."""
        start = self.data.index(b"jp2h") - 4
        old = self.data.index(b"colr") - 4
        end = old + int.from_bytes(self.data[old : old + 4], "big")
        size = int.from_bytes(self.data[start : start + 4], "big")
        inside = self.data[start + 8 : old] + box(b"colr", colour) + self.data[end : start + size]
        return self.data[:start] + box(b"jp2h", inside) + self.data[start + size :]

    def with_boxes(self, *boxes: bytes) -> bytes:
        place = self.data.index(b"jp2c") - 4
        return self.data[:place] + b"".join(boxes) + self.data[place:]

    def test_plain(self) -> None:
        picture, said = read(self.data)
        np.testing.assert_array_equal(channels(picture), PIXELS)
        assert (picture.metadata, said) == (Metadata(), [])

    def test_profile(self) -> None:
        picture, said = read(self.with_colour(b"\2\0\0" + ICC))
        np.testing.assert_array_equal(channels(picture), PIXELS)
        assert (picture.metadata.icc, said) == (ICC, [])

    def test_a_colour_space_of_its_own(self) -> None:
        assert "its colour space (ROMM RGB), taken for sRGB" in read(self.with_colour(b"\1\0\0\0\0\0\x15"))[1][0]

    def test_exif_and_xmp(self) -> None:
        exif = box(b"uuid", bytes.fromhex("4a706754696666457869662d3e4a5032") + EXIF)
        xmp = box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + XMP)
        picture, said = read(self.with_boxes(exif, xmp))
        assert (picture.metadata, said) == (Metadata(exif=EXIF, xmp=XMP), [])

    def test_others_are_named(self) -> None:
        _, (said,) = read(self.with_boxes(box(b"uuid", bytes(range(16)) + b"x"), box(b"xml ", b"<a/>")))
        assert "a box of its own kind (000102" in said
        assert "XML" in said


class TestTiff:
    def test_iptc_and_places_on_earth(self, tmp_path: Path) -> None:
        tags = Image.Exif()
        tags[33723] = b"\x1c\x02\x78\0\5words"
        tags[33550] = (0.5, 0.5, 0.0)
        tags[34735] = (1, 1, 0, 1, 1024, 0, 1, 1)
        tags[ExifTags.Base.WhitePoint] = (0.3127, 0.329)
        metadata, said = (found := read(saved(IMAGE, "TIFF", tiffinfo=tags)))[0].metadata, found[1]
        assert said == []
        assert metadata.exif is not None
        exif = Image.Exif()
        exif.load(metadata.exif)
        assert (exif[33723], exif[33550], exif[34735]) == (tags[33723], tags[33550], tags[34735])
        write_picture(to_image(PIXELS, Colour.RGB, metadata), tmp_path / "a.tif")
        with Image.open(tmp_path / "a.tif") as image:
            assert (image.tag_v2[33723], image.tag_v2[33550], image.tag_v2[34735]) == (
                tags[33723],
                tags[33550],
                tags[34735],
            )
            np.testing.assert_array_equal(np.asarray(image), PIXELS)

    def test_without_resolution(self) -> None:
        assert read(saved(IMAGE, "TIFF"))[0].metadata == Metadata()
        image = Image.open(io.BytesIO(saved(IMAGE, "TIFF")))
        assert read(image.copy())[0].metadata == Metadata()

    def test_an_image_already_loaded(self) -> None:
        image = Image.open(io.BytesIO(saved(IMAGE, "TIFF", description="a dog")))
        image.load()
        metadata = read(image)[0].metadata
        assert metadata.exif is not None
        assert b"a dog" in metadata.exif

    def test_other_modes_are_refused(self) -> None:
        for mode in ("CMYK", "LAB"):
            with pytest.raises(ImageError, match=f"colour mode {mode}"):
                read_picture(saved(Image.new(mode, (4, 4)), "TIFF"))


def psd(*resources: tuple[int, bytes], layers: int = 0) -> bytes:
    """A flattened picture; layers are of no pixels."""
    blocks = b""
    for number, data in resources:
        blocks += b"8BIM" + struct.pack(">H", number) + b"\0\0" + struct.pack(">I", len(data)) + data
        blocks += b"\0" * (len(data) & 1)
    layer = struct.pack(">4iH", 0, 0, 1, 1, 3)
    layer += b"".join(struct.pack(">hI", channel, 3) for channel in range(3))
    layer += b"8BIMnorm\xff\0\0\0" + struct.pack(">I", 12) + struct.pack(">II", 0, 0) + b"\1l\0\0"
    info = struct.pack(">h", layers) + layer * layers + b"\0\0x" * (3 * layers)
    info += b"\0" * (len(info) & 1)
    section = struct.pack(">I", len(info)) + info + bytes(4) if layers else b""
    height, width = PIXELS.shape[:2]
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, height, width, 8, 3) + bytes(4)
    body = struct.pack(">H", 0) + PIXELS.transpose(2, 0, 1).tobytes()
    return head + struct.pack(">I", len(blocks)) + blocks + struct.pack(">I", len(section)) + section + body


class TestPhotoshop:
    def test_blocks(self) -> None:
        picture, said = read(psd((1039, ICC), (1058, EXIF), (1060, XMP)))
        np.testing.assert_array_equal(channels(picture), PIXELS)
        assert (picture.metadata, said) == (Metadata(ICC, EXIF, XMP), [])

    def test_the_flattened_picture_of_several_layers(self) -> None:
        picture, (said,) = read(psd((1028, b"words"), layers=2))
        np.testing.assert_array_equal(channels(picture), PIXELS)
        assert "IPTC, 2 layers (what is coded is the flattened picture)" in said


class TestBmp:
    @staticmethod
    def version5(space: bytes, profile: bytes = b"") -> bytes:
        plain = saved(IMAGE, "BMP")
        body = plain[54:]
        head = struct.pack("<I", 124) + plain[18:54] + bytes(16) + space + bytes(124 - 60 - 12)
        head += struct.pack("<II", 124 + len(body), len(profile)) + bytes(4)
        assert len(head) == 124
        size = 14 + 124 + len(body)
        return b"BM" + struct.pack("<IHHI", size + len(profile), 0, 0, 138) + head + body + profile

    def test_profile(self) -> None:
        picture, said = read(self.version5(b"DEBM", ICC))
        np.testing.assert_array_equal(channels(picture), PIXELS)
        assert (picture.metadata.icc, said) == (ICC, [])

    def test_others(self) -> None:
        assert read(self.version5(b"BGRs"))[1] == []
        assert "in another file" in read(self.version5(b"KNIL"))[1][0]


class TestGif:
    def data(self, *extensions: bytes) -> bytes:
        plain = saved(Image.fromarray(PIXELS[:, :, 0]), "GIF")
        place = 13 + (3 << (plain[10] & 7) + 1)
        return b"GIF89a" + plain[6:place] + b"".join(extensions) + plain[place:]

    def test_xmp_and_profile_and_comment(self) -> None:
        trailer = b"\1" + bytes(range(255, -1, -1)) + b"\0"
        for length in range(250, 270):
            packet = XMP.ljust(length)
            xmp = b"\x21\xff\x0bXMP DataXMP" + packet + trailer
            icc = b"\x21\xff\x0bICCRGBG1012"
            icc += b"".join(bytes((len(ICC[at : at + 255]),)) + ICC[at : at + 255] for at in range(0, len(ICC), 255))
            picture, said = read(self.data(xmp, icc + b"\0", b"\x21\xfe\5words\0"))
            assert picture.metadata == Metadata(icc=ICC, xmp=packet)
            assert said == ["the picture: the stream does not carry a comment"]

    def test_plain(self) -> None:
        assert read(self.data())[1] == []

    def test_cut_short(self) -> None:
        from robuststream.picture.gif import said_by_gif

        data = self.data(b"\x21\xfe\5words\0")
        for end in range(len(data)):
            said_by_gif(data[:end])


def test_webp_and_avif_carry_all_three() -> None:
    settings = {"icc_profile": ICC, "exif": b"Exif\0\0" + EXIF, "xmp": XMP}
    for format in [name for name, module in (("WEBP", "webp"), ("AVIF", "avif")) if features.check(module)]:
        metadata = read(saved(IMAGE, format, **settings))[0].metadata
        assert (metadata.icc, metadata.xmp) == (ICC, XMP)
        assert metadata.exif is not None
        assert facts(metadata.exif) == facts(EXIF)


def test_a_file_that_is_known_and_cannot_be_read() -> None:
    with pytest.raises(ImageError, match="HDF5 files are recognised and cannot be read"):
        read_picture(b"\x89HDF\r\n\x1a\n" + bytes(100))
