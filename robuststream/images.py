"""Pictures in and out: Pillow, NumPy and torch; colour profile, EXIF and XMP are carried along."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from robuststream.container.packets import EXIF_PREFIX, Colour, Metadata
from robuststream.errors import ImageError, first_line
from robuststream.files import write_file

log = logging.getLogger(__name__)

#: What pictures are written as, by extension.
FORMATS: Mapping[str, str] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
#: Decoded pixels are to be kept as they are: lossless where the format can, else with as little loss as it offers.
_SETTINGS: Mapping[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    # libtiff, which compresses, cannot write EXIF's own directory.
    "TIFF": {"compression": "raw"},
}
_GREY_MODES = ("1", "L")
_COLOUR_MODES = ("P", "RGB", "RGBX", "YCbCr")

#: A TIFF file keeps EXIF among its own tags. These say something of the picture; all others say how the file is built.
_DESCRIPTIVE_TAGS = frozenset(
    {
        ExifTags.Base.ImageDescription,
        ExifTags.Base.Make,
        ExifTags.Base.Model,
        ExifTags.Base.Orientation,
        ExifTags.Base.XResolution,
        ExifTags.Base.YResolution,
        ExifTags.Base.ResolutionUnit,
        ExifTags.Base.Software,
        ExifTags.Base.DateTime,
        ExifTags.Base.Artist,
        ExifTags.Base.HostComputer,
        ExifTags.Base.Rating,
        ExifTags.Base.Copyright,
        ExifTags.Base.XPTitle,
        ExifTags.Base.XPComment,
        ExifTags.Base.XPAuthor,
        ExifTags.Base.XPKeywords,
        ExifTags.Base.XPSubject,
    }
)

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """A picture ready to be coded.

    Attributes:
        pixels: (3, H, W) on the CPU: uint8, or float32 in [0, 1] where the source was a float tensor.
        colour: GREY where the source was greyscale; its three channels are the same.
        metadata: ICC, EXIF (a TIFF structure, without the prefix "Exif\\0\\0" that JPEG puts before it) and XMP.
    """

    pixels: Tensor
    colour: Colour = Colour.RGB
    metadata: Metadata = field(default_factory=Metadata)


def read_picture(source: Any) -> Picture:
    """Read a picture of 8 bits a channel. EXIF's orientation stays metadata, and pixels are not turned.

    (Pillow itself turns TIFF files when it reads them, and takes the orientation out; so does this.)

    Args:
        source: a path, a binary file, the bytes of a picture file, a PIL image, a uint8 array (H, W, 3) or (H, W), a
            uint8 tensor (3, H, W) or a float tensor (3, H, W) in [0, 1], tensors on any device.

    Raises:
        ImageError: it cannot be read, or is of a kind that cannot be coded: with alpha, more than 8 bits a channel,
            neither RGB nor grey, of several frames, or empty.
    """
    if isinstance(source, Tensor):
        return _from_tensor(source)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _from_image(source, str(getattr(source, "filename", "")) or "the image")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_file(io.BytesIO(source), "the picture")
    if isinstance(source, (str, os.PathLike)):
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise ImageError(f"{os.fspath(source)}: the picture cannot be read ({error.strerror})") from error
        return _from_file(io.BytesIO(data), os.fspath(source))
    if hasattr(source, "read"):
        return _from_file(io.BytesIO(source.read()), str(getattr(source, "name", "the picture")))
    raise ImageError(
        f"a {type(source).__name__} is no picture: give a path, a binary file, a PIL image, a uint8 array (H, W, 3) "
        "or a tensor (3, H, W)"
    )


def to_image(pixels: Pixels, colour: Colour, metadata: Metadata) -> Image.Image:
    """A PIL image of uint8 (H, W, 3): mode RGB, or L (the rounded mean of the channels) for grey.

    Its `info` holds `icc_profile`, `exif` and `xmp` where there are any, as Pillow's own readers give them.
    """
    if colour == Colour.GREY:
        total = pixels.sum(axis=2, dtype=np.uint16)
        pixels = ((total + 1) // 3).astype(np.uint8)
    image = Image.fromarray(pixels)
    image.info.update(metadata.info())
    return image


def write_picture(image: Image.Image, target: str | os.PathLike[str] | IO[bytes], format: str | None = None) -> None:
    """Write PNG, TIFF, WebP (all lossless) or JPEG (quality 95, 4:4:4), with the ICC, EXIF and XMP of `image.info`.

    Args:
        image: a PIL image of any mode the format can hold.
        target: a path (written all or nothing), or a binary file.
        format: PNG, JPEG, WEBP or TIFF, in any case; when None, by the path's extension, and PNG for a binary file.

    Raises:
        ImageError: the format is not known, cannot hold this picture or its metadata, or the path cannot be written.
    """
    path = target if isinstance(target, (str, os.PathLike)) else None
    name = (format or (picture_format(path) if path is not None else "PNG")).upper()
    name = FORMATS.get(f".{name.lower()}", name)
    if name not in _SETTINGS:
        raise ImageError(f"format {format!r} is not one of {', '.join(_SETTINGS)}")
    data = _encoded(image, name)
    if not isinstance(target, (str, os.PathLike)):
        target.write(data)
        return
    try:
        write_file(target, data)
    except OSError as error:
        raise ImageError(f"{os.fspath(target)}: cannot be written ({error.strerror})") from error


def picture_format(path: str | os.PathLike[str]) -> str:
    """The format a path's extension asks for. Raises ImageError where it asks for none of ours."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ImageError(
            f"{os.fspath(path)}: {suffix or 'no extension'} names no format to write: use one of {', '.join(FORMATS)}"
        )
    return FORMATS[suffix]


