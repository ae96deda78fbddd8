"""Pictures in and out: Pillow, NumPy and torch; colour profile, EXIF and XMP are carried along."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from robuststream.container.packets import MAX_PIXELS, Colour, Metadata
from robuststream.errors import ImageError
from robuststream.picture.arrays import from_array, from_tensor
from robuststream.picture.blocks import complete, said_before_loading
from robuststream.picture.depth import bits_of, eight_bits
from robuststream.picture.limits import check_size
from robuststream.picture.opening import (
    GREY_MODES,
    exceeds_pillows_limit,
    opened,
    pillows_limit_at,
    reading,
    refuse_kind,
)
from robuststream.picture.png import SIGNATURE, without_compressed
from robuststream.picture.said import tell
from robuststream.picture.writing import picture_format, write_picture

__all__ = ["Picture", "picture_format", "read_picture", "to_image", "write_picture"]

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


def read_picture(source: Any, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture. EXIF's orientation stays metadata, and pixels are not turned.

    (Pillow itself turns TIFF files when it reads them, and takes the orientation out; so does this.)

    More than 8 bits a channel become 8. What a file says of its colours without a profile (PNG's gAMA, cHRM and
    cICP, AVIF's code points) becomes an ICC profile, and its resolution EXIF. One PictureWarning, and one log record,
    name what is rounded and what is left out, such as text and comments.

    Args:
        source: a path, a binary file, the bytes of a picture file, a PIL image, a uint8 array (H, W, 3), or (H, W),
            (H, W, 1) or (1, H, W) for grey, a uint8 tensor (3, H, W) or a float tensor (3, H, W) in [0, 1], or of one
            channel for grey, tensors on any device.
        max_pixels: larger pictures are refused before they are decoded. It counts in place of Pillow's own limit.

    Raises:
        ImageError: it cannot be read, is too large, or of a kind that cannot be coded: with alpha, of floating point,
            neither RGB nor grey, of several frames, or empty.
    """
    if isinstance(source, Tensor):
        pixels, grey = from_tensor(source)
        return Picture(pixels, Colour.GREY if grey else Colour.RGB)
    if isinstance(source, np.ndarray):
        pixels, grey = from_array(source)
        return Picture(pixels, Colour.GREY if grey else Colour.RGB)
    if isinstance(source, Image.Image):
        return _from_image(source, str(getattr(source, "filename", "")) or "the image", max_pixels)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_file(bytes(source), "the picture", max_pixels)
    if isinstance(source, (str, os.PathLike)):
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise ImageError(f"{os.fspath(source)}: the picture cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise ImageError(f"{os.fspath(source)!r} is no path ({error})") from error
        return _from_file(data, os.fspath(source), max_pixels)
    if hasattr(source, "read"):
        data, name = source.read(), str(getattr(source, "name", "the picture"))
        if isinstance(data, str):
            raise ImageError(f"{name}: the file is opened as text: open it with mode 'rb'")
        return _from_file(data, name, max_pixels)
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


# --- Files and images ----------------------------------------------------------------------------------------------


def _from_file(data: bytes, name: str, max_pixels: int) -> Picture:
    with reading(name), _opened(data, max_pixels) as image:
        return _read(image, data, name, max_pixels)


def _from_image(image: Image.Image, name: str, max_pixels: int) -> Picture:
    with reading(name):
        return _read(image, _file_behind(image), name, max_pixels)


def _opened(data: bytes, max_pixels: int) -> Image.Image:
    return opened(without_compressed(data) if data.startswith(SIGNATURE) else data, max_pixels)


def _file_behind(image: Any) -> bytes | None:
    """Of an image that Pillow has opened and not loaded yet, the file, left as it is; else None."""
    file = getattr(image, "fp", None)
    if file is None or not getattr(image, "tile", None) or image.format == "ROBS":
        return None
    try:
        place = file.tell()
        file.seek(0)
        data: bytes = file.read()
        file.seek(place)
    except (OSError, ValueError):
        return None
    return data


def _read(image: Image.Image, data: bytes | None, name: str, max_pixels: int) -> Picture:
    refuse_kind(image, name)
    check_size(*image.size, max_pixels)
    # A reader may close the file behind the pixels.
    said = said_before_loading(image, data)
    bits = bits_of(image)
    with pillows_limit_at(max_pixels) if exceeds_pillows_limit(image.size) else nullcontext():
        pixels = eight_bits(image, bits, name, None if data is None else lambda: _opened(data, max_pixels))
    grey = pixels.ndim == 2 or image.mode in GREY_MODES
    complete(said, image, grey)
    if max(bits, said.bits) > 8:
        said.notes.append(f"{max(bits, said.bits)} bits a channel become 8")
    notes = [*said.notes, *([f"the stream does not carry {', '.join(said.lost)}"] if said.lost else [])]
    if notes:
        tell(f"{name}: {'; '.join(notes)}")
    planes = np.stack([pixels] * 3) if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return Picture(
        torch.from_numpy(np.array(planes, order="C")),
        Colour.GREY if grey else Colour.RGB,
        Metadata(said.icc or None, said.exif or None, said.xmp or None),
    )
