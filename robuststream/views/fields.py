"""Every field of a packet by name, with its place and value (spec/format.md, sections 4 to 8 and 19)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import construct as c

from robuststream.checksum import crc32c
from robuststream.container import layout
from robuststream.container.packets import Colour, Header, Kind, MetadataType, Mode, kind_name
from robuststream.container.parity import parse_description, repair_sum
from robuststream.container.tiles import STATE_WORDS, WORD, checkpoint_crc, piece_sum, pieces
from robuststream.views.parts import Part
from robuststream.views.text import printable

#: Of a long field, so many bytes are shown.
SHOWN_BYTES = 16
#: Of a packet; the rest is one field. (A picture of 2^28 pixels has 4096 tiles, and its INDEX as many distances.)
MAX_FIELDS = 6000
#: Where all packets are wanted at once, those behind so many fields have none.
MAX_TOTAL = 1 << 18


@dataclass(frozen=True)
class Field:
    """`start` and `end` are file positions, in bytes. `fault` says what is wrong with it, or is empty."""

    name: str
    start: int
    end: int
    value: str
    fault: str = ""


class _CutOffError(Exception):
    """The part ends inside a field."""


def dissect(data: bytes, part: Part, header: Header, identity: bytes) -> list[Field]:
    """The fields of a packet, damaged or not, as far as its bytes are there; none of a gap.

    Args:
        data: the file.
        header: the one that counts; the structure of a TILE depends on it.
        identity: its stream id; a TILE of another stream is not looked into.
    """
    if part.kind is None:
        return []
    walk = _Walk(data, part)
    try:
        _packet(walk, part, header, identity)
    except _CutOffError:
        there = f"{part.size} of {part.declared} bytes are there"
        walk.fields.append(Field("(cut off)", walk.at, part.end, _hex(data[walk.at : part.end]), there))
    return walk.fields


def dissect_all(data: bytes, parts: Sequence[Part], header: Header, identity: bytes) -> list[list[Field]]:
    """The fields of each part, up to a number of fields that a hostile file cannot fill the memory with."""
    room = MAX_TOTAL
    found = []
    for part in parts:
        found.append(dissect(data, part, header, identity) if room > 0 else [])
        room -= len(found[-1])
    return found


class _Walk:
    """Reads on, field by field."""

    def __init__(self, data: bytes, part: Part) -> None:
        self.data = data
        self.at = part.start
        #: Nothing is read behind it.
        self.limit = part.end
        self.fields: list[Field] = []

    def take(self, name: str, size: int, show: Callable[[bytes], str] | None = None) -> bytes:
        """A field of so many bytes, and its value."""
        if self.at + size > self.limit:
            raise _CutOffError
        raw = self.data[self.at : self.at + size]
        self._add(name, raw, (show or _hex)(raw))
        return raw

    def number(self, name: str, size: int, show: str = "{}") -> int:
        """A little-endian number of so many bytes."""
        return int.from_bytes(self.take(name, size, lambda raw: show.format(int.from_bytes(raw, "little"))), "little")

    def varint(self, name: str, show: Callable[[int], str] = str) -> int:
        raw = self.data[self.at : min(self.at + 5, self.limit)]
        size = next((count for count, byte in enumerate(raw, 1) if byte < 0x80), None)
        if size is None:
            raise _CutOffError
        try:
            value: int = layout.VarInt.parse(raw[:size])
        except c.ConstructError:
            self._add(name, raw[:size], _hex(raw[:size]), "not in its shortest form")
            raise _CutOffError from None
        self._add(name, raw[:size], show(value))
        return value

    def rest(self, name: str, end: int) -> None:
        """What is left up to `end`, if anything is."""
        if self.at < min(end, self.limit):
            self.take(name, min(end, self.limit) - self.at)

    def blame(self, fault: str, back: int = 1) -> None:
        """Say what is wrong with the last field, or one before it."""
        last = self.fields[-back]
        self.fields[-back] = Field(last.name, last.start, last.end, last.value, fault)

    def _add(self, name: str, raw: bytes, value: str, fault: str = "") -> None:
        self.fields.append(Field(name, self.at, self.at + len(raw), value, fault))
        self.at += len(raw)


def _packet(walk: _Walk, part: Part, header: Header, identity: bytes) -> None:
    """Section 4. The packet header's CRC-16 holds: without it there would be no part."""
    start, end = part.payload
    walk.take("sync", len(layout.SYNC))
    walk.number("kind", 1, f"{{:#04x}} ({kind_name(part.kind or 0)})")
    walk.take("stream id", 4, bytes.hex)
    walk.varint("number")
    walk.varint("length", lambda length: f"{length} bytes of payload")
    fields = walk.data[part.start + len(layout.SYNC) : walk.at]
    walk.number("CRC-16", 2, "{:#06x}")
    # A payload's structure must not lead into what is behind it.
    walk.limit = min(end, part.end)
    inside = {
        Kind.HEADER: _header,
        Kind.METADATA: _metadata,
        Kind.INDEX: _index,
        Kind.PARITY: _parity,
    }
    try:
        if part.kind == Kind.TILE and part.stream_id == identity:
            _tile(walk, part, header)
        elif part.kind in inside:
            inside[Kind(part.kind)](walk, part)
        walk.rest("payload" if walk.at == start else "bytes left over", end)
    except _CutOffError:
        if end > part.end:
            raise
        walk.rest("(not readable)", end)
    walk.limit = part.end
    if end > part.end:
        raise _CutOffError
    right = crc32c(walk.data[start:end], crc32c(fields))
    if walk.number("CRC-32C", 4, "{:#010x}") != right:
        walk.blame(f"computed {right:#010x}")