# --- Reading -------------------------------------------------------------------------------------------------------


def _from_tensor(tensor: Tensor) -> Picture:
    what = f"a tensor of shape {tuple(tensor.shape)}, {tensor.dtype}".replace("torch.", "")
    if tensor.ndim != 3 or tensor.shape[0] != 3:
        raise ImageError(f"{what}: (3, H, W) is needed; take pictures out of a batch one by one")
    _refuse_empty(int(tensor.shape[2]), int(tensor.shape[1]), what)
    if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
        raise ImageError(f"{what}: uint8, or float in [0, 1], is needed")
    pixels = tensor.detach().cpu()
    if pixels.is_floating_point():
        pixels = pixels.float()
        low, high = (float(value) for value in torch.aminmax(pixels))
        # NaN compares false with everything, so it fails here as well.
        if not (low >= 0 and high <= 1):
            raise ImageError(
                f"{what}: values from {low:g} to {high:g}, where [0, 1] is needed: scale or clamp it first"
            )
    return Picture(pixels.contiguous())


def _from_array(array: npt.NDArray[Any]) -> Picture:
    what = f"an array of shape {array.shape}, {array.dtype}"
    if array.ndim == 3 and array.shape[2] in (2, 4):
        raise ImageError(f"{what}: alpha is not coded: flatten it first, or drop it with array[..., :3]")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ImageError(f"{what}: (H, W, 3) or (H, W) is needed")
    if array.dtype != np.uint8:
        raise ImageError(f"{what}: uint8 is needed: from 16 bits, such as (array / 257).round().astype(numpy.uint8)")
    _refuse_empty(array.shape[1], array.shape[0], what)
    grey = array.ndim == 2
    planes = np.stack([array] * 3) if grey else array.transpose(2, 0, 1)
    # A copy: a Picture does not change when its source does.
    return Picture(torch.from_numpy(np.array(planes, order="C")), Colour.GREY if grey else Colour.RGB)


def _from_file(file: IO[bytes], name: str) -> Picture:
    with _reading(name), Image.open(file) as image:
        return _from_image(image, name)


def _from_image(image: Image.Image, name: str) -> Picture:
    with _reading(name):
        _refuse_kind(image, name)
        # Read before the pixels: Pillow may close the file behind them.
        tags = _descriptive(image.getexif()) if image.format == "TIFF" else None
        image.load()
        metadata = _metadata(image, tags)
        pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    colour = Colour.GREY if image.mode in _GREY_MODES else Colour.RGB
    return Picture(torch.from_numpy(np.array(pixels, order="C")), colour, metadata)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Whatever Pillow raises of a file's bytes becomes an ImageError."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture in a format that can be read (PNG, JPEG, WebP, TIFF, ...)") from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name}: more pixels than Pillow's limit against decompression bombs: "
            "raise PIL.Image.MAX_IMAGE_PIXELS (--max-pixels) if you trust the source"
        ) from error
    except Exception as error:  # a format's reader raises whatever its parsing raises
        reason = first_line(error)
        raise ImageError(f"{name}: the picture is damaged or cut short ({reason})") from error


def _refuse_kind(image: Image.Image, name: str) -> None:
    mode = image.mode
    _refuse_empty(*image.size, name)
    # An MPO file is a JPEG photograph with previews or a gain map behind it.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(
            f"{name}: {frames} frames or pages, and one is needed: take it first, such as image.seek(0); image.copy()"
        )
    if image.has_transparency_data:
        raise ImageError(
            f"{name}: transparency ({mode}) is not coded: flatten it first, such as "
            'Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")'
        )
    bits = _bits(image)
    if bits > 8:
        raise ImageError(
            f"{name}: {bits} bits a channel ({mode}), and 8 are coded: bring it to 8 bits first, such as "
            "Image.fromarray((numpy.asarray(image) / 257).round().astype(numpy.uint8)) for 16 bits"
        )
    if mode not in _GREY_MODES + _COLOUR_MODES:
        raise ImageError(
            f"{name}: colour mode {mode} is not coded: convert it to RGB first, by its profile with "
            'PIL.ImageCms.profileToProfile, or plainly with image.convert("RGB")'
        )


