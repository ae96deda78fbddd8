"""Pictures in and out: Pillow, NumPy and torch; colour profile, EXIF and XMP are carried along untouched."""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from robuststream.container.packets import Colour, Metadata
from robuststream.errors import ImageError
from robuststream.files import write_file

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
XMP_TAG = 700  # of TIFF

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """A picture to encode. `pixels` is (3, H, W) on the CPU, uint8, or float32 in [0, 1]."""

    pixels: Tensor
    colour: Colour = Colour.RGB
    metadata: Metadata = field(default_factory=Metadata)


def read_picture(source: Any) -> Picture:
    """Take a picture in any usual form.

    Args:
        source: path or binary file of a picture Pillow can open; PIL image; uint8 array (H, W, 3) or (H, W); uint8
            tensor (3, H, W), or float tensor (3, H, W) in [0, 1], on any device.

    Raises:
        ImageError: it cannot be read, or has alpha, more than 8 bits, several frames, or a colour space other than
            RGB, grey or palette. EXIF orientation is kept as metadata; pixels are not turned.
    """
    if isinstance(source, Image.Image):
        return _from_image(source, "the picture")
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Tensor):
        return _from_tensor(source)
    name = str(source) if isinstance(source, (str, os.PathLike)) else getattr(source, "name", "the picture")
    try:
        with warnings.catch_warnings():
            # Sizes are limited by `max_pixels`, with a message of our own.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                return _from_image(image, name)
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture Pillow can read (PNG, JPEG, WebP, TIFF and others)") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: {error}") from error
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error.strerror or error})") from error
    except (ValueError, SyntaxError, AttributeError) as error:
        raise ImageError(f"{name}: not a picture, or a damaged one ({error})") from error


def _from_image(image: Image.Image, name: str) -> Picture:
    mode = image.mode
    if getattr(image, "n_frames", 1) > 1:
        raise ImageError(f"{name}: has {image.n_frames} frames; save the one you want as a picture of its own")  # type: ignore[attr-defined]
    if "A" in mode.replace("LAB", "") or "a" in mode or "transparency" in image.info:
        raise ImageError(
            f"{name}: has transparency, which is not stored; flatten it first, for instance "
            "`convert IN -background white -flatten OUT`"
        )
    if mode.startswith(("I", "F")):
        raise ImageError(f"{name}: has more than 8 bits a channel ({mode}), which are not stored; convert it first")
    if mode not in ("1", "L", "P", "RGB", "YCbCr"):
        raise ImageError(f"{name}: colour space {mode} is not stored; convert it to RGB with its own profile first")
    pixels = np.asarray(image.convert("RGB"))
    # A palette's unused entries may have any colour: its pixels tell.
    grey = mode in ("1", "L") or (mode == "P" and bool((pixels[..., :1] == pixels).all()))
    metadata = Metadata(icc=image.info.get("icc_profile") or None, exif=_exif(image), xmp=_xmp(image))
    return Picture(_to_tensor(pixels), Colour.GREY if grey else Colour.RGB, metadata)


def _exif(image: Image.Image) -> bytes | None:
    if "exif" in image.info:
        return bytes(image.info["exif"]) or None
    # TIFF keeps these tags in its own directory.
    exif = image.getexif()
    kept = Image.Exif()
    for tag, value in exif.items():
        # The directory of a TIFF also says how its pixels are stored: that is not about the picture.
        if tag in (0x010E, 0x010F, 0x0110, 0x0112, 0x0131, 0x0132, 0x013B, 0x8298):
            kept[tag] = value
    return kept.tobytes() if len(kept) else None


def _xmp(image: Image.Image) -> bytes | None:
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode()
    return bytes(xmp) if xmp else None


def _from_array(array: npt.NDArray[Any]) -> Picture:
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        raise ImageError(
            f"an array must be uint8, (H, W, 3) or (H, W), and not empty: this is {array.dtype} {array.shape}"
        )
    if array.ndim == 2:
        return Picture(_to_tensor(np.repeat(array[..., None], 3, axis=2)), Colour.GREY)
    return Picture(_to_tensor(array))


def _from_tensor(tensor: Tensor) -> Picture:
    if tensor.ndim != 3 or tensor.shape[0] != 3 or not tensor.numel():
        raise ImageError(f"a tensor must be (3, H, W) and not empty: this is {tuple(tensor.shape)}")
    if tensor.dtype == torch.uint8:
        return Picture(tensor.detach().cpu())
    if not tensor.is_floating_point():
        raise ImageError(f"a tensor must be uint8, or floating in [0, 1]: this is {tensor.dtype}")
    pixels = tensor.detach().to("cpu", torch.float32)
    if not (pixels.min() >= 0 and pixels.max() <= 1):  # false for NaN as well
        raise ImageError("a float tensor must lie in [0, 1]: divide 8-bit values by 255, or clamp it")
    return Picture(pixels)


def _to_tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)).copy())


def to_image(pixels: Pixels, colour: Colour, metadata: Metadata) -> Image.Image:
    """A PIL image of uint8 (H, W, 3): mode RGB, or L with the mean of the three channels, halves rounded up."""
    if colour == Colour.GREY:
        grey = (2 * pixels.sum(axis=2, dtype=np.uint16) + 3) // 6
        image = Image.fromarray(grey.astype(np.uint8))
    else:
        image = Image.fromarray(pixels)
    blocks = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    image.info.update({name: block for name, block in blocks.items() if block is not None})
    return image


def picture_format(path: str | os.PathLike[str]) -> str:
    """Pillow's name of the format that a file name asks for. Raises ImageError for names that ask for none of ours."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ImageError(f"{path}: {suffix or 'no'} extension; decode into one of {', '.join(FORMATS)}")
    return FORMATS[suffix]


def write_picture(image: Image.Image, target: str | os.PathLike[str] | IO[bytes], format: str | None = None) -> None:
    """Write a picture with its ICC profile, EXIF and XMP, all or nothing.

    Args:
        target: a path, whose extension gives the format, or a binary file.
        format: PNG, JPEG, WEBP or TIFF; PNG for binary files when None.

    Raises:
        ImageError: no such format. OSError: it cannot be written.
    """
    path = target if isinstance(target, (str, os.PathLike)) else None
    format = format or (picture_format(path) if path is not None else "PNG")
    buffer = io.BytesIO()
    image.save(buffer, format, **_save_options(image, format))
    if path is not None:
        write_file(path, buffer.getvalue())
    else:
        target.write(buffer.getvalue())  # type: ignore[union-attr]


def _save_options(image: Image.Image, format: str) -> dict[str, Any]:
    defaults: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
    options = dict(defaults.get(format, {}))
    icc, exif, xmp = (image.info.get(name) for name in ("icc_profile", "exif", "xmp"))
    if icc:
        options["icc_profile"] = icc
    if exif:
        options["exif"] = exif
    if xmp and format in ("JPEG", "WEBP"):
        options["xmp"] = xmp
    elif xmp and format == "PNG":
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode(errors="replace"))
    elif xmp and format == "TIFF":
        from PIL.TiffImagePlugin import ImageFileDirectory_v2

        directory = ImageFileDirectory_v2()
        directory[XMP_TAG] = xmp
        if exif:
            loaded = Image.Exif()
            loaded.load(exif)
            for tag, value in loaded.items():
                directory[tag] = value
        options.pop("exif", None)
        options["tiffinfo"] = directory
    return options
