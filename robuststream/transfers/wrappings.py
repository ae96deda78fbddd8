"""Undoes what is done to whole files on their way: written as text, compressed, put into a mail, bytes swapped.

Each function takes the first bytes of a file, or all of them, and gives what was wrapped, or None where it is not
wrapped in that way. A stream hardly compresses, so nothing that swells far beyond its size is one: it is not unpacked.
"""

from __future__ import annotations

import binascii
import bz2
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

from robuststream.container.layout import SYNC
from robuststream.container.packets import Kind

#: How every stream begins.
START = SYNC + bytes((Kind.HEADER,))
#: At most SWELL times the bytes that go in come out, and SPARE more.
SWELL, SPARE = 4, 1 << 20
#: Bytes fed to a decompressor at a time, and the memory that an xz file may ask for.
PIECE, LZMA_MEMORY = 1 << 16, 1 << 27
#: Parts of a compressed file, each with a beginning of its own.
MAX_PARTS = 1 << 10
#: How many bytes behind the beginning must be text as well.
TEXT = 32

BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")

# --- Text of one byte a character, written in more ------------------------------------------------------------------

#: What bytes are taken for where they are read as text: the 8-bit codes that systems had or have by default. cp1252
#: stands for ISO 8859-1 too: what it leaves out are that one's control characters.
CODES = ("cp1252", "cp437", "cp850", "mac_roman", "cp1250", "cp1251", "cp866", "koi8_r", "iso8859_15", "iso8859_2")


def utf8(data: bytes, code: str) -> bytes | None:
    """Bytes that were read as text of an 8-bit code and written as UTF-8."""
    place = data.find(_start(code).encode())
    # Not what stands in a stream's own metadata.
    if place < 0 or START in data[:place]:
        return None
    return _as_bytes(data.decode(errors="replace"), code)


def utf16(data: bytes, code: str) -> bytes | None:
    """The same, written as UTF-16, of either byte order."""
    for order in ("utf-16-le", "utf-16-be"):
        place = data.find(_start(code).encode(order))
        if place >= 0 and place % 2 == 0 and START not in data[:place]:
            return _as_bytes(data.decode(order, errors="replace"), code)
    return None


def _start(code: str) -> str:
    return "".join(_characters(code)[byte] for byte in START)


@cache
def _characters(code: str) -> list[str]:
    """What each byte is read as; one that the code leaves out, as a control character."""
    return [bytes((byte,)).decode(code, errors="ignore") or chr(byte) for byte in range(256)]


def _as_bytes(text: str, code: str) -> bytes | None:
    back = {ord(character): byte for byte, character in enumerate(_characters(code))}
    # Another code than the one that was taken leaves a tenth and more; damage, a few.
    made = text.removeprefix("\ufeff").translate(back)
    known = made.encode("latin-1", errors="ignore")
    return made.encode("latin-1", errors="replace") if 100 * len(known) > 99 * len(made) else None


def without_mark(data: bytes) -> bytes | None:
    """Behind a byte order mark."""
    mark = next((mark for mark in BOMS if data.startswith(mark + START)), None)
    return None if mark is None else data[len(mark) :]


# --- Bytes as printable text ----------------------------------------------------------------------------------------

_SPACE = b" \t\r\n\f\v"
_DIGITS = b"0123456789ABCDEFabcdef"
_BASE64_LETTERS = bytes(byte for byte in range(128) if chr(byte).isalnum()) + b"+/-_="
_BASE64 = re.compile(rb"(?:^|[\s,;:\"'>])(?=t1JTS)", re.ASCII)
#: The end of what is base64: padding, a line of hyphens in a mail, a quotation mark or an element's end around it.
_BASE64_END = re.compile(rb"[=\"'<>]|[\r\n]--")
#: The two letters that URLs have instead become the usual ones. What is no letter becomes an A, so that all behind it
#: keeps its place.
_BASE64_PLAIN = bytes(
    b"+/"[b"-_".index(byte)] if byte in b"-_" else byte if byte in _BASE64_LETTERS else 65 for byte in range(256)
)
_HEX_PLAIN = bytes(byte if byte in _DIGITS else 48 for byte in range(256))
_XXD = re.compile(rb"^[0-9A-Fa-f]+: ((?:[0-9A-Fa-f]{2} ?)+)(?:  |\r?$)", re.MULTILINE)
_HEXDUMP = re.compile(rb"^[0-9A-Fa-f]+  ((?:[0-9A-Fa-f]{2} {1,2})+) *\|", re.MULTILINE)
_UU = re.compile(rb"^begin [0-7]{3,4} [^\n]*\n", re.MULTILINE)