def _refuse_empty(width: int, height: int, name: str) -> None:
    if not (width and height):
        raise ImageError(f"{name}: {width} x {height} pixels are no picture")


def _bits(image: Image.Image) -> int:
    """Bits a channel in the file: Pillow opens 16-bit colour as RGB and cuts it to 8 bits without a word."""
    if image.mode in ("I", "F"):
        return 32
    if image.mode.startswith("I;16"):
        return 16
    if hasattr(image, "tag_v2"):
        return int(max(image.tag_v2.get(ExifTags.Base.BitsPerSample, (1,))))
    for _, _, _, arguments in getattr(image, "tile", []):
        values = arguments if isinstance(arguments, tuple) else (arguments,)
        if any(isinstance(value, str) and ";16" in value for value in values):
            return 16
        # A PPM's arguments are its raw mode and largest value.
        if image.format == "PPM" and len(values) > 1 and isinstance(values[1], int) and values[1] > 255:
            return 16
    return 8


def _metadata(image: Image.Image, tags: Image.Exif | None) -> Metadata:
    info = image.info
    exif = info.get("exif")
    if tags is not None:
        if ExifTags.Base.Orientation not in image.getexif():
            # Pillow has turned the pixels.
            tags.pop(ExifTags.Base.Orientation, None)
        exif = _packed(tags)
    elif exif is None and "Raw profile type exif" in info:
        # How PNG files carried EXIF before they had a chunk for it.
        exif = _packed(image.getexif())
    while exif and exif.startswith(EXIF_PREFIX):
        exif = exif[len(EXIF_PREFIX) :]
    xmp = info.get("xmp")
    return Metadata(
        icc=info.get("icc_profile") or None,
        exif=exif or None,
        xmp=(xmp.encode() if isinstance(xmp, str) else bytes(xmp)) if xmp else None,
    )


# --- Writing -------------------------------------------------------------------------------------------------------


def _encoded(image: Image.Image, name: str) -> bytes:
    settings = dict(_SETTINGS[name])
    icc, exif, xmp = (image.info.get(key) for key in ("icc_profile", "exif", "xmp"))
    if icc:
        settings["icc_profile"] = icc
    if name == "TIFF":
        settings["tiffinfo"] = _tiff_tags(exif, xmp)
    else:
        if exif:
            settings["exif"] = exif
        if xmp and name == "PNG":
            settings["pnginfo"] = text = PngImagePlugin.PngInfo()
            # Keyword, no compression, no language, no translated keyword; then the bytes as they are.
            text.add(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
        elif xmp:
            settings["xmp"] = xmp
    file = io.BytesIO()
    try:
        image.save(file, name, **settings)
    except (OSError, ValueError, KeyError) as error:
        raise ImageError(f"the picture cannot be written as {name} ({error}): PNG may hold it") from error
    return file.getvalue()


# --- EXIF inside TIFF ----------------------------------------------------------------------------------------------


def _tiff_tags(block: bytes | None, xmp: bytes | None) -> Image.Exif:
    """What a TIFF file is to say beside its structure."""
    tags = Image.Exif()
    if block:
        try:
            tags.load(block)
            # Packed and read again: the writer looks directories up in the bytes an Exif was read from.
            tags.load(_descriptive(tags).tobytes())
        except Exception as error:  # a damaged block ends in whatever parsing it raises
            log.warning("the EXIF block cannot be read and is left out (%s)", error)
            tags = Image.Exif()
    if xmp:
        tags[ExifTags.Base.XMLPacket] = xmp
    return tags


def _descriptive(source: Image.Exif) -> Image.Exif:
    """A copy without the tags that describe the file's build."""
    exif = Image.Exif()
    exif.endian = source.endian
    for tag in source:
        if tag in _DESCRIPTIVE_TAGS:
            exif[tag] = source[tag]
    for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if tag in source:
            directory = dict(source.get_ifd(tag))
            if ExifTags.IFD.Interop in directory:
                directory[ExifTags.IFD.Interop] = dict(source.get_ifd(ExifTags.IFD.Interop))
            exif[tag] = directory
    return exif


def _packed(exif: Image.Exif) -> bytes | None:
    if not len(exif):
        return None
    try:
        return exif.tobytes()
    except Exception as error:  # values of odd types end in whatever packing them raises
        log.warning("the EXIF block cannot be packed and is left out (%s)", error)
        return None
