"""What a picture file says beside its pixels, whatever its format: carried, converted, or named as lost."""

from __future__ import annotations

import struct
from typing import Any

from PIL import ExifTags, Image

from robuststream.picture import exif, profiles
from robuststream.picture.boxes import said_by_heif, said_by_jpeg2000
from robuststream.picture.gif import said_by_gif
from robuststream.picture.jpeg import said_by_jpeg
from robuststream.picture.png import said_by_png
from robuststream.picture.profiles import by_gamma
from robuststream.picture.said import Said
from robuststream.picture.xmp import extension_named, without_name

#: What programs write that know nothing.
_USUAL = (72, 72, 2)


def said_before_loading(image: Image.Image, data: bytes | None) -> Said:
    """What is lost once pixels are loaded, or never was Pillow's to tell.

    Args:
        image: of any format.
        data: the file it comes from; None where it is not known.
    """
    if hasattr(image, "applist"):
        return said_by_jpeg(image)
    if image.format == "TIFF" and hasattr(image, "tag_v2"):
        return _said_by_tiff(image)
    if image.format == "PSD" and hasattr(image, "resources"):
        return _said_by_psd(image)
    if image.format == "DDS" and "BC6" in str(getattr(image, "pixel_format", "")):
        return Said(bits=16)
    reader = _READERS.get(image.format or "")
    return reader(data) if reader and data is not None else Said()


def complete(said: Said, image: Image.Image, grey: bool) -> None:
    """Add what Pillow says of a loaded image, and what follows from all of it together."""
    info = image.info
    if not said.icc_read:
        said.icc = said.icc or info.get("icc_profile")
    said.exif = exif.without_prefix(said.exif or _exif(image, said))
    xmp = said.xmp or info.get("xmp")
    said.xmp = (xmp.encode() if isinstance(xmp, str) else bytes(xmp)) if xmp else None
    if said.xmp and extension_named(said.xmp) is not None:
        said.xmp = without_name(said.xmp)
        said.lost.append("the extended part of the XMP")
    _complete_resolution(said, info)
    _complete_colour(said, info, grey)


def _exif(image: Image.Image, said: Said) -> bytes | None:
    info = image.info
    block: bytes | None = info.get("exif")
    if block is None and "Raw profile type exif" in info:
        # How PNG files carried EXIF before they had a chunk for it.
        try:
            block = exif.packed(image.getexif())
        except ValueError as error:
            said.lost.append(str(error))
    return block


def _complete_resolution(said: Said, info: dict[Any, Any]) -> None:
    """EXIF is where a stream has it; a block that there is already stays as it is."""
    resolution = said.resolution if said.resolution != _USUAL else None
    if said.exif:
        if resolution and not exif.has_resolution(said.exif):
            said.lost.append("its resolution, which its EXIF does not say")
        return
    if said.resolution is None and isinstance(info.get("dpi"), tuple):
        resolution = float(info["dpi"][0]), float(info["dpi"][1]), 2
        # 1 is what Pillow says of a TIFF file that says nothing.
        resolution = resolution if min(resolution[:2]) > 1 else None
    if resolution and resolution != _USUAL and min(resolution) > 0:
        said.exif = exif.resolution_block(*resolution)


def _complete_colour(said: Said, info: dict[Any, Any], grey: bool) -> None:
    """A profile says what colours are; one of another kind of colours would say it wrong."""
    space = profiles.colour_space(said.icc) if said.icc else None
    if space is not None and space not in (("RGB", "GRAY") if grey else ("RGB",)):
        said.icc = None
        said.lost.append(f"its ICC profile, which is for {space} and does not fit its pixels")
    if said.icc:
        return
    encoding = said.encoding
    if encoding is None and "srgb" not in info:
        encoding = by_gamma(info.get("gamma"), info.get("chromaticity"))
    if encoding:
        said.icc = profiles.profile(encoding, grey)


# --- Formats with little to say -------------------------------------------------------------------------------------


def _said_by_tiff(image: Any) -> Said:
    said = Said()
    try:
        tags = exif.descriptive(image.getexif())
        if image.tile and ExifTags.Base.Orientation in tags:
            # Pillow turns the pixels when it loads them.
            del tags[ExifTags.Base.Orientation]
        said.exif = exif.packed(tags)
    except ValueError as error:
        said.lost.append(str(error))
    return said


def _said_by_psd(image: Any) -> Said:
    blocks = {number: data for number, _, data in image.resources}
    said = Said(icc=blocks.get(1039), exif=blocks.get(1058), xmp=blocks.get(1060))
    if 1028 in blocks:
        said.lost.append("IPTC")
    layers = getattr(image, "n_frames", 0)
    if layers > 1:
        said.lost.append(f"{layers} layers (what is coded is the flattened picture)")
    resolution = blocks.get(1005, b"")
    if len(resolution) >= 16:
        across, down = struct.unpack(">I", resolution[:4])[0], struct.unpack(">I", resolution[8:12])[0]
        said.resolution = across / 65536, down / 65536, 2
    return said


def _said_by_bmp(data: bytes) -> Said:
    """A profile stands in headers of version 5, and in those of 4 the means to make one."""
    said = Said()
    size = int.from_bytes(data[14:18], "little")
    space = data[70:74]
    if size >= 124 and space == b"DEBM":
        start, length = struct.unpack_from("<II", data, 14 + 112)
        said.icc = data[14 + start : 14 + start + length] or None
    elif size >= 124 and space == b"KNIL":
        said.lost.append("its ICC profile, which is in another file")
    elif size >= 108 and space == bytes(4) and any(data[110:122]):
        said.lost.append("its calibrated colours (endpoints and gammas)")
    return said


_READERS = {
    "PNG": said_by_png,
    "AVIF": said_by_heif,
    "HEIF": said_by_heif,
    "JPEG2000": said_by_jpeg2000,
    "GIF": said_by_gif,
    "BMP": _said_by_bmp,
}
