"""Streams that a transfer in text mode, or another well-meant one, went over: each is named; what can be undone, is.

Kinds and streams in turn: trials 0 to N - 1 are the N kinds of the first stream. Streams are of windows of photographs.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import gzip
import io
import lzma
import quopri
import re
import urllib.parse
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from bars.common import photo_paths, pixels_of

import robuststream as rs
from campaigns.common import Random
from robuststream.container.report import PROVEN, Rule
from robuststream.container.stream import Stream
from robuststream.errors import RobustStreamError
from robuststream.picture.concealment import Mask
from robuststream.transfers.diagnosis import TransferKind as Kind
from robuststream.transfers.diagnosis import undone
from robuststream.transfers.reading import read_stream

SAMPLES = Path(rs.__file__).parent / "samples"
#: Sides of pictures and tiles, in pixels.
SIDES, TILES = (40, 520), (64, 128, 256)
STREAMS = 200
#: Every so many trials are whole decodes.
WHOLE = 37

# --- Transfers ------------------------------------------------------------------------------------------------------


def _lone_lf(data: bytes, made: bytes) -> bytes:
    """LF, but in CRLF, becomes another end."""
    return re.sub(rb"(?<!\r)\n", made, data)


def _lone_cr(data: bytes, made: bytes) -> bytes:
    return re.sub(rb"\r(?!\n)", made, data)


def _ends(data: bytes, end: bytes) -> bytes:
    """Every CRLF, CR and LF becomes the same."""
    return re.sub(rb"\r\n|\r|\n", end, data)


def as_text(data: bytes, code: str) -> str:
    """Bytes taken for characters; one that the code leaves out, as a control character."""
    return "".join(bytes((byte,)).decode(code, errors="ignore") or chr(byte) for byte in data)


def _mail(data: bytes) -> bytes:
    head = b'MIME-Version: 1.0\r\nContent-Type: image/x; boundary="b"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    return head + base64.encodebytes(data).replace(b"\n", b"\r\n") + b"--b--\r\n"


def _lines(data: bytes, size: int) -> Iterator[tuple[int, bytes, bytes]]:
    for at in range(0, len(data), size):
        line = data[at : at + size]
        yield at, line, bytes(byte if 32 <= byte < 127 else 46 for byte in line)


def _xxd(data: bytes) -> bytes:
    return b"".join(
        b"%08x: %-39b  %b\n" % (at, line.hex(" ", -2).encode(), shown) for at, line, shown in _lines(data, 16)
    )


def _hexdump(data: bytes) -> bytes:
    return b"".join(
        b"%08x  %-48b  |%b|\n" % (at, b"%b  %b" % (line[:8].hex(" ").encode(), line[8:].hex(" ").encode()), shown)
        for at, line, shown in _lines(data, 16)
    )


def _uuencoded(data: bytes) -> bytes:
    lines = b"".join(binascii.b2a_uu(data[at : at + 45]) for at in range(0, len(data), 45))
    return b"begin 644 picture.robs\n" + lines + b"`\nend\n"


def _zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("picture.robs", data)
    return file.getvalue()


def _swapped(data: bytes, size: int) -> bytes:
    whole = len(data) // size * size
    return np.frombuffer(data[:whole], np.uint8).reshape(-1, size)[:, ::-1].tobytes() + data[whole:]


#: By name: the kind that is to be named, and what does it.
TRANSFERS: dict[str, tuple[Kind, Callable[[bytes], bytes]]] = {
    "LF to CRLF": (Kind.LF_TO_CRLF, lambda data: data.replace(b"\n", b"\r\n")),
    "lone LF to CRLF": (Kind.LONE_LF_TO_CRLF, lambda data: _lone_lf(data, b"\r\n")),
    "CRLF to LF": (Kind.CRLF_TO_LF, lambda data: data.replace(b"\r\n", b"\n")),
    "CR dropped": (Kind.CR_DROPPED, lambda data: data.replace(b"\r", b"")),
    "LF dropped": (Kind.LF_DROPPED, lambda data: data.replace(b"\n", b"")),
    "CR to LF": (Kind.CR_TO_LF, lambda data: data.replace(b"\r", b"\n")),
    "lone CR to LF": (Kind.LONE_CR_TO_LF, lambda data: _lone_cr(data, b"\n")),
    "LF to CR": (Kind.LF_TO_CR, lambda data: data.replace(b"\n", b"\r")),
    "lone LF to CR": (Kind.LONE_LF_TO_CR, lambda data: _lone_lf(data, b"\r")),
    "CRLF to CR": (Kind.CRLF_TO_CR, lambda data: data.replace(b"\r\n", b"\r")),
    "CR to CRLF": (Kind.CR_TO_CRLF, lambda data: data.replace(b"\r", b"\r\n")),
    "lone CR to CRLF": (Kind.LONE_CR_TO_CRLF, lambda data: _lone_cr(data, b"\r\n")),
    "all ends to LF": (Kind.ENDS_TO_LF, lambda data: _ends(data, b"\n")),
    "all ends to CR": (Kind.ENDS_TO_CR, lambda data: _ends(data, b"\r")),
    "all ends to CRLF": (Kind.ENDS_TO_CRLF, lambda data: _ends(data, b"\r\n")),
    "all ends dropped": (Kind.ENDS_DROPPED, lambda data: _ends(data, b"")),
    "^Z dropped": (Kind.CTRL_Z_DROPPED, lambda data: data.replace(b"\x1a", b"")),
    "cut at ^Z": (Kind.CTRL_Z_CUT, lambda data: data[: data.index(b"\x1a")]),
    "NUL dropped": (Kind.NUL_DROPPED, lambda data: data.replace(b"\0", b"")),
    "7 bits": (Kind.SEVEN_BITS, lambda data: bytes(byte & 0x7F for byte in data)),
    "question marks": (Kind.QUESTION_MARKS, lambda data: data.decode("latin-1").encode("ascii", "replace")),
    "UTF-8 of ISO 8859-1": (Kind.UTF8, lambda data: data.decode("latin-1").encode()),
    "UTF-8 of Windows-1252": (Kind.UTF8, lambda data: as_text(data, "cp1252").encode()),
    "UTF-8 of CP437": (Kind.UTF8, lambda data: as_text(data, "cp437").encode()),
    "UTF-8 of Windows-1250": (Kind.UTF8, lambda data: as_text(data, "cp1250").encode()),
    "UTF-8 with a mark": (Kind.UTF8, lambda data: data.decode("latin-1").encode("utf-8-sig")),
    "UTF-8 twice": (Kind.UTF8, lambda data: as_text(data.decode("latin-1").encode(), "cp1252").encode()),
    "UTF-8 with ends to LF": (Kind.UTF8, lambda data: _ends(data, b"\n").decode("latin-1").encode()),
    "UTF-8, others replaced": (Kind.UTF8_REPLACED, lambda data: data.decode(errors="replace").encode()),
    "UTF-8, others ignored": (Kind.UTF8_IGNORED, lambda data: data.decode(errors="ignore").encode()),
    "UTF-16 with a mark": (Kind.UTF16, lambda data: as_text(data, "cp437").encode("utf-16")),
    "UTF-16, high byte first": (Kind.UTF16, lambda data: data.decode("latin-1").encode("utf-16-be")),
    "byte order mark": (Kind.BYTE_ORDER_MARK, lambda data: b"\xef\xbb\xbf" + data),
    "base64": (Kind.BASE64, base64.b64encode),
    "base64 in lines": (Kind.BASE64, base64.encodebytes),
    "base64 for URLs": (Kind.BASE64, base64.urlsafe_b64encode),
    "base64 in a mail": (Kind.BASE64, _mail),
    "base64 in a data URI": (Kind.BASE64, lambda data: b"data:image/x;base64," + base64.b64encode(data)),
    "base64 of gzip": (Kind.BASE64, lambda data: base64.b64encode(gzip.compress(data, mtime=0))),
    "hex": (Kind.HEX, lambda data: data.hex().encode()),
    "hex with spaces": (Kind.HEX, lambda data: data.hex(" ").upper().encode()),
    "xxd": (Kind.HEX, _xxd),
    "hexdump -C": (Kind.HEX, _hexdump),
    "quoted-printable": (Kind.QUOTED_PRINTABLE, quopri.encodestring),
    "quoted-printable of bytes": (Kind.QUOTED_PRINTABLE, lambda data: binascii.b2a_qp(data, istext=False)),
    "percent-encoded": (Kind.PERCENT, lambda data: urllib.parse.quote_from_bytes(data).encode()),
    "uuencoded": (Kind.UUENCODE, _uuencoded),
    "gzip": (Kind.GZIP, lambda data: gzip.compress(data, mtime=0)),
    "gzip of LF to CRLF": (Kind.GZIP, lambda data: gzip.compress(data.replace(b"\n", b"\r\n"), mtime=0)),
    "zlib": (Kind.ZLIB, zlib.compress),
    "bzip2": (Kind.BZIP2, bz2.compress),
    "xz": (Kind.XZ, lzma.compress),
    "ZIP": (Kind.ZIP, _zipped),
    "swapped pairs": (Kind.SWAPPED_16, lambda data: _swapped(data, 2)),
    "swapped 32-bit words": (Kind.SWAPPED_32, lambda data: _swapped(data, 4)),
}
#: Those after which the bytes can be had back whatever they are, but for line ends that were changed before.
WHOLLY = (
    *(Kind.LF_TO_CRLF, Kind.CR_TO_CRLF, Kind.UTF8, Kind.UTF16, Kind.BYTE_ORDER_MARK, Kind.BASE64, Kind.HEX),
    *(Kind.QUOTED_PRINTABLE, Kind.PERCENT, Kind.UUENCODE, Kind.GZIP, Kind.ZLIB, Kind.BZIP2, Kind.XZ, Kind.ZIP),
    *(Kind.SWAPPED_16, Kind.SWAPPED_32),
)
#: Those after which nothing is left that could be undone.
NOTHING = (
    *(Kind.ENDS_DROPPED, Kind.CTRL_Z_CUT, Kind.SEVEN_BITS, Kind.QUESTION_MARKS, Kind.UTF8_REPLACED),
    Kind.UTF8_IGNORED,
)

# --- The campaign ---------------------------------------------------------------------------------------------------


class Transfers:
    """A transfer a trial; kinds in turn, then streams."""

    def __init__(self, photos: Path) -> None:
        torch.set_num_threads(1)
        self.paths = photo_paths(photos if photos.is_dir() else SAMPLES)
        self.model = rs.load_model()
        self.written = lru_cache(1)(self._written)

    def _written(self, number: int) -> tuple[bytes, Stream]:
        """The stream of a window of a photograph."""
        random = np.random.default_rng([5, number])
        pixels = pixels_of(self.paths[number % len(self.paths)])
        height, width = (int(side) for side in random.integers(*SIDES, 2))
        top, left = (
            int(random.integers(max(1, have - side)))
            for have, side in zip(pixels.shape[:2], (height, width), strict=True)
        )
        window = pixels[top : top + height, left : left + width]
        data = rs.encode(window, self.model, tile=int(random.choice(TILES)))
        return data, read_stream(data)

    def __len__(self) -> int:
        return STREAMS * len(TRANSFERS)

    def trial(self, number: int, random: Random, counts: Counter[str]) -> tuple[str, list[str]]:
        name = list(TRANSFERS)[number % len(TRANSFERS)]
        data, written = self.written(number // len(TRANSFERS))
        hurt = TRANSFERS[name][1](data)
        wrong = list(self._wrong(name, hurt, data, written, counts))
        if number % WHOLE == 0:
            wrong += self._decoded(hurt, data)
        return f"{name}: {len(data)} bytes of {written.header.tiles} tiles", wrong

    def _wrong(self, name: str, hurt: bytes, data: bytes, written: Stream, counts: Counter[str]) -> Iterator[str]:
        kind = TRANSFERS[name][0]
        moved = undone(hurt)
        if moved is None or moved[1].kind != kind:
            yield f"named {moved[1].kind.value if moved else 'nothing'}, and not {kind.value}"
            return
        counts[f"{name}: named"] += 1
        if moved[1].undoable == (kind in NOTHING):
            yield "what can be undone is said not to be, or the other way round"
        counts[f"{name}: undone to the byte"] += moved[0] == data
        if kind in WHOLLY and name != "UTF-8 with ends to LF" and moved[0] != data:
            yield "could be undone, and was not"
        try:
            stream = read_stream(hurt)
        except RobustStreamError as error:
            if moved[1].message not in str(error):
                yield f"the error does not say what happened: {error}"
        except Exception as error:
            yield f"foreign exception, {type(error).__name__}: {error}"
        else:
            tiles, header = written.tiles, written.header
            counts[f"{name}: tiles"] += header.tiles
            counts[f"{name}: tiles whose CRCs hold"] += len(stream.tiles)
            counts[f"{name}: tiles of which z is proven"] += len(stream.salvaged)
            if len(stream.tiles) == header.tiles and not stream.unproven:
                counts[f"{name}: tiles that the stream id proves"] += header.tiles
            if stream.header != header or any(bytes(t.words) != bytes(tiles[i].words) for i, t in stream.tiles.items()):
                yield "a header or a tile that was not written"
            if stream.report.intact or Rule.TRANSFER not in {finding.rule for finding in stream.report.findings}:
                yield "the report does not say what happened"

    def _decoded(self, hurt: bytes, data: bytes) -> Iterator[str]:
        """What a whole decode calls proven is that of the stream as it was."""
        right = rs.decode(data, self.model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rs.DamageWarning)
            try:
                out = rs.decode(hurt, self.model)
            except RobustStreamError:
                return
        if out.report.intact or (all(tile.outcome in PROVEN for tile in out.report.tiles) != bool(out.report.verified)):
            yield "called intact, or not verified with every tile proven"
        sure = torch.from_numpy(out.mask <= Mask.REPAIRED)
        if not torch.equal(out.tensor[:, sure], right.tensor[:, sure]):
            yield "pixels are wrong in silence"
