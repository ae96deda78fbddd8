"""Pictures in and out. Pillow's own readers and writers, called directly, are the oracle."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, features

from robuststream.container.packets import Colour, Metadata
from robuststream.errors import ImageError, PictureWarning
from robuststream.picture.io import read_picture, to_image, write_picture

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><!-- Zürich --></x:xmpmeta>'.encode()
FORMATS = [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp"), ("TIFF", ".tif")]
ORIENTED = 6


def exif_block() -> bytes:
    """With strings, a rational, an orientation, and two directories of its own."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.Orientation] = ORIENTED
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.FNumber: 2.8, ExifTags.Base.LensModel: "50 mm"}
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    return exif.tobytes().removeprefix(b"Exif\0\0")


EXIF = exif_block()


def facts(block: bytes) -> dict[str, object]:
    """What an EXIF block says, however it is laid out."""
    exif = Image.Exif()
    exif.load(block)
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    return {
        "make": exif.get(ExifTags.Base.Make),
        "number": float(inner[ExifTags.Base.FNumber]),
        "lens": inner[ExifTags.Base.LensModel],
        "gps": exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef],
    }


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def saved(image: Image.Image, format: str, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **settings)
    return file.getvalue()


def channels(picture: torch.Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).numpy()


class TestSources:
    rgb = noise(5, 7, 3)

    @pytest.mark.parametrize("kind", ["path", "text path", "bytes", "memoryview", "file", "image", "array", "tensor"])
    def test_all_give_the_same_picture(self, kind: str, tmp_path: Path) -> None:
        data = saved(Image.fromarray(self.rgb), "PNG")
        path = tmp_path / "a.png"
        path.write_bytes(data)
        source = {
            "path": path,
            "text path": str(path),
            "bytes": data,
            "memoryview": memoryview(data),
            "file": io.BytesIO(data),
            "image": Image.fromarray(self.rgb),
            "array": self.rgb,
            "tensor": torch.from_numpy(self.rgb).permute(2, 0, 1),
        }[kind]
        picture = read_picture(source)
        assert picture.pixels.dtype == torch.uint8
        assert picture.pixels.shape == (3, 5, 7)
        np.testing.assert_array_equal(channels(picture.pixels), self.rgb)
        assert picture.colour == Colour.RGB

    def test_a_float_tensor_stays_float(self) -> None:
        tensor = torch.rand(3, 4, 6, dtype=torch.float64, requires_grad=True)
        pixels = read_picture(tensor).pixels
        assert pixels.dtype == torch.float32
        assert not pixels.requires_grad
        torch.testing.assert_close(pixels, tensor.detach().float())

    def test_a_picture_does_not_follow_its_array(self) -> None:
        array = self.rgb.copy()
        picture = read_picture(array)
        array[:] = 0
        np.testing.assert_array_equal(channels(picture.pixels), self.rgb)

    def test_strided_and_read_only_arrays(self) -> None:
        wide = noise(10, 14, 3)
        wide.flags.writeable = False
        np.testing.assert_array_equal(channels(read_picture(wide[::-2, ::2]).pixels), wide[::-2, ::2])

    def test_one_pixel(self) -> None:
        assert read_picture(noise(1, 1, 3)).pixels.shape == (3, 1, 1)

    @pytest.mark.parametrize("mode", ["L", "1"])
    def test_grey(self, mode: str) -> None:
        image = Image.fromarray(noise(5, 7)).convert(mode)
        picture = read_picture(image)
        assert picture.colour == Colour.GREY
        for channel in picture.pixels:
            np.testing.assert_array_equal(channel.numpy(), np.asarray(image.convert("L")))

    def test_grey_array(self) -> None:
        grey = noise(5, 7)
        picture = read_picture(grey)
        assert picture.colour == Colour.GREY
        np.testing.assert_array_equal(channels(picture.pixels), np.dstack([grey] * 3))

    def test_palette(self) -> None:
        image = Image.fromarray(self.rgb).quantize(8)
        picture = read_picture(saved(image, "PNG"))
        assert picture.colour == Colour.RGB
        np.testing.assert_array_equal(channels(picture.pixels), np.asarray(image.convert("RGB")))

    def test_ycbcr(self) -> None:
        image = Image.fromarray(self.rgb).convert("YCbCr")
        np.testing.assert_array_equal(channels(read_picture(image).pixels), np.asarray(image.convert("RGB")))

    def test_a_phone_photograph_with_a_second_picture_behind_it(self) -> None:
        first = Image.new("RGB", (16, 16), "red")
        data = saved(first, "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16), "blue")])
        assert Image.open(io.BytesIO(data)).n_frames == 2
        with pytest.warns(PictureWarning):
            picture = read_picture(data)
        assert tuple(picture.pixels[:, 0, 0].tolist()) == Image.open(io.BytesIO(data)).getpixel((0, 0))


def refused(source: object) -> str:
    with pytest.raises(ImageError) as caught:
        read_picture(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestRefused:
    @pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
    def test_alpha(self, mode: str) -> None:
        assert "flatten it first" in refused(Image.new(mode, (4, 4)))

    @pytest.mark.parametrize(("mode", "key"), [("P", 0), ("L", 3), ("RGB", (1, 2, 3))])
    def test_a_transparent_colour(self, mode: str, key: object) -> None:
        assert "flatten it first" in refused(saved(Image.new(mode, (4, 4)), "PNG", transparency=key))

    def test_the_remedy_for_alpha_works(self) -> None:
        image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
        flat = eval(refused(image).split("such as ")[1], {"Image": Image, "image": image})
        assert read_picture(flat).pixels.min() == 255

    @pytest.mark.parametrize("mode", ["I", "F"])
    def test_whose_white_is_not_known(self, mode: str) -> None:
        assert "8 bits a channel are coded" in refused(Image.new(mode, (4, 4)))

    @pytest.mark.parametrize("mode", ["CMYK", "LAB", "HSV"])
    def test_other_colours(self, mode: str) -> None:
        message = refused(Image.new(mode, (4, 4)))
        assert mode in message
        assert "convert it to RGB" in message

    @pytest.mark.parametrize("format", ["GIF", "TIFF", "PNG", "WEBP"] + ["AVIF"] * features.check("avif"))
    def test_several_frames(self, format: str) -> None:
        frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
        data = saved(frames[0], format, save_all=True, append_images=frames[1:])
        message = refused(data)
        assert "2 frames" in message
        image = Image.open(io.BytesIO(data))
        image.seek(1)
        scope: dict[str, object] = {"image": image}
        exec(message.split("such as ")[1].replace("image.copy()", "first = image.copy()"), scope)
        red, green, blue = read_picture(scope["first"]).pixels[:, 0, 0].tolist()
        assert (red > 250, green < 5, blue < 5) == (True, True, True)

    @pytest.mark.parametrize(
        "source",
        [
            Image.new("RGB", (0, 4)),
            np.zeros((0, 4, 3), np.uint8),
            np.zeros((4, 0), np.uint8),
            torch.zeros(3, 0, 4),
            torch.zeros(3, 4, 0, dtype=torch.uint8),
        ],
    )
    def test_empty(self, source: object) -> None:
        assert "are no picture" in refused(source)

    @pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf")])
    def test_float_values(self, value: float) -> None:
        tensor = torch.full((3, 4, 4), 0.5)
        tensor[1, 2, 3] = value
        assert "[0, 1]" in refused(tensor)

    @pytest.mark.parametrize(
        "source",
        [
            torch.zeros(1, 3, 4, 4),
            torch.zeros(4, 4, 3),
            torch.zeros(3, 4, 4, dtype=torch.int64),
            np.zeros((4, 4, 4), np.uint8),
            np.zeros((3, 4, 4), np.uint8),
            np.zeros((4, 4, 3), np.uint16),
            np.zeros((4, 4, 3), np.float32),
            np.zeros(4, np.uint8),
            7,
        ],
    )
    def test_other_arrays(self, source: object) -> None:
        refused(source)

    def test_a_text_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"words")
        with open(tmp_path / "a.png") as file:
            assert "open it with mode 'rb'" in refused(file)

    def test_no_path(self) -> None:
        assert "is no path" in refused("a\0b")

    def test_a_missing_file(self, tmp_path: Path) -> None:
        path = tmp_path / "nothing.png"
        assert refused(path).startswith(f"{path}: ")

    @pytest.mark.parametrize("content", [b"", b"words", bytes(1000)])
    def test_not_a_picture(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "words.png"
        path.write_bytes(content)
        assert refused(path).startswith(f"{path}: not a picture")

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
    def test_every_truncation(self, format: str) -> None:
        data = saved(Image.fromarray(noise(40, 40, 3)), format)
        read_picture(data)
        for length in range(0, len(data) - 40, 97):
            refused(data[:length])


class TestMetadata:
    image = Image.fromarray(noise(8, 12, 3))

    @pytest.mark.parametrize(("format", "suffix"), FORMATS)
    def test_read(self, format: str, suffix: str) -> None:
        settings: dict[str, object] = {"icc_profile": ICC, "exif": b"Exif\0\0" + EXIF, "xmp": XMP}
        if format == "PNG":
            settings["pnginfo"] = info = PngImagePlugin.PngInfo()
            info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        if format == "TIFF":
            tags = Image.Exif()
            tags.load(EXIF)
            tags[700] = XMP
            settings["tiffinfo"] = tags
        metadata = read_picture(saved(self.image, format, **settings)).metadata
        assert metadata.icc == ICC
        assert metadata.xmp == XMP
        assert metadata.exif is not None
        assert facts(metadata.exif) == facts(EXIF)
        if format != "TIFF":
            assert metadata.exif == EXIF

    @pytest.mark.parametrize(("format", "suffix"), FORMATS)
    def test_write(self, format: str, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"a{suffix}"
        write_picture(to_image(noise(8, 12, 3), Colour.RGB, Metadata(ICC, EXIF, XMP)), path)
        with Image.open(path) as image:
            assert image.format == format
            assert image.getexif()[ExifTags.Base.Orientation] == ORIENTED
            assert facts(image.getexif().tobytes()) == facts(EXIF)
            image.load()
            assert image.info["icc_profile"] == ICC
            assert image.info["xmp"] == XMP

    @pytest.mark.parametrize(("format", "suffix"), FORMATS)
    def test_there_and_back(self, format: str, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"a{suffix}"
        pixels = noise(8, 12, 3)
        write_picture(to_image(pixels, Colour.RGB, Metadata(ICC, EXIF, XMP)), path)
        picture = read_picture(path)
        assert picture.metadata.icc == ICC
        assert picture.metadata.xmp == XMP
        assert picture.metadata.exif is not None
        assert facts(picture.metadata.exif) == facts(EXIF)
        if format == "TIFF":
            # Pillow turns TIFF files upright when it reads them: 90 degrees clockwise for 6.
            np.testing.assert_array_equal(channels(picture.pixels), np.rot90(pixels, -1))
            exif = Image.Exif()
            exif.load(picture.metadata.exif)
            assert ExifTags.Base.Orientation not in exif
        elif format != "JPEG":
            np.testing.assert_array_equal(channels(picture.pixels), pixels)

    @pytest.mark.parametrize(("format", "suffix"), FORMATS)
    def test_none_in_none_out(self, format: str, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"a{suffix}"
        write_picture(self.image, path)
        assert read_picture(path).metadata == Metadata()

    def test_a_tiff_files_structure_is_no_metadata(self) -> None:
        metadata = read_picture(saved(self.image, "TIFF", description="a dog")).metadata
        assert metadata.exif is not None
        exif = Image.Exif()
        exif.load(metadata.exif)
        assert dict(exif) == {ExifTags.Base.ImageDescription: "a dog"}

    @pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"])
    def test_a_compressed_tiff(self, compression: str, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[ExifTags.Base.Make] = "Maker"
        exif[ExifTags.Base.Orientation] = ORIENTED
        data = saved(self.image, "TIFF", compression=compression, exif=exif, icc_profile=ICC)
        picture = read_picture(data)
        assert picture.pixels.shape == (3, 12, 8)  # upright
        assert picture.metadata.icc == ICC
        assert picture.metadata.exif is not None
        exif.load(picture.metadata.exif)
        assert dict(exif) == {ExifTags.Base.Make: "Maker"}
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            image.info["exif"] = b"Exif\0\0" + EXIF
            write_picture(image, tmp_path / "a.tif")
        written = read_picture(tmp_path / "a.tif").metadata.exif
        assert written is not None
        assert facts(written) == facts(EXIF)

    def test_a_damaged_exif_block_stops_nothing(self, tmp_path: Path) -> None:
        for block in (b"II", b"nonsense and more of it", EXIF[:40]):
            image = to_image(noise(4, 4, 3), Colour.RGB, Metadata(exif=block))
            for _, suffix in FORMATS:
                write_picture(image, tmp_path / f"a{suffix}")

    def test_xmp_in_another_encoding(self, tmp_path: Path) -> None:
        block = XMP.decode().encode("utf-16")
        write_picture(to_image(noise(4, 4, 3), Colour.RGB, Metadata(xmp=block)), tmp_path / "a.png")
        assert read_picture(tmp_path / "a.png").metadata.xmp == block


class TestWriting:
    def test_grey_is_the_rounded_mean(self) -> None:
        pixels = noise(16, 16, 3)
        image = to_image(pixels, Colour.GREY, Metadata())
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), np.rint(pixels.mean(axis=2)))

    @pytest.mark.parametrize("suffix", [".png", ".tiff", ".WEBP", ".tif"])
    def test_lossless(self, suffix: str, tmp_path: Path) -> None:
        pixels = noise(16, 16, 3)
        write_picture(Image.fromarray(pixels), tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"a{suffix}")), pixels)

    @pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
    def test_grey_stays_grey(self, suffix: str, tmp_path: Path) -> None:
        write_picture(Image.fromarray(noise(16, 16)), tmp_path / f"a{suffix}")
        assert read_picture(tmp_path / f"a{suffix}").colour == Colour.GREY

    def test_to_a_file_object(self) -> None:
        file = io.BytesIO()
        write_picture(Image.new("RGB", (3, 2)), file, "webp")
        assert Image.open(file).format == "WEBP"

    def test_to_a_file_object_without_a_format(self) -> None:
        file = io.BytesIO()
        write_picture(Image.new("RGB", (3, 2)), file)
        assert Image.open(file).format == "PNG"

    @pytest.mark.parametrize(("name", "format"), [("a.xyz", None), ("a", None), ("a.png", "gif"), ("no/a.png", None)])
    def test_refused(self, name: str, format: str | None, tmp_path: Path) -> None:
        with pytest.raises(ImageError):
            write_picture(Image.new("RGB", (3, 2)), tmp_path / name, format)
        assert not list(tmp_path.iterdir())

    def test_a_mode_the_format_cannot_hold(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="JPEG"):
            write_picture(Image.new("RGBA", (3, 2)), tmp_path / "a.jpg")
