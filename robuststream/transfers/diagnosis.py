"""What a transfer in text mode, or another well-meant one, made of a stream: its name, and undoing it (section 10.3).

Asked only where a file has no intact HEADER or does not begin as a stream does. The guard in each HEADER (section 5)
tells transfers that change line ends apart: each makes other bytes of it. The others are told by how a stream begins
after them. Nothing here is proof: what is undone is read as any file is, and the CRCs and the stream id decide.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from robuststream.checksum import crc32c
from robuststream.container.layout import GUARD, MAX_PACKET_HEADER, PAYLOAD_CRC_BYTES, parse_packet_header
from robuststream.transfers import wrappings
from robuststream.transfers.insertions import CR, LF, Change
from robuststream.transfers.lineends import rebuild
from robuststream.transfers.wrappings import START

#: Where a HEADER is looked for; there is one in each 32 KiB of a stream.
HEAD = 1 << 17
#: Places looked at for an intact one.
MAX_PLACES = 1 << 6
#: Transfers one after the other: a stream that was sent as base64 of a gzip file, and with line ends changed.
MAX_TRANSFERS = 4


class TransferKind(str, Enum):
    """Stable names of what can happen to a file on its way."""

    LF_TO_CRLF = "lf-to-crlf"
    LONE_LF_TO_CRLF = "lone-lf-to-crlf"
    CRLF_TO_LF = "crlf-to-lf"
    CR_DROPPED = "cr-dropped"
    LF_DROPPED = "lf-dropped"
    CR_TO_LF = "cr-to-lf"
    LONE_CR_TO_LF = "lone-cr-to-lf"
    LF_TO_CR = "lf-to-cr"
    LONE_LF_TO_CR = "lone-lf-to-cr"
    CRLF_TO_CR = "crlf-to-cr"
    CR_TO_CRLF = "cr-to-crlf"
    LONE_CR_TO_CRLF = "lone-cr-to-crlf"
    ENDS_TO_LF = "ends-to-lf"
    ENDS_TO_CR = "ends-to-cr"
    ENDS_TO_CRLF = "ends-to-crlf"
    ENDS_DROPPED = "ends-dropped"
    CTRL_Z_DROPPED = "ctrl-z-dropped"
    CTRL_Z_CUT = "ctrl-z-cut"
    NUL_DROPPED = "nul-dropped"
    SEVEN_BITS = "seven-bits"
    QUESTION_MARKS = "question-marks"
    UTF8 = "utf-8"
    UTF8_REPLACED = "utf-8-replaced"
    UTF8_IGNORED = "utf-8-ignored"
    UTF16 = "utf-16"
    BYTE_ORDER_MARK = "byte-order-mark"
    BASE64 = "base64"
    HEX = "hex"
    QUOTED_PRINTABLE = "quoted-printable"
    PERCENT = "percent"
    UUENCODE = "uuencode"
    GZIP = "gzip"
    ZLIB = "zlib"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZIP = "zip"
    ZSTANDARD = "zstd"
    SEVEN_ZIP = "7z"
    SWAPPED_16 = "swapped-16"
    SWAPPED_32 = "swapped-32"
    HTML = "html"
    LFS_POINTER = "git-lfs-pointer"


@dataclass(frozen=True)
class Transfer:
    """What happened to a file.

    Attributes:
        kind: its name; of several, that of the last one.
        message: a sentence for people: what happened, and what to do.
        undoable: whether undoing it can be tried, as far as it goes.
        guessed: what is undone is computed from CRCs, not read: the kind does not say where bytes were changed.
        code: of text, the 8-bit code that the bytes were taken for.
    """

    kind: TransferKind
    message: str
    undoable: bool
    guessed: bool = False
    code: str = ""


def diagnose(data: bytes) -> Transfer | None:
    """What happened to a file that is no stream any more; None where it is one, or nothing known happened.

    The time is linear in the file's size.
    """
    return _diagnose(data, MAX_TRANSFERS)


def undo(data: bytes, transfer: Transfer) -> bytes:
    """The bytes as they were before the transfer that `diagnose` named, as far as that can be undone."""
    kind = transfer.kind
    if kind in _LINE_ENDS:
        return _LINE_ENDS[kind].undo(data)
    made = _unwrap(data, transfer.kind, transfer.code) if kind in _WRAPPINGS else None
    return data if made is None else made


def undone(data: bytes) -> tuple[bytes, Transfer] | None:
    """The bytes with all transfers undone, the last one first, up to MAX_TRANSFERS; and what happened.

    None where nothing happened that is known. Where the last one cannot be undone, `undoable` is False.
    """
    found: list[Transfer] = []
    # What is guessed is the last: where it did not succeed, it shows again.
    while len(found) < MAX_TRANSFERS and (not found or (found[-1].undoable and not found[-1].guessed)):
        transfer = diagnose(data)
        if transfer is None:
            break
        found.append(transfer)
        data = undo(data, transfer)
    if not found:
        return None
    message = "; and before that ".join(transfer.message for transfer in found)
    guessed = any(transfer.guessed for transfer in found)
    return data, Transfer(found[0].kind, message, found[-1].undoable, guessed, found[0].code)


def _diagnose(data: bytes, depth: int) -> Transfer | None:
    head = data[:HEAD]
    if _has_header(head):
        # It may stand in the file as it was, with something around it.
        return _of_wrapping(data, depth, _AROUND)
    return (
        _of_wrapping(data, depth, _WRAPPINGS)
        or _of_line_ends(data)
        or _of_bits(head)
        or _of_text(head)
        or _of_another_file(head)
    )


def _has_header(data: bytes) -> bool:
    """Whether an intact HEADER stands in these bytes."""
    for match in itertools.islice(re.finditer(re.escape(START), data), MAX_PLACES):
        at = match.start()
        parsed = parse_packet_header(data[at : at + MAX_PACKET_HEADER])
        if parsed is not None:
            fields, crc, size = parsed
            end = at + size + fields.length
            stored = data[end : end + PAYLOAD_CRC_BYTES]
            if crc32c(data[at + size : end], crc).to_bytes(PAYLOAD_CRC_BYTES, "little") == stored:
                return True
    return False


# --- Line ends, by the guard ----------------------------------------------------------------------------------------

#: A HEADER up to its first tag: stream id, number, length and CRC-16 may be shorter or longer than they were. No minor
#: version is a byte of the guard.
_FRONT = rb"RSH[\s\S]{3,20}?\x01[^\r\n\x1a]?"
_SIGNATURE = re.compile(rb"\xb7" + _FRONT + rb"([\r\n\x1a]+)\x01")
_STRIPPED = re.compile(rb"[7?]" + _FRONT + re.escape(GUARD) + rb"\x01")
#: Bytes before the guard's 1A, at most.
_BEFORE_1A = MAX_PACKET_HEADER + 2 + GUARD.index(0x1A)


@dataclass(frozen=True)
class _LineEnds:
    """A transfer that changes bytes where they stand.

    Attributes:
        guard: what it makes of the guard.
        what: it did, for people.
        joined: what to make of each CRLF first, where none can be from the stream alone.
        change: what it may have done to each byte besides; None where nothing.
        undoable: whether undoing it can be tried.
    """

    guard: bytes
    what: str
    joined: bytes = b""
    change: Change | None = None
    undoable: bool = True

    def undo(self, data: bytes) -> bytes:
        guard = self.guard
        if self.joined:
            data, guard = data.replace(b"\r\n", self.joined), guard.replace(b"\r\n", self.joined)
        return data if self.change is None else rebuild(data, self.change, guard)


_BEFORE_LF, _BEHIND_CR = Change(insert=CR), Change(insert=LF)
_LF_OR_ANY, _CR_OR_ANY = Change(insert=CR, flip=LF), Change(insert=LF, flip=CR)
_K = TransferKind
_LINE_ENDS = {
    _K.LF_TO_CRLF: _LineEnds(b"\r\r\n\x1a\r\n\r", "turned every LF into CRLF", b"\n"),
    _K.LONE_LF_TO_CRLF: _LineEnds(b"\r\n\x1a\r\n\r", "turned LF into CRLF but where it was CRLF", b"\n", _BEFORE_LF),
    _K.CRLF_TO_LF: _LineEnds(b"\n\x1a\n\r", "turned CRLF into LF", b"", _BEFORE_LF),
    _K.CR_DROPPED: _LineEnds(b"\n\x1a\n", "dropped every CR", b"", Change(CR, anywhere=True)),
    _K.LF_DROPPED: _LineEnds(b"\r\x1a\r", "dropped every LF", b"", Change(LF, anywhere=True)),
    _K.CR_TO_LF: _LineEnds(b"\n\n\x1a\n\n", "turned every CR into LF", b"", Change(flip=LF)),
    _K.LONE_CR_TO_LF: _LineEnds(b"\r\n\x1a\n\n", "turned CR into LF but in CRLF", b"", Change(flip=LF)),
    _K.LF_TO_CR: _LineEnds(b"\r\r\x1a\r\r", "turned every LF into CR", b"", Change(flip=CR)),
    _K.LONE_LF_TO_CR: _LineEnds(b"\r\n\x1a\r\r", "turned LF into CR but in CRLF", b"", Change(flip=CR)),
    _K.CRLF_TO_CR: _LineEnds(b"\r\x1a\n\r", "turned CRLF into CR", b"", _BEHIND_CR),
    _K.CR_TO_CRLF: _LineEnds(b"\r\n\n\x1a\n\r\n", "turned every CR into CRLF", b"\r"),
    _K.LONE_CR_TO_CRLF: _LineEnds(b"\r\n\x1a\n\r\n", "turned CR into CRLF but where it was CRLF", b"\r", _BEHIND_CR),
    _K.ENDS_TO_LF: _LineEnds(b"\n\x1a\n\n", "turned CRLF and CR into LF", b"", _LF_OR_ANY),
    _K.ENDS_TO_CR: _LineEnds(b"\r\x1a\r\r", "turned CRLF and LF into CR", b"", _CR_OR_ANY),
    _K.ENDS_TO_CRLF: _LineEnds(b"\r\n\x1a\r\n\r\n", "turned LF and CR into CRLF", b"\n", _LF_OR_ANY),
    _K.ENDS_DROPPED: _LineEnds(b"\x1a", "dropped every LF and CR", undoable=False),
    _K.CTRL_Z_DROPPED: _LineEnds(b"\r\n\n\r", "dropped every byte 1A (^Z)", b"", Change(0x1A, anywhere=True)),
    _K.NUL_DROPPED: _LineEnds(GUARD, "dropped every byte 00", b"", Change(0, anywhere=True)),
}
_BY_GUARD = {ends.guard: kind for kind, ends in _LINE_ENDS.items()}
_BINARY = "transfer it again in binary mode"


def _of_line_ends(data: bytes) -> Transfer | None:
    for match in _SIGNATURE.finditer(data):
        kind = _BY_GUARD.get(match[1])
        # In each HEADER the number is 0.
        if kind is not None and (kind != _K.NUL_DROPPED or 0 not in data):
            ends = _LINE_ENDS[kind]
            message = f"the file went through a text-mode transfer that {ends.what}: {_BINARY}"
            return Transfer(kind, message, ends.undoable, ends.change is not None)
    if data.startswith(START) and len(data) <= _BEFORE_1A and 0x1A not in data:
        message = f"the file ends in its first HEADER, where a text-mode transfer stops at a byte 1A (^Z): {_BINARY}"
        return Transfer(_K.CTRL_Z_CUT, message, False)
    return None


# --- Bits that are gone ---------------------------------------------------------------------------------------------


def _of_bits(head: bytes) -> Transfer | None:
    """Bytes above 7F are gone: their lowest 7 bits are left, or question marks."""
    found = _STRIPPED.search(head)
    if found is None or not head.isascii():
        return None
    if found[0].startswith(b"?"):
        what = "the file was written as ASCII, and each byte above 7F became a question mark"
        return Transfer(_K.QUESTION_MARKS, f"{what}: {_AGAIN}", False)
    return Transfer(_K.SEVEN_BITS, f"the file went through a transfer of 7 bits a byte: {_BINARY}", False)


# --- Whole files ----------------------------------------------------------------------------------------------------

_AGAIN = "that cannot be undone: copy the original again, as bytes"
_Unwrap = Callable[[bytes], bytes | None]
_TEXT = {_K.UTF8: wrappings.utf8, _K.UTF16: wrappings.utf16}
_WRAPPINGS: dict[TransferKind, tuple[str, _Unwrap | None]] = {
    _K.BYTE_ORDER_MARK: ("a byte order mark was put before the file", wrappings.without_mark),
    _K.UTF8: ("the file was read as text ({code}) and written as UTF-8: copy it as bytes", None),
    _K.UTF16: ("the file was read as text ({code}) and written as UTF-16: copy it as bytes", None),
    _K.BASE64: ("the file is base64 text: decode it first", wrappings.base64),
    _K.HEX: ("the file is a hexadecimal dump: turn it back into bytes first (xxd -r)", wrappings.hexadecimal),
    _K.QUOTED_PRINTABLE: (
        "the file is quoted-printable text, as in a mail: decode it first",
        wrappings.quoted_printable,
    ),
    _K.PERCENT: ("the file is percent-encoded, as in a URL: decode it first", wrappings.percent),
    _K.UUENCODE: ("the file is uuencoded: decode it first", wrappings.uuencoded),
    _K.GZIP: ("the file is compressed with gzip: unpack it first (gunzip)", wrappings.gunzip),
    _K.ZLIB: ("the file is compressed with zlib: unpack it first", wrappings.unzlib),
    _K.BZIP2: ("the file is compressed with bzip2: unpack it first (bunzip2)", wrappings.unbzip2),
    _K.XZ: ("the file is compressed with xz: unpack it first (unxz)", wrappings.unxz),
    _K.ZIP: ("the file is a ZIP archive: unpack it first (unzip)", wrappings.unzip),
    _K.SWAPPED_16: ("the bytes of each pair are swapped (dd conv=swab)", lambda data: wrappings.swapped(data, 2)),
    _K.SWAPPED_32: ("the bytes of each 32-bit word are turned round", lambda data: wrappings.swapped(data, 4)),
}


#: Those in which bytes may stand as they were: behind a mark, or because compressing did not make them fewer.
_AROUND = (_K.BYTE_ORDER_MARK, _K.GZIP, _K.ZLIB, _K.XZ, _K.ZIP)


def _of_wrapping(data: bytes, depth: int, kinds: Iterable[TransferKind]) -> Transfer | None:
    """The wrapping that, taken off, shows a stream or another transfer of one."""
    for kind in kinds:
        message = _WRAPPINGS[kind][0]
        for code in wrappings.CODES if kind in _TEXT else ("",):
            # A ZIP archive has its directory at the end.
            inner = _unwrap(data if kind == _K.ZIP else data[:HEAD], kind, code)
            if inner and (_has_header(inner[:HEAD]) or (depth > 1 and _diagnose(inner, depth - 1) is not None)):
                return Transfer(kind, message.format(code=code), True, code=code)
    return None


def _unwrap(data: bytes, kind: TransferKind, code: str) -> bytes | None:
    take_off = _WRAPPINGS[kind][1]
    return _TEXT[kind](data, code) if take_off is None else take_off(data)


def _of_text(head: bytes) -> Transfer | None:
    """The file was written as text, and bytes that are no text are gone."""
    places = [head.find("\ufffdRSH".encode(form)) for form in ("utf-8", "utf-16-le", "utf-16-be")]
    if any(place >= 0 and START not in head[:place] for place in places):
        what = "the file was read as UTF-8 text, and each byte that was none was replaced"
        return Transfer(_K.UTF8_REPLACED, f"{what}: {_AGAIN}", False)
    if head.startswith(b"RSH") and re.search(re.escape(GUARD), head[: 2 * MAX_PACKET_HEADER]) and _is_utf8(head):
        what = "the file was read as UTF-8 text, and each byte that was none was left out"
        return Transfer(_K.UTF8_IGNORED, f"{what}: {_AGAIN}", False)
    return None


def _is_utf8(head: bytes) -> bool:
    try:
        head[:-4].decode()
    except UnicodeDecodeError:
        return False
    return True


# --- Another file in its place --------------------------------------------------------------------------------------

_OTHERS: Iterable[tuple[TransferKind, tuple[bytes, ...], str]] = (
    (_K.GZIP, (b"\x1f\x8b\x08",), "the file is compressed with gzip, and no stream is found in it"),
    (_K.BZIP2, (b"BZh",), "the file is compressed with bzip2, and no stream is found in it"),
    (_K.XZ, (b"\xfd7zXZ\0",), "the file is compressed with xz, and no stream is found in it"),
    (_K.ZIP, (b"PK\3\4",), "the file is a ZIP archive that is not of a single stream: unpack it first (unzip)"),
    (_K.ZSTANDARD, (b"\x28\xb5\x2f\xfd",), "the file is compressed with Zstandard: unpack it first (unzstd)"),
    (_K.SEVEN_ZIP, (b"7z\xbc\xaf\x27\x1c",), "the file is a 7-Zip archive: unpack it first (7z x)"),
    (
        _K.LFS_POINTER,
        (b"version https://git-lfs.",),
        "the file is a Git LFS pointer and not what it points to: run git lfs pull",
    ),
    (
        _K.HTML,
        (b"<!doctype html", b"<html"),
        "the file is a web page (HTML) and no stream: perhaps a login or an error page was saved in its place",
    ),
)


def _of_another_file(head: bytes) -> Transfer | None:
    begin = head[:64].removeprefix(wrappings.BOMS[0]).lstrip()
    for kind, beginnings, message in _OTHERS:
        if (begin.lower() if kind == _K.HTML else begin).startswith(beginnings):
            return Transfer(kind, message, False)
    return None
