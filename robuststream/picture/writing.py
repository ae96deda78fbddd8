"""Pictures written to files, with the blocks that the format can hold and others can read."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from PIL import Image, PngImagePlugin

from robuststream.container.packets import EXIF_PREFIX
from robuststream.errors import ImageError
from robuststream.files.writing import write_file
from robuststream.picture.exif import dots_per_inch, tiff_tags, without_prefix
from robuststream.picture.jpeg import EXTENSION_MARKER
from robuststream.picture.said import tell
from robuststream.picture.xmp import split

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
_SEGMENT = 65533
_XMP_MARKER = b"http://ns.adobe.com/xap/1.0/\0"
#: The longest blocks: of PNG what Pillow's reader takes, which guards against bombs; of JPEG what it has room for.
_LONGEST: Mapping[str, Mapping[str, int]] = {
    "PNG": {"ICC profile": 1 << 20, "XMP": 1 << 26},
    "JPEG": {"ICC profile": 255 * (_SEGMENT - 14), "EXIF": _SEGMENT - 6, "XMP": 1 << 26},
    "WEBP": {},
    "TIFF": {},
}


def write_picture(image: Image.Image, target: str | os.PathLike[str] | IO[bytes], format: str | None = None) -> None:
    """Write PNG, TIFF, WebP (all lossless) or JPEG (quality 95, 4:4:4), with the ICC, EXIF and XMP of `image.info`.

    A block that the format has no room for, or that usual readers of it would refuse, is left out, and one
    PictureWarning and one log record say so.

    Args:
        image: a PIL image of any mode the format can hold.
        target: a path (written all or nothing), or a binary file.
        format: PNG, JPEG, WEBP or TIFF, in any case; when None, by the path's extension, and PNG for a binary file.

    Raises:
        ImageError: the format is not known, cannot hold this picture, or the path cannot be written.
    """
    path = target if isinstance(target, (str, os.PathLike)) else None
    name = (format or (picture_format(path) if path is not None else "PNG")).upper()
    name = FORMATS.get(f".{name.lower()}", name)
    if name not in _SETTINGS:
        raise ImageError(f"format {format!r} is not one of {', '.join(_SETTINGS)}")
    data = _encoded(image, name, str(path or getattr(target, "name", "") or "the picture"))
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


def _encoded(image: Image.Image, name: str, where: str) -> bytes:
    icc, exif, xmp = _fitting(image, name, where)
    # Each is given, empty or not, since Pillow takes some that are not from the image.
    settings: dict[str, Any] = {**_SETTINGS[name], "icc_profile": icc}
    if name == "TIFF":
        settings["tiffinfo"] = tiff_tags(exif, xmp)
    else:
        settings |= {"exif": EXIF_PREFIX + exif if exif else b"", "xmp": b"" if name == "JPEG" else xmp or b""}
        dpi = dots_per_inch(exif)
        if dpi and name != "WEBP":
            settings["dpi"] = dpi
        if xmp and name == "PNG":
            settings["pnginfo"] = text = PngImagePlugin.PngInfo()
            # Keyword, no compression, no language, no translated keyword; then the bytes as they are.
            text.add(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
        if xmp and name == "JPEG":
            settings["extra"] = _segments(xmp)
    file = io.BytesIO()
    try:
        image.save(file, name, **settings)
    except (OSError, ValueError, KeyError) as error:
        raise ImageError(f"the picture cannot be written as {name} ({error}): PNG may hold it") from error
    return file.getvalue()


def _fitting(image: Image.Image, name: str, where: str) -> tuple[bytes | None, bytes | None, bytes | None]:
    """ICC, EXIF and XMP, each None where there is none, or where it is left out, which is said."""
    blocks: dict[str, bytes | None] = {
        "ICC profile": image.info.get("icc_profile"),
        "EXIF": without_prefix(image.info.get("exif")),
        "XMP": image.info.get("xmp"),
    }
    left_out = []
    for what, block in blocks.items():
        longest = _LONGEST[name].get(what)
        if block and longest is not None and len(block) > longest:
            blocks[what] = None
            left_out.append(f"{what} of {len(block)} bytes, where {longest} are what its readers take")
    if name == "JPEG" and blocks["XMP"] and len(blocks["XMP"]) > _SEGMENT - len(_XMP_MARKER):
        try:
            split(blocks["XMP"])
        except ValueError as error:
            left_out.append(f"XMP of {len(blocks['XMP'])} bytes ({error})")
            blocks["XMP"] = None
    if left_out:
        message = f"{where}: written as {name} without {', '.join(left_out)}: another format may hold it"
        tell(message)
    return blocks["ICC profile"], blocks["EXIF"], blocks["XMP"]


def _segments(xmp: bytes) -> bytes:
    """XMP as JPEG has it: one segment, or one that names an extension, and the extension in parts."""
    if len(xmp) <= _SEGMENT - len(_XMP_MARKER):
        return _segment(_XMP_MARKER + xmp)
    short, guid, extension = split(xmp)
    whole = len(extension).to_bytes(4, "big")
    room = _SEGMENT - len(EXTENSION_MARKER) - len(guid) - 8
    parts = [
        _segment(EXTENSION_MARKER + guid + whole + at.to_bytes(4, "big") + extension[at : at + room])
        for at in range(0, len(extension), room)
    ]
    return _segment(_XMP_MARKER + short) + b"".join(parts)


def _segment(body: bytes) -> bytes:
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
