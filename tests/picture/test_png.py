"""What PNG says beside its pixels: carried, made a profile of, or named. littleCMS reads the profiles."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from robuststream.container.packets import Colour, Metadata
from robuststream.errors import PictureWarning
from robuststream.picture.io import to_image, write_picture
from tests.picture.files import channels, chunk, iccp, noise, png, read, saved
from tests.picture.test_io import EXIF, ICC, XMP, facts

PIXELS = noise(6, 5, 3)
P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)


def gama(gamma: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(gamma * 100000)))


def chrm(*points: float) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *(round(value * 100000) for value in points)))


def cicp(*values: int) -> bytes:
    return chunk(b"cICP", bytes(values))


def itxt(keyword: bytes, text: bytes, compressed: bool) -> bytes:
    return chunk(
        b"iTXt", keyword + b"\0" + bytes((compressed, 0, 0, 0)) + (zlib.compress(text) if compressed else text)
    )


def to_srgb(profile: bytes, colour: tuple[int, int, int]) -> tuple[int, int, int]:
    image = Image.new("RGB", (1, 1), colour)
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB")).getpixel((0, 0))


class TestColour:
    def test_a_linear_picture_gets_a_profile_that_says_so(self) -> None:
        picture, said = read(png(PIXELS, gama(1.0)))
        assert said == []
        np.testing.assert_array_equal(channels(picture), PIXELS)
        assert picture.metadata.icc is not None
        # Half the light is 188 in sRGB.
        assert to_srgb(picture.metadata.icc, (128, 128, 128)) == pytest.approx((188, 188, 188), abs=1)

    def test_other_primaries(self) -> None:
        icc = read(png(PIXELS, gama(0.45455), chrm(*P3)))[0].metadata.icc
        assert icc is not None
        red, green, _ = to_srgb(icc, (200, 100, 100))
        assert red > 205
        assert green < 97
        by_code = read(png(PIXELS, cicp(12, 13, 0, 1)))[0].metadata.icc
        assert by_code is not None
        assert to_srgb(by_code, (200, 100, 100)) == pytest.approx(to_srgb(icc, (200, 100, 100)), abs=2)

    @pytest.mark.parametrize(
        "chunks",
        [
            [],
            [gama(0.45455)],
            [gama(0.45455), chrm(0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)],
            [gama(1.0), chunk(b"sRGB", b"\0")],
            [gama(0)],
            [chrm(0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3)],
            [chrm(0.3, 0, 0, 0, 0, 0, 0, 0)],
            [cicp(1, 13, 0, 1)],
            [cicp(2, 2, 0, 1)],
        ],
    )
    def test_srgb_and_nonsense_need_none(self, chunks: list[bytes]) -> None:
        picture, said = read(png(PIXELS, *chunks))
        assert (picture.metadata, said) == (Metadata(), [])

    def test_a_profile_is_worth_more(self) -> None:
        for extra in (gama(1.0), cicp(12, 13, 0, 1)):
            assert read(png(PIXELS, extra, iccp(ICC)))[0].metadata.icc == ICC

    @pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
    def test_high_dynamic_range_is_named(self, transfer: int, name: str) -> None:
        picture, (said,) = read(png(PIXELS, cicp(9, transfer, 0, 1)))
        assert f"only 8 bits of its high dynamic range ({name})" in said
        assert picture.metadata.icc is not None
        assert bytes((9, transfer, 0, 1)) == picture.metadata.icc[picture.metadata.icc.rindex(b"cicp") + 8 :][:4]
        dark, light = (to_srgb(picture.metadata.icc, (value,) * 3)[0] for value in (60, 250))
        assert dark < light

    def test_unknown_code_points_are_named(self) -> None:
        assert "cICP (colour primaries 99" in read(png(PIXELS, cicp(99, 13, 0, 1)))[1][0]
        assert "narrow range" in read(png(PIXELS, cicp(1, 13, 0, 0)))[1][0]

    def test_grey(self) -> None:
        picture, said = read(png(PIXELS[:, :, 0], gama(1.0)))
        assert (picture.colour, said) == (Colour.GREY, [])
        assert picture.metadata.icc is not None
        profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.metadata.icc)).profile
        assert profile.xcolor_space.strip() == "GRAY"

    def test_an_image_that_pillow_has_loaded(self) -> None:
        image = Image.open(io.BytesIO(png(PIXELS, gama(1.0))))
        image.load()
        assert read(image)[0].metadata.icc == read(png(PIXELS, gama(1.0)))[0].metadata.icc

    def test_an_image_that_it_has_not(self) -> None:
        image = Image.open(io.BytesIO(png(PIXELS, cicp(12, 13, 0, 1))))
        picture, _ = read(image)
        assert picture.metadata.icc is not None
        np.testing.assert_array_equal(channels(picture), PIXELS)
        np.testing.assert_array_equal(np.asarray(image), PIXELS)

    def test_a_profile_of_other_colours_is_not_carried(self) -> None:
        cmyk = ICC[:16] + b"CMYK" + ICC[20:]
        image = Image.fromarray(PIXELS)
        image.info["icc_profile"] = cmyk
        picture, (said,) = read(image)
        assert picture.metadata.icc is None
        assert "ICC profile, which is for CMYK" in said


class TestLargeBlocks:
    large = ICC[:128] + noise(3 << 20).tobytes()

    def test_a_profile_above_pillows_limit(self) -> None:
        data = png(PIXELS, iccp(self.large))
        with pytest.raises(ValueError, match="MAX_TEXT_CHUNK"):
            Image.open(io.BytesIO(data))
        picture, said = read(data)
        assert (picture.metadata.icc, said) == (self.large, [])
        np.testing.assert_array_equal(channels(picture), PIXELS)

    def test_text_and_xmp_above_it(self) -> None:
        xmp = XMP + b" " * (3 << 20)
        text = chunk(b"zTXt", b"story\0\0" + zlib.compress(bytes(3 << 20)))
        for before in (True, False):
            blocks = (itxt(b"XML:com.adobe.xmp", xmp, compressed=True), text)
            data = png(PIXELS, *blocks) if before else png(PIXELS, after=blocks)
            picture, (said,) = read(data)
            assert picture.metadata.xmp == xmp
            assert said.endswith("the stream does not carry text (story)")

    def test_what_is_written_opens_by_default(self) -> None:
        file = io.BytesIO()
        with pytest.warns(PictureWarning, match=r"PNG without ICC profile of \d+ bytes, where 1048576") as caught:
            write_picture(to_image(PIXELS, Colour.RGB, Metadata(icc=self.large, exif=EXIF, xmp=XMP)), file)
        assert len(caught) == 1
        with Image.open(file) as image:
            np.testing.assert_array_equal(np.asarray(image), PIXELS)
            assert "icc_profile" not in image.info
            assert image.info["xmp"] == XMP
            assert facts(image.info["exif"]) == facts(EXIF)
        exactly = self.large[: 1 << 20]
        write_picture(to_image(PIXELS, Colour.RGB, Metadata(icc=exactly)), file := io.BytesIO())
        assert Image.open(file).info["icc_profile"] == exactly

    def test_a_bomb(self) -> None:
        picture, (said,) = read(png(PIXELS, iccp(bytes((1 << 26) + 1))))
        assert picture.metadata.icc is None
        assert "ICC profile of more than 64 MiB" in said

    def test_damaged_ones_are_named(self) -> None:
        broken = zlib.compress(ICC)
        for body in (broken[:-9], b"\0" + broken, b""):
            picture, (said,) = read(png(PIXELS, chunk(b"iCCP", b"name\0\0" + body)))
            assert picture.metadata.icc is None
            assert "a damaged ICC profile" in said

    def test_a_wrong_checksum(self) -> None:
        good = iccp(ICC)
        picture, (said,) = read(png(PIXELS, good[:-1] + bytes((good[-1] ^ 1,))))
        np.testing.assert_array_equal(channels(picture), PIXELS)
        assert (picture.metadata.icc, "a damaged chunk (iCCP)" in said) == (None, True)


class TestText:
    def test_text_is_named(self) -> None:
        text = (chunk(b"tEXt", b"Author\0somebody"), chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"words")))
        _, said = read(png(PIXELS, *text, after=(itxt(b"Title", b"a title", compressed=False),)))
        assert said == ["the picture: the stream does not carry text (Author, Comment, Title)"]

    def test_the_program_that_wrote_it_is_not(self) -> None:
        text = (chunk(b"tEXt", b"Software\0one"), chunk(b"tEXt", b"date:create\x002026"))
        assert read(png(PIXELS, *text))[1] == []

    def test_xmp_both_ways(self) -> None:
        for compressed in (False, True):
            block = itxt(b"XML:com.adobe.xmp", XMP, compressed)
            for data in (png(PIXELS, block), png(PIXELS, after=(block,))):
                picture, said = read(data)
                assert (picture.metadata.xmp, said) == (XMP, [])

    def test_blocks_that_imagemagick_keeps_in_text(self) -> None:
        def raw(kind: bytes, block: bytes) -> bytes:
            text = b"\n%s\n%8d\n" % (kind, len(block)) + block.hex().encode()
            return chunk(b"zTXt", b"Raw profile type " + kind + b"\0\0" + zlib.compress(text))

        picture, said = read(png(PIXELS, raw(b"exif", b"Exif\0\0" + EXIF), raw(b"xmp", XMP), raw(b"icc", ICC)))
        assert (picture.metadata, said) == (Metadata(ICC, EXIF, XMP), [])
        assert "IPTC" in read(png(PIXELS, raw(b"iptc", b"words")))[1][0]

    def test_exif_behind_the_pixels(self) -> None:
        assert read(png(PIXELS, after=(chunk(b"eXIf", EXIF),)))[0].metadata.exif == EXIF


class TestResolution:
    def test_it_becomes_exif(self) -> None:
        picture, said = read(saved(Image.fromarray(PIXELS), "PNG", dpi=(300, 150)))
        assert said == []
        exif = Image.Exif()
        exif.load(picture.metadata.exif)
        assert [float(exif[tag]) for tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution)] == [300, 150]
        assert exif[ExifTags.Base.ResolutionUnit] == 2
        for format in ("PNG", "JPEG", "TIFF"):
            file = io.BytesIO()
            write_picture(to_image(PIXELS, Colour.RGB, picture.metadata), file, format)
            assert Image.open(file).info["dpi"] == pytest.approx((300, 150), abs=0.02)

    def test_a_block_that_is_there_stays_as_it_is(self) -> None:
        picture, (said,) = read(saved(Image.fromarray(PIXELS), "PNG", dpi=(300, 300), exif=EXIF))
        assert picture.metadata.exif == EXIF
        assert "its resolution" in said

    def test_square_pixels_say_nothing(self) -> None:
        assert read(png(PIXELS, chunk(b"pHYs", struct.pack(">IIB", 1, 1, 0))))[0].metadata.exif is None
        assert read(png(PIXELS, chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0))))[0].metadata.exif is not None
