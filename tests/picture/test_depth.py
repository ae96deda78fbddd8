"""More than 8 bits a channel are rounded, and said, whatever reads them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, features

from robuststream.errors import ImageError
from robuststream.picture.io import read_picture
from tests.picture.files import box, channels, chunk, noise, png, read, saved

DEEP = np.random.default_rng(2).integers(0, 65536, (9, 8, 3), dtype=np.uint16)


def rounded(values: np.ndarray, peak: int = 65535) -> np.ndarray:
    return np.rint(values.astype(float) * 255 / peak).astype(np.uint8)


def tiff(
    pixels: np.ndarray, order: str = "<", photometric: int | None = None, planes: int = 1, deflated: bool = False
) -> bytes:
    """A TIFF file of uint16 (H, W) or (H, W, 3)."""
    height, width, count = (*pixels.shape, 1)[:3]
    data = pixels.transpose(2, 0, 1) if planes == 2 else pixels
    body = data.astype(f"{order}u2").tobytes()
    body = zlib.compress(body) if deflated else body
    photometric = (2 if count == 3 else 1) if photometric is None else photometric
    plane = len(body) // count
    starts = [8 + plane * number for number in range(count)] if planes == 2 else [8]
    sizes = [plane] * count if planes == 2 else [len(body)]
    end = 8 + len(body)
    tags = [
        (256, 3, [width]),
        (257, 3, [height]),
        (258, 3, [16] * count),
        (259, 3, [8 if deflated else 1]),
        (262, 3, [photometric]),
    ]
    tags += [(273, 4, starts), (277, 3, [count]), (278, 3, [height]), (279, 4, sizes), (284, 3, [planes])]
    extra, entries = b"", b""
    for tag, kind, values in tags:
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            packed, extra = struct.pack(f"{order}I", end + len(extra)), extra + packed
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, end + len(extra))
    return head + body + extra + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


class TestSixteenBits:
    @pytest.mark.parametrize("lazy", [False, True])
    def test_png_in_colour(self, lazy: bool) -> None:
        data = png(DEEP)
        picture, said = read(Image.open(io.BytesIO(data)) if lazy else data)
        np.testing.assert_array_equal(channels(picture), rounded(DEEP))
        assert said == [f"the {'image' if lazy else 'picture'}: 16 bits a channel become 8"]

    def test_png_in_grey(self) -> None:
        picture, (said,) = read(png(DEEP[:, :, 0]))
        np.testing.assert_array_equal(picture.pixels[1].numpy(), rounded(DEEP[:, :, 0]))
        assert "16 bits" in said

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("channel", [slice(None), 0])
    def test_tiff(self, order: str, channel: Any) -> None:
        picture, (said,) = read(tiff(DEEP[:, :, channel], order))
        expected = rounded(DEEP[:, :, channel])
        np.testing.assert_array_equal(channels(picture), expected if expected.ndim == 3 else np.dstack([expected] * 3))
        assert "16 bits" in said

    def test_tiff_where_zero_is_white(self) -> None:
        picture, _ = read(tiff(DEEP[:, :, 0], photometric=0))
        np.testing.assert_array_equal(picture.pixels[0].numpy(), rounded(65535 - DEEP[:, :, 0]))

    def test_tiff_in_planes_is_refused(self) -> None:
        with pytest.raises(ImageError, match="in separate planes"):
            read_picture(tiff(DEEP, planes=2))

    @pytest.mark.skipif(not features.check("libtiff"), reason="this Pillow has no libtiff")
    def test_compressed_tiff(self) -> None:
        for order in "<>":
            picture, _ = read(tiff(DEEP[:, :, 0], order, deflated=True))
            np.testing.assert_array_equal(picture.pixels[0].numpy(), rounded(DEEP[:, :, 0]))
            picture, (said,) = read(tiff(DEEP, order, deflated=True))
            np.testing.assert_array_equal(channels(picture), rounded(DEEP))
            assert "16 bits" in said

    def test_sgi(self) -> None:
        head = struct.pack(">HBBHHHH", 474, 0, 2, 3, 8, 9, 3).ljust(512, b"\0")
        planes = DEEP[::-1].transpose(2, 0, 1).astype(">u2").tobytes()
        picture, (said,) = read(head + planes)
        np.testing.assert_array_equal(channels(picture), DEEP >> 8)
        assert "16 bits" in said

    def test_measurements_are_refused(self) -> None:
        cards = [
            f"{name:8}= {value:>20}"
            for name, value in (("SIMPLE", "T"), ("BITPIX", 16), ("NAXIS", 2), ("NAXIS1", 4), ("NAXIS2", 3))
        ]
        data = "".join(card.ljust(80) for card in [*cards, "END"]).ljust(2880).encode() + bytes(2880)
        with pytest.raises(ImageError, match="where 65535 is white"):
            read_picture(data)

    @pytest.mark.parametrize("name", [b"DX10"])
    def test_dds_of_floating_point(self, name: bytes) -> None:
        head = struct.pack("<4s7I", b"DDS ", 124, 0x1007, 4, 4, 0, 0, 0).ljust(76, b"\0")
        head += struct.pack("<2I4s5I", 32, 4, name, 0, 0, 0, 0, 0) + struct.pack("<5I", 0x1000, 0, 0, 0, 0)
        head += struct.pack("<5I", 95, 3, 0, 1, 0)
        _, (said,) = read(head + bytes(16))
        assert "16 bits a channel become 8" in said

    def test_interlaced_png(self) -> None:
        """One pixel is its own first pass."""
        one = DEEP[:1, :1]
        data = png(one)
        body = data[16:28] + b"\1"
        picture, _ = read(data[:8] + chunk(b"IHDR", body) + data[33:])
        np.testing.assert_array_equal(channels(picture), rounded(one))

    @pytest.mark.parametrize("dtype", ["<u2", ">u2"])
    def test_images(self, dtype: str) -> None:
        picture, _ = read(Image.fromarray(DEEP[:, :, 0].astype(dtype)))
        np.testing.assert_array_equal(picture.pixels[0].numpy(), rounded(DEEP[:, :, 0]))

    @pytest.mark.parametrize("peak", [255, 1023, 65535, 100])
    def test_ppm(self, peak: int) -> None:
        values = np.random.default_rng(3).integers(0, peak + 1, (5, 4, 3))
        body = values.astype(np.uint8 if peak < 256 else ">u2")
        for kind, pixels in ((b"P6", body), (b"P5", body[:, :, 0])):
            picture, said = read(kind + b" 4 5 %d\n" % peak + pixels.tobytes())
            expected = rounded(values if kind == b"P6" else values[:, :, [0, 0, 0]], peak)
            assert np.abs(channels(picture).astype(int) - expected).max() <= (peak not in (255, 65535))
            assert bool(said) == (peak > 255)


@pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow reads no JPEG 2000")
class TestJpeg2000:
    def test_grey_of_16_bits(self) -> None:
        for settings in ({}, {"no_jp2": True}):
            picture, said = read(saved(Image.fromarray(DEEP[:, :, 0]), "JPEG2000", **settings))
            np.testing.assert_array_equal(picture.pixels[0].numpy(), rounded(DEEP[:, :, 0]))
            assert said == ["the picture: 16 bits a channel become 8"]

    def test_colour_of_more_bits_is_named(self) -> None:
        data = saved(Image.fromarray(noise(9, 8, 3)), "JPEG2000", no_jp2=True)
        # Ssiz of each component says 8 bits, as 7.
        assert data[42:51:3] == b"\7\7\7"
        deep = bytearray(data)
        deep[42:51:3] = b"\x0b\x0b\x0b"
        assert "12 bits" in read(bytes(deep))[1][0]
        assert read(data)[1] == []


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
class TestAvif:
    data = b""

    @pytest.fixture(autouse=True)
    def _data(self) -> None:
        self.data = saved(Image.fromarray(noise(16, 16, 3)), "AVIF", subsampling="4:4:4")

    def test_eight_bits(self) -> None:
        picture, said = read(self.data)
        assert said == []
        assert picture.metadata.icc is None

    def test_more_bits_are_named(self) -> None:
        """The boxes are all that is looked at: libavif gives 8 bits of any number."""
        place = self.data.index(b"av1C") + 6
        for flags, bits in ((0x40, 10), (0x60, 12)):
            changed = bytearray(self.data)
            changed[place] |= flags
            from robuststream.picture.boxes import said_by_heif

            assert said_by_heif(bytes(changed)).bits == bits

    def test_code_points(self) -> None:
        place = self.data.index(b"nclx") + 4
        for points, note in (((12, 13), False), ((9, 16), True), ((1, 13), False)):
            changed = self.data[:place] + struct.pack(">HH", *points) + self.data[place + 4 :]
            picture, said = read(changed)
            assert bool(said) == note
            assert (picture.metadata.icc is None) == (points == (1, 13))


class TestHeifBoxes:
    def test_of_the_primary_item_alone(self) -> None:
        from robuststream.picture.boxes import said_by_heif

        def full(kind: bytes, body: bytes, version: int = 0, flags: int = 0) -> bytes:
            return box(kind, bytes((version, 0, 0, flags)) + body)

        def pixi(bits: int) -> bytes:
            return full(b"pixi", bytes((3, bits, bits, bits)))

        nclx = box(b"colr", b"nclx" + struct.pack(">HHHB", 9, 16, 9, 0x80))
        ipco = box(b"ipco", pixi(8) + pixi(10) + nclx)
        for primary, bits, encoding in ((1, 8, False), (2, 10, True)):
            ipma = full(b"ipma", struct.pack(">IHBBHBBB", 2, 1, 1, 0x81, 2, 2, 0x82, 3))
            pitm = full(b"pitm", struct.pack(">H", primary))
            data = box(b"ftyp", b"avif") + full(b"meta", pitm + box(b"iprp", ipco + ipma))
            said = said_by_heif(data)
            assert (said.bits, said.encoding is not None) == (bits, encoding)
            for end in range(len(data)):
                said_by_heif(data[:end])


class TestAdvice:
    """What messages advise gives the right picture."""

    @staticmethod
    def follow(source: object, **names: object) -> torch.Tensor:
        with pytest.raises(ImageError) as caught:
            read_picture(source)
        message = str(caught.value)
        assert "\n" not in message
        return read_picture(eval(message.rpartition("such as ")[2], {"numpy": np, "Image": Image, **names})).pixels

    def test_floating_point_images(self) -> None:
        values = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
        image = Image.fromarray(values)
        np.testing.assert_array_equal(self.follow(image, image=image)[0].numpy(), rounded(values, 1))

    def test_images_of_32_bits(self) -> None:
        image = Image.fromarray(DEEP[:, :, 0].astype(np.int32))
        np.testing.assert_array_equal(self.follow(image, image=image)[0].numpy(), rounded(DEEP[:, :, 0]))

    def test_cmyk(self) -> None:
        with pytest.raises(ImageError, match="colour mode CMYK"):
            read_picture(Image.new("CMYK", (4, 4)))

    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize(
        ("kind", "white"), [("u2", 65535), ("f4", 1), ("f8", 1), ("i8", 255), ("i4", 255), ("i2", 255), ("b1", 1)]
    )
    def test_arrays(self, kind: str, white: int, order: str) -> None:
        values = np.random.default_rng(4).random((4, 5, 3)) * white
        array = values.round().astype(kind) if white > 1 or kind == "b1" else values.astype(order + kind)
        array = array.astype(array.dtype.newbyteorder(order))
        got = self.follow(array, array=array).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(got, rounded(np.asarray(array, float), white))

    @pytest.mark.parametrize("dtype", [torch.bool, torch.int16, torch.int64])
    def test_tensors(self, dtype: torch.dtype) -> None:
        tensor = torch.randint(0, 2 if dtype == torch.bool else 256, (3, 4, 5)).to(dtype)
        expected = tensor.to(torch.uint8) * (255 if dtype == torch.bool else 1)
        assert torch.equal(self.follow(tensor, tensor=tensor, torch=torch), expected)
