"""From more bits a channel to the eight that are coded, rounded where Pillow has not cut them off already."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from robuststream.errors import ImageError

Pixels = npt.NDArray[np.uint8]
_WHITE_IS_ZERO = 0


def bits_of(image: Image.Image) -> int:
    """Bits a channel in the file behind an image, before it is loaded: Pillow opens 16-bit colour as RGB of 8 bits."""
    if hasattr(image, "tag_v2"):
        return int(max(image.tag_v2.get(ExifTags.Base.BitsPerSample, (1,))))
    if image.mode.startswith("I"):
        return 16
    if _raw_mode(image):
        return 16
    for codec, _, _, arguments in getattr(image, "tile", []):
        if codec == "SGI16":
            return 16
        # A PPM's arguments are its raw mode and largest value.
        if image.format == "PPM" and isinstance(arguments, tuple) and isinstance(arguments[-1], int):
            return max(8, arguments[-1].bit_length())
    return 8


def eight_bits(image: Image.Image, bits: int, name: str, again: Callable[[], Image.Image] | None) -> Pixels:
    """The pixels of an image, (H, W) or (H, W, 3), loaded and brought to eight bits.

    Args:
        image: of a mode that can be coded.
        bits: a channel, as `bits_of` gave them.
        name: for messages.
        again: opens the same file once more, not loaded yet; None where that cannot be done.
    """
    if image.mode.startswith("I"):
        return _grey(image, bits)
    raw_mode = _raw_mode(image)
    if bits > 8 and hasattr(image, "tag_v2") and not raw_mode:
        # Pillow takes 16-bit planes that stand one behind the other for planes of 8 bits.
        raise ImageError(
            f"{name}: {bits} bits a channel in separate planes are not read right: bring it to 8 bits first"
        )
    low = None
    if raw_mode and again is not None and image.format in ("PNG", "TIFF"):
        # Asked for the other byte order, Pillow gives the low bytes, which else it cuts off.
        other = again()
        other.tile = [tile._replace(args=_swapped(tile.args)) for tile in other.tile]  # type: ignore[attr-defined]
        low = np.asarray(other.convert("RGB"))
    image.load()
    high = np.asarray(image.convert("RGB"))
    if low is None:
        return high
    table, rounded = _rounded(65535), np.empty_like(high)
    # Row by row, so that no whole picture of wide numbers is held.
    for row in range(len(high)):
        rounded[row] = table[high[row].astype(np.uint16) << 8 | low[row]]
    return rounded


def _grey(image: Image.Image, bits: int) -> Pixels:
    image.load()
    values = np.asarray(image)
    peak = (1 << bits) - 1
    if hasattr(image, "tag_v2") and image.tag_v2.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO:
        values = peak - np.minimum(values, peak)
    return np.asarray(_rounded(peak)[values.clip(0, peak)])


def _rounded(peak: int) -> Pixels:
    """Eight bits of every value up to the largest."""
    return np.asarray(np.rint(np.arange(peak + 1) * (255 / peak)), np.uint8)


def _raw_mode(image: Image.Image) -> str | None:
    for _, _, _, arguments in getattr(image, "tile", []):
        raw_mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        if isinstance(raw_mode, str) and ";16" in raw_mode:
            return raw_mode
    return None


def _swapped(arguments: object) -> object:
    if isinstance(arguments, tuple):
        return (_swapped(arguments[0]), *arguments[1:])
    assert isinstance(arguments, str)
    order = arguments[-1]
    if order == "N":
        order = "L" if sys.byteorder == "little" else "B"
    return arguments[:-1] + ("B" if order == "L" else "L")