def _is_text(data: bytes, start: int) -> bool:
    """Whether `data` is ASCII up to `start` and some bytes on. Damage may have put other bytes behind."""
    return start >= 0 and data[: start + TEXT].isascii()


def base64(data: bytes) -> bytes | None:
    """Base64, also with the letters for URLs, with line breaks, behind the headers of a mail or a data: URI."""
    found = _BASE64.search(data)
    found = found if found is not None and _is_text(data, found.end()) else None
    if found is None and data.translate(None, _BASE64_LETTERS + _SPACE):
        return None
    text = data[found.end() :] if found is not None else data
    end = _BASE64_END.search(text)
    text = text[: end.start() if end else None].translate(_BASE64_PLAIN, _SPACE)
    text = text[: len(text) - (len(text) % 4 == 1)]
    return binascii.a2b_base64(text + b"=" * (-len(text) % 4))


def hexadecimal(data: bytes) -> bytes | None:
    """Pairs of digits, with spaces, commas or the like between them; or the dump of xxd or hexdump -C."""
    for form in (_XXD, _HEXDUMP):
        if form.match(data):
            return bytes.fromhex(b" ".join(form.findall(data)).decode())
    plain = data.replace(b"0x", b"").translate(None, _SPACE + b":,;{}-")
    if plain.translate(None, _DIGITS) and not plain.lower().startswith(START.hex().encode()):
        return None
    return bytes.fromhex(plain[: len(plain) // 2 * 2].translate(_HEX_PLAIN).decode())


def quoted_printable(data: bytes) -> bytes | None:
    start = data.upper().find(b"=B7RSH")
    return binascii.a2b_qp(data[start:]) if _is_text(data, start) else None


def percent(data: bytes) -> bytes | None:
    """As in a URL."""
    start = data.upper().find(b"%B7RSH")
    if not _is_text(data, start):
        return None
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(data[start:].replace(b"+", b" "))


def uuencoded(data: bytes) -> bytes | None:
    begin = _UU.search(data)
    if begin is None or not _is_text(data, begin.end()):
        return None
    made = []
    for line in filter(None, data[begin.end() :].partition(b"\nend")[0].splitlines()):
        try:
            made.append(binascii.a2b_uu(line))
        except binascii.Error:
            # The line's first character says how many bytes it has.
            made.append(bytes(line[0] - 32 & 63))
    return b"".join(made)


# --- Compressed -----------------------------------------------------------------------------------------------------


def gunzip(data: bytes) -> bytes | None:
    return _unpack(data, b"\x1f\x8b", lambda: zlib.decompressobj(31))


def unzlib(data: bytes) -> bytes | None:
    return _unpack(data, b"\x78", zlib.decompressobj)


def unbzip2(data: bytes) -> bytes | None:
    return _unpack(data, b"BZh", bz2.BZ2Decompressor)


def unxz(data: bytes) -> bytes | None:
    return _unpack(data, b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(memlimit=LZMA_MEMORY))


def _unpack(data: bytes, magic: bytes, make: Callable[[], Any]) -> bytes | None:
    """What can be unpacked; None where that is nothing, or too much."""
    most = SPARE + SWELL * len(data)
    out, at = bytearray(), 0
    for _ in range(MAX_PARTS):
        if not data.startswith(magic, at):
            break
        decompressor = make()
        while at < len(data) and not decompressor.eof:
            piece = data[at : at + PIECE]
            try:
                out += decompressor.decompress(piece, most + 1 - len(out))
            except (zlib.error, lzma.LZMAError, OSError):
                return bytes(out) or None
            if len(out) > most:
                return None
            at += len(piece) - len(decompressor.unused_data)
    return bytes(out) or None


def unzip(data: bytes) -> bytes | None:
    """The only file in a ZIP archive. It takes the whole archive, for its directory stands at the end."""
    if not data.startswith(b"PK\3\4"):
        return None
    most = SPARE + SWELL * len(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = [item for item in archive.infolist() if not item.is_dir()]
            if len(files) != 1 or files[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                return None
            with archive.open(files[0]) as file:
                made = file.read(most + 1)
    # What a directory says of sizes and places may be beyond what Python can count in.
    except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError, EOFError, ValueError, OverflowError):
        return None
    return made if len(made) <= most else None


# --- Bytes in another order -----------------------------------------------------------------------------------------


def swapped(data: bytes, size: int) -> bytes | None:
    """With the bytes of each word of `size` bytes in reverse order; a rest at the end stays."""
    out = bytearray(data)
    whole = len(data) // size * size
    for place in range(size):
        out[place:whole:size] = data[size - 1 - place : whole : size]
    return bytes(out) if START in out else None
