"""EXIF blocks: those that stand among a TIFF file's own tags, and resolution, which every format says its own way."""

from __future__ import annotations

import logging
from typing import Any

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from robuststream.container.packets import EXIF_PREFIX

log = logging.getLogger(__name__)

_GEOTIFF = (33550, 33922, 34264, 34735, 34736, 34737)
_GDAL = (42112, 42113)
_IPTC, _PHOTOSHOP = 33723, 34377
#: A TIFF file keeps EXIF among its own tags. These say something of the picture; all others say how the file is built.
_DESCRIPTIVE_TAGS = frozenset(
    {
        ExifTags.Base.DocumentName,
        ExifTags.Base.ImageDescription,
        ExifTags.Base.Make,
        ExifTags.Base.Model,
        ExifTags.Base.Orientation,
        ExifTags.Base.XResolution,
        ExifTags.Base.YResolution,
        ExifTags.Base.ResolutionUnit,
        ExifTags.Base.PageName,
        ExifTags.Base.TransferFunction,
        ExifTags.Base.Software,
        ExifTags.Base.DateTime,
        ExifTags.Base.Artist,
        ExifTags.Base.HostComputer,
        ExifTags.Base.WhitePoint,
        ExifTags.Base.PrimaryChromaticities,
        ExifTags.Base.Rating,
        ExifTags.Base.Copyright,
        ExifTags.Base.XPTitle,
        ExifTags.Base.XPComment,
        ExifTags.Base.XPAuthor,
        ExifTags.Base.XPKeywords,
        ExifTags.Base.XPSubject,
        *_GEOTIFF,
        *_GDAL,
        _IPTC,
        _PHOTOSHOP,
    }
)
_CENTIMETRE = 3


def without_prefix(block: bytes | None) -> bytes | None:
    """The TIFF structure alone; None for an empty one."""
    while block and block.startswith(EXIF_PREFIX):
        block = block[len(EXIF_PREFIX) :]
    return block or None


def descriptive(source: Image.Exif) -> Image.Exif:
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


def packed(exif: Image.Exif) -> bytes | None:
    """As one block, without a prefix; None for an empty one. Raises ValueError where it holds what cannot be packed."""
    if not len(exif):
        return None
    try:
        return without_prefix(exif.tobytes())
    except Exception as error:  # values of odd types end in whatever packing them raises
        raise ValueError(f"EXIF cannot be packed ({error})") from error


def tiff_tags(block: bytes | None, xmp: bytes | None) -> Image.Exif:
    """What a TIFF file is to say beside its structure."""
    tags = Image.Exif()
    if block:
        try:
            tags.load(block)
            # Packed and read again: the writer looks directories up in the bytes an Exif was read from.
            tags.load(descriptive(tags).tobytes())
        except Exception as error:  # a damaged block ends in whatever parsing it raises
            log.warning("the EXIF block cannot be read and is left out (%s)", error)
            tags = Image.Exif()
    if xmp:
        tags[ExifTags.Base.XMLPacket] = xmp
    return tags


# --- Resolution -----------------------------------------------------------------------------------------------------


def has_resolution(block: bytes) -> bool:
    return ExifTags.Base.XResolution in _read(block)


def resolution_block(across: float, down: float, unit: int) -> bytes:
    """An EXIF block of nothing but pixels across and down for each unit (1 none, 2 inch, 3 centimetre)."""
    exif = Image.Exif()
    exif[ExifTags.Base.XResolution] = IFDRational(round(across * 100), 100)
    exif[ExifTags.Base.YResolution] = IFDRational(round(down * 100), 100)
    exif[ExifTags.Base.ResolutionUnit] = unit
    block = packed(exif)
    assert block is not None
    return block


def dots_per_inch(block: bytes | None) -> tuple[float, float] | None:
    """What an EXIF block says, for formats that say it on their own as well; None where it says nothing sensible."""
    exif = _read(block) if block else {}
    try:
        across, down = (float(exif[tag]) for tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    unit = exif.get(ExifTags.Base.ResolutionUnit, 2)
    factor = {2: 1.0, _CENTIMETRE: 2.54}.get(unit)
    # Above, JPEG's 16 bits do not hold it.
    if factor is None or not (0.5 <= across * factor < 65535 and 0.5 <= down * factor < 65535):
        return None
    return across * factor, down * factor


def _read(block: bytes) -> Any:
    exif = Image.Exif()
    try:
        exif.load(block)
        return dict(exif)
    except Exception:  # a damaged block ends in whatever parsing it raises
        return {}