# --- Section 5: HEADER ---------------------------------------------------------------------------------------------


def _numbered(names: type[Mode] | type[Colour]) -> Callable[[Any], str]:
    return lambda value: f"{value} ({names(value).name.lower()})" if value in list(names) else f"{value} (unknown)"


_TAGS: dict[int, tuple[str, Any, Callable[[Any], str]]] = {
    layout.TAG_SIZE: ("picture size", layout.SIZE, lambda size: f"{size.width} x {size.height} pixels"),
    layout.TAG_NAME: ("model name", c.GreedyBytes, lambda name: printable(name.decode(errors="replace"))),
    layout.TAG_TILE: ("tile", layout.NUMBER, "{} pixels".format),
    layout.TAG_METADATA: ("metadata packets", layout.NUMBER, str),
    layout.TAG_PARAMETERS: ("parameters digest", layout.DIGEST, bytes.hex),
    layout.TAG_SYNTHESIS: ("synthesis digest", layout.DIGEST, bytes.hex),
    layout.TAG_PARITY: ("parity", layout.NUMBER, "{} for each 1000 symbols".format),
    layout.TAG_MODE: ("mode", layout.NUMBER, _numbered(Mode)),
    layout.TAG_COLOUR: ("colour", layout.NUMBER, _numbered(Colour)),
    layout.TAG_Z_CHECKPOINT: ("checkpoint after z", layout.NUMBER, str),
    layout.TAG_QUALITY: ("quality", layout.NUMBER, str),
    layout.TAG_CHECKPOINTS: ("checkpoints in y", layout.NUMBER, str),
}


def _header(walk: _Walk, part: Part) -> None:
    walk.take("version", 2, lambda raw: f"{raw[0]}.{raw[1]}")
    if walk.take("guard", len(layout.GUARD)) != layout.GUARD:
        walk.blame("breaks the format's rules")
    while walk.at < part.payload[1] and len(walk.fields) < MAX_FIELDS:
        start = walk.at
        # One field for tag, size and value: the name says the tag.
        tag, size = walk.varint("tag"), walk.varint("size")
        walk.take("value", size)
        del walk.fields[-3:]
        raw = walk.data[walk.at - size : walk.at]
        need = "critical" if tag & 1 else "may be skipped"
        name, form, show = _TAGS.get(tag, (f"unknown, {need}", c.GreedyBytes, _hex))
        try:
            value, fault = show(form.parse(raw)), ""
        except c.ConstructError:
            value, fault = _hex(raw), "breaks the format's rules"
        walk.fields.append(Field(f"tag {tag}, {name}", start, walk.at, value, fault))


# --- Section 6: TILE -----------------------------------------------------------------------------------------------


