"""The boxes of AVIF, HEIF (ISO/IEC 23008-12) and JPEG 2000 (ISO/IEC 15444-1): what Pillow does not tell of them.

Pillow gives their pixels in 8 bits without a word on how many there were, and says nothing of code points of colour,
nor of JPEG 2000's profile, EXIF and XMP.
"""

from __future__ import annotations

from collections.abc import Iterator

from robuststream.picture.profiles import by_code_points
from robuststream.picture.said import Said

_EXIF = bytes.fromhex("4a706754696666457869662d3e4a5032")
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
#: Enumerated colour spaces of JPEG 2000 that Pillow's pixels are in, or are brought from.
_COMMON_SPACES = (0, 12, 15, 16, 17, 18)
_SPACES = {14: "CIELab", 20: "e-sRGB", 21: "ROMM RGB", 24: "e-sYCC"}
_CODESTREAM = b"\xff\x4f\xff\x51"


def said_by_heif(data: bytes) -> Said:
    """Of an AVIF or HEIF file: bits and code points of the picture that is shown first."""
    said = Said()
    meta = dict(_boxes(data)).get(b"meta", b"")[4:]
    for kind, body in _properties(meta):
        if kind == b"pixi" and len(body) > 5:
            said.bits = max([said.bits, *body[5 : 5 + body[4]]])
        elif kind == b"av1C" and len(body) > 2:
            said.bits = max(said.bits, 12 if body[2] & 0x20 else 10 if body[2] & 0x40 else 8)
        elif kind == b"hvcC" and len(body) > 17:
            said.bits = max(said.bits, 8 + (body[17] & 7))
        elif kind == b"colr" and body[:4] == b"nclx" and len(body) >= 8:
            _read_code_points(int.from_bytes(body[4:6], "big"), int.from_bytes(body[6:8], "big"), said)
    if b"tmap" in data[:64]:
        said.lost.append("a gain map")
    return said


def said_by_jpeg2000(data: bytes) -> Said:
    said = Said()
    if data.startswith(_CODESTREAM):
        said.bits = _bits(data)
        return said
    for kind, body in _boxes(data):
        if kind == b"jp2h":
            _read_header(body, said)
        elif kind == b"jp2c":
            said.bits = max(said.bits, _bits(body))
        elif kind == b"uuid" and body.startswith(_EXIF):
            said.exif = body[16:]
        elif kind == b"uuid" and body.startswith(_XMP):
            said.xmp = body[16:]
        elif kind == b"uuid":
            said.lost.append(f"a box of its own kind ({body[:16].hex()})")
        elif kind == b"xml ":
            said.lost.append("XML beside XMP")
    return said


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of each whole box."""
    at = 0
    while at + 8 <= len(data):
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = len(data) - at
        if size < head or at + size > len(data):
            return
        yield kind, data[at + head : at + size]
        at += size


# --- HEIF -----------------------------------------------------------------------------------------------------------


def _properties(meta: bytes) -> list[tuple[bytes, bytes]]:
    """Of the primary item; of all items where it is not said which."""
    inside = dict(_boxes(meta))
    primary = inside.get(b"pitm", b"")
    item = int.from_bytes(primary[4:8] if primary[:1] == b"\1" else primary[4:6], "big")
    parts = list(_boxes(inside.get(b"iprp", b"")))
    every = [box for kind, body in parts if kind == b"ipco" for box in _boxes(body)]
    chosen = [number for kind, body in parts if kind == b"ipma" for number in _associated(body, item)]
    return [every[number - 1] for number in chosen if 0 < number <= len(every)] if chosen else every


def _associated(body: bytes, item: int) -> list[int]:
    """Numbers of an item's properties, from 1."""
    wide, long = (4 if body[:1] != b"\0" else 2), (2 if body[3:4] and body[3] & 1 else 1)
    at = 8
    while at + wide < len(body):
        count = body[at + wide]
        start, end = at + wide + 1, at + wide + 1 + count * long
        if int.from_bytes(body[at : at + wide], "big") == item:
            mask = 0x7FFF if long == 2 else 0x7F
            return [int.from_bytes(body[place : place + long], "big") & mask for place in range(start, end, long)]
        at = end
    return []


def _read_code_points(primaries: int, transfer: int, said: Said) -> None:
    try:
        said.encoding = by_code_points(primaries, transfer)
    except ValueError as error:
        said.lost.append(str(error))
        return
    if said.encoding and said.encoding.high_dynamic_range:
        said.notes.append(f"only 8 bits of its high dynamic range ({said.encoding.transfer}) are coded")


# --- JPEG 2000 ------------------------------------------------------------------------------------------------------


def _read_header(body: bytes, said: Said) -> None:
    for kind, part in _boxes(body):
        if kind == b"colr" and part[:1] in (b"\2", b"\3"):
            said.icc = said.icc or part[3:]
        elif kind == b"colr" and part[:1] == b"\1" and len(part) >= 7:
            space = int.from_bytes(part[3:7], "big")
            if space not in _COMMON_SPACES:
                name = _SPACES.get(space, f"number {space}")
                said.lost.append(f"its colour space ({name}), taken for sRGB")


def _bits(codestream: bytes) -> int:
    """The most bits of any component, from the marker SIZ."""
    count = int.from_bytes(codestream[40:42], "big")
    return max([8, *((value & 0x7F) + 1 for value in codestream[42 : 42 + 3 * count : 3])])
