"""The chunks of PNG (third edition) that say something beside the pixels.

Pillow's own reader knows no cICP, and refuses a picture with a profile or text above 1 MiB, by a number that counts for
the whole process. So these chunks are read here, and Pillow is given the file without the compressed ones.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from robuststream.picture.profiles import by_code_points, by_gamma
from robuststream.picture.said import Said

SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: No block of a picture is longer, compressed data that claims to be is a bomb.
LIMIT = 1 << 26
_COMPRESSED = (b"iCCP", b"zTXt", b"iTXt")
_READ = (*_COMPRESSED, b"tEXt", b"eXIf", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs", b"caBX")
_XMP_KEYWORD = "XML:com.adobe.xmp"
#: ImageMagick's way to keep blocks in text, from the time before there were chunks for them.
_RAW = "Raw profile type "
#: Text about the program and the file, not about the picture.
_SAYS_NOTHING = ("Software", "date:create", "date:modify", "date:timestamp")


def said_by_png(data: bytes) -> Said:
    """What the chunks say; those whose checksum does not hold are named, and say nothing."""
    said = Said(icc_read=True)
    gamma: float | None = None
    points: tuple[float, ...] | None = None
    code_points: bytes | None = None
    standard = False
    text: dict[str, None] = {}
    for kind, body, whole in _chunks(data):
        if not whole:
            said.lost.append(f"a damaged chunk ({kind.decode('latin-1')})")
        elif kind == b"iCCP":
            said.icc = _inflated(body.partition(b"\0")[2][1:], "ICC profile", said)
        elif kind == b"eXIf":
            said.exif = body
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            _read_text(kind, body, said, text)
        elif kind == b"gAMA" and len(body) >= 4:
            gamma = int.from_bytes(body[:4], "big") / 100000
        elif kind == b"cHRM" and len(body) >= 32:
            points = tuple(value / 100000 for value in struct.unpack(">8I", body[:32]))
        elif kind == b"sRGB":
            standard = True
        elif kind == b"cICP" and len(body) >= 4:
            code_points = body[:4]
        elif kind == b"pHYs" and len(body) >= 9:
            said.resolution = _resolution(body)
        elif kind == b"caBX":
            said.lost.append("content credentials")
    if text:
        said.lost.append(f"text ({', '.join(text)})")
    if code_points:
        _read_code_points(code_points, said)
    elif not said.icc and not standard:
        said.encoding = by_gamma(gamma, points)
    return said


def without_compressed(data: bytes) -> bytes:
    """The file without the chunks that Pillow holds against its limit; what is cut short stays."""
    parts, start, at = [], 0, len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if kind in _COMPRESSED and end <= len(data):
            parts.append(data[start:at])
            start = end
        at = end
    return b"".join((*parts, data[start:])) if parts else data


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Kind and body of each chunk of a kind that is read here, and whether its checksum holds."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data) or kind == b"IEND":
            return
        if kind in _READ:
            body = data[at + 8 : end - 4]
            yield kind, body, zlib.crc32(body, zlib.crc32(kind)) == int.from_bytes(data[end - 4 : end], "big")
        at = end


def _inflated(data: bytes, what: str, said: Said) -> bytes | None:
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(data, LIMIT)
    except zlib.error:
        said.lost.append(f"a damaged {what}")
        return None
    if stream.unconsumed_tail:
        said.lost.append(f"{what} of more than {LIMIT >> 20} MiB")
        return None
    if not stream.eof:
        said.lost.append(f"a damaged {what}")
        return None
    return plain


def _read_text(kind: bytes, body: bytes, said: Said, text: dict[str, None]) -> None:
    name, _, rest = body.partition(b"\0")
    keyword = name.decode("latin-1")
    what = "XMP" if keyword == _XMP_KEYWORD else f"text ({keyword})"
    value: bytes | None = rest
    if kind == b"zTXt":
        value = _inflated(rest[1:], what, said)
    elif kind == b"iTXt":
        compressed, rest = rest[:1] == b"\1", rest[2:]
        value = rest.split(b"\0", 2)[-1]
        if compressed:
            value = _inflated(value, what, said)
    if value is None:
        return
    if keyword == _XMP_KEYWORD:
        said.xmp = value or None
    elif keyword.startswith(_RAW):
        _read_raw(keyword.removeprefix(_RAW).lower(), value, said)
    elif keyword not in _SAYS_NOTHING:
        text[keyword] = None


def _read_raw(kind: str, text: bytes, said: Said) -> None:
    """A line break, a name, a length, and hexadecimal digits."""
    try:
        block = bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
    except ValueError:
        said.lost.append(f"a damaged block ({kind})")
        return
    marker = b"http://ns.adobe.com/xap/1.0/\0"
    if kind in ("icc", "icm"):
        said.icc = said.icc or block
    elif kind == "exif" or block.startswith(b"Exif\0\0"):
        said.exif = said.exif or block
    elif kind == "xmp" or block.startswith(marker):
        said.xmp = said.xmp or block.removeprefix(marker)
    else:
        said.lost.append(kind.upper())


def _read_code_points(code_points: bytes, said: Said) -> None:
    primaries, transfer, matrix, full = code_points
    if matrix or not full:
        said.lost.append("the narrow range of its values (cICP)" if not full else f"the matrix {matrix} of cICP")
    try:
        encoding = by_code_points(primaries, transfer)
    except ValueError as error:
        said.lost.append(f"cICP ({error})")
        return
    # A profile beside it is there for readers without cICP, and says more than we could.
    if encoding and encoding.high_dynamic_range:
        said.notes.append(f"only 8 bits of its high dynamic range ({encoding.transfer}) are coded")
    said.encoding = encoding if not said.icc else None


def _resolution(body: bytes) -> tuple[float, float, int] | None:
    across, down, unit = struct.unpack(">IIB", body[:9])
    if unit == 1:
        # What was set in inches is whole in inches.
        return round(across * 0.0254, 1), round(down * 0.0254, 1), 2
    return (across, down, 1) if across != down else None