def _tile(walk: _Walk, part: Part, header: Header) -> None:
    z_words = None
    if header.z_checkpoint:
        z_words = walk.varint("checkpoint: seam", "{} words, with the state's 2".format)
        stored = walk.number("checkpoint: CRC", 4, "{:#010x}")
        seam = len(walk.fields) - 1
    digests = []
    if header.mode == Mode.NATIVE:
        count = walk.number("earlier digests", 1)
        digests = [walk.number(f"digest of group {group}", 4, "{:#010x}") for group in range(count)]
    digests.append(walk.number("context digest", 4, "{:#010x}"))
    sums = [
        (len(walk.fields), walk.number(f"sum of y, part {number + 1}", 2, "{:#06x}"))
        for number in range(header.checkpoints)
    ]
    begin, end = walk.at, part.payload[1]
    words = walk.data[begin : min(end, walk.limit)]
    if z_words is not None:
        prefix = words[: z_words * WORD]
        right = checkpoint_crc(header, part.stream_id, part.number, prefix)
        holds = right == stored and len(prefix) == z_words * WORD
        _words(walk, z_words, "" if holds else "its checkpoint fails")
        if not holds:
            walk.blame(f"computed {right:#010x}", len(walk.fields) - seam)
    ends = pieces(header, end - begin, z_words)
    for number, ((start, stop), (place, stored)) in enumerate(zip(ends, sums, strict=True)):
        piece = words[start:stop]
        right = piece_sum(header, part.stream_id, part.number, number, digests, piece)
        name = f"y words, part {number + 1} of {header.checkpoints + 1}"
        walk.take(name, stop - start, _count)
        if right != stored:
            walk.blame("its sum fails")
            walk.blame(f"computed {right:#06x}", len(walk.fields) - place)
    name = "words" if z_words is None else "y words"
    last = f", part {header.checkpoints + 1} of {header.checkpoints + 1}" if header.checkpoints else ""
    walk.take(name + last, (end - walk.at) // WORD * WORD, _count)


def _words(walk: _Walk, z_words: int, fault: str) -> None:
    """The words up to the seam. The state is z's and y's."""
    for name, count in (("state words", STATE_WORDS), ("z words", z_words - STATE_WORDS)):
        if count > 0:
            walk.take(name, count * WORD, _count)
            if fault:
                walk.blame(fault)


# --- Sections 7, 8 and 19 ------------------------------------------------------------------------------------------


def _index(walk: _Walk, part: Part) -> None:
    tile, place = 0, part.end
    while walk.at < part.payload[1] and len(walk.fields) < MAX_FIELDS:
        place += walk.varint(f"distance to tile {tile}", partial(_distance, place))
        tile += 1


def _distance(place: int, distance: int) -> str:
    return f"{distance} (byte {place + distance})"


def _metadata(walk: _Walk, part: Part) -> None:
    names = {kind.value: kind.name for kind in MetadataType}
    walk.varint("type", lambda kind: f"{kind} ({names.get(kind, 'unknown')})")
    walk.varint("part")
    walk.varint("parts")
    walk.rest("data", part.payload[1])


def _parity(walk: _Walk, part: Part) -> None:
    start = walk.at
    walk.varint("metadata packets")
    walk.varint("first packet")
    count = walk.varint("packets in block")
    if count > MAX_FIELDS:
        raise _CutOffError
    for number in range(count):
        walk.varint(f"size of packet {number}", "{} bytes".format)
    walk.varint("symbol size", "{} bytes".format)
    walk.varint("repair symbols")
    walk.varint("first PARITY packet")
    walk.varint("PARITY packets")
    right = crc32c(walk.data[start : walk.at])
    if walk.number("CRC-32C of description", 4, "{:#010x}") != right:
        walk.blame(f"computed {right:#010x}")
    block = parse_description(walk.data[start : walk.limit])
    if block is None or part.number not in block.parity_numbers():
        return
    walk.take("sums of source symbols", 2 * block.symbols, lambda raw: f"{len(raw) // 2} sums")
    for index in block.repair_of(part.number):
        symbol = walk.take(f"repair symbol {index}", block.symbol)
        stored = walk.take("its CRC-16", 2, lambda raw: f"{struct.unpack('<H', raw)[0]:#06x}")
        if stored != repair_sum(index, symbol):
            walk.blame(f"computed {struct.unpack('<H', repair_sum(index, symbol))[0]:#06x}")


def _count(raw: bytes) -> str:
    return f"{len(raw) // WORD} words"


def _hex(raw: bytes) -> str:
    shown = raw[:SHOWN_BYTES].hex(" ")
    return f"{shown} ... ({len(raw)} bytes)" if len(raw) > SHOWN_BYTES else shown
