"""The segments of JPEG that say something beside the pixels, joined where they come in parts."""

from __future__ import annotations

from typing import Any

from robuststream.picture.said import Said
from robuststream.picture.xmp import extension_named, merged, without_name

ICC_MARKER = b"ICC_PROFILE\0"
EXTENSION_MARKER = b"http://ns.adobe.com/xmp/extension/\0"
_IPTC = 0x0404


def said_by_jpeg(image: Any) -> Said:
    """What the segments of a JPEG or MPO that Pillow opened say."""
    segments: list[tuple[str, bytes]] = image.applist
    info = image.info
    said = Said(exif=info.get("exif"), xmp=info.get("xmp"), icc_read=True)
    parts = [body[len(ICC_MARKER) :] for kind, body in segments if kind == "APP2" and body.startswith(ICC_MARKER)]
    if parts:
        said.icc = _profile(parts)
        if said.icc is None:
            said.lost.append("the ICC profile, of which a part is missing or doubled")
    _read_extension(segments, said)
    if any(kind == "APP11" and body.startswith(b"JP") for kind, body in segments):
        said.lost.append("content credentials or other JUMBF boxes")
    if _IPTC in info.get("photoshop", {}):
        said.lost.append("IPTC")
    if info.get("comment"):
        said.lost.append("a comment")
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        said.lost.append(f"what stands behind its first picture ({frames - 1} more: previews, a gain map)")
    elif any(b'hdrgm:Version="' in body for kind, body in segments if kind == "APP1"):
        said.lost.append("a gain map (Ultra HDR)")
    across, down = info.get("jfif_density", (1, 1))
    unit = info.get("jfif_unit", 0)
    if across and down and (unit in (1, 2) or across != down):
        said.resolution = across, down, (unit + 1 if unit in (1, 2) else 1)
    return said


def _profile(parts: list[bytes]) -> bytes | None:
    """Number and count stand before each part; readers join them by number."""
    numbered = {part[0]: part[2:] for part in parts if len(part) >= 2}
    count = parts[0][1] if len(parts[0]) >= 2 else 0
    if len(parts) != count or sorted(numbered) != list(range(1, count + 1)):
        return None
    return b"".join(numbered[number] for number in sorted(numbered))


def _read_extension(segments: list[tuple[str, bytes]], said: Said) -> None:
    """Merge extended XMP, whose parts stand in segments of their own, into the packet that names it."""
    name = extension_named(said.xmp) if said.xmp else None
    if said.xmp is None or name is None:
        return
    start = EXTENSION_MARKER + name
    try:
        parts = [body[len(start) :] for kind, body in segments if kind == "APP1" and body.startswith(start)]
        said.xmp = merged(said.xmp, _joined(parts))
    except ValueError as error:
        said.xmp = without_name(said.xmp)
        said.lost.append(f"the extended part of the XMP ({error})")


def _joined(parts: list[bytes]) -> bytes:
    """Whole length and place stand before each part. Raises ValueError where they do not make a whole."""
    placed = {int.from_bytes(part[4:8], "big"): part for part in parts if len(part) >= 8}
    data = b""
    for place in sorted(placed):
        if place == len(data):
            data += placed[place][8:]
    if not placed or any(int.from_bytes(part[:4], "big") != len(data) for part in placed.values()):
        raise ValueError("a part of it is missing")
    return data
