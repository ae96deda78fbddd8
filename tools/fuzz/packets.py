"""Changes packets as one who knows the format: behind each checksum that is put right again there is code to reach."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import atheris

from robuststream.checksum import crc16, crc32c
from robuststream.container import layout, parity
from robuststream.container.packets import Colour, Header, Kind, Mode
from robuststream.container.tiles import build_tile, parse_tile
from robuststream.errors import RobustStreamError

KINDS = [*Kind, ord("x"), ord("X"), 0, 255]
#: Where sizes, counts and numbers go wrong.
NUMBERS = [0, 1, 2, 3, 5, 7, 8, 9, 16, 63, 64, 127, 128, 129, 255, 256, 1000, 4000, 4001, 4095, 4096, 4097]
NUMBERS += [1 << 14, (1 << 16) - 1, 1 << 16, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (1 << 31) - 1, (1 << 32) - 1]


@dataclass(frozen=True)
class Parts:
    """One packet, or what looks like one."""

    kind: int
    identity: bytes
    number: int
    payload: bytes

    def sealed(self, length: int | None = None) -> bytes:
        """The packet with both CRCs right; with `length` its header lies."""
        fields = struct.pack("<B4s", self.kind & 255, self.identity) + varint(self.number)
        fields += varint(len(self.payload) if length is None else length)
        head = layout.SYNC + fields + struct.pack("<H", crc16(fields))
        return head + self.payload + struct.pack("<I", crc32c(self.payload, crc32c(fields)))


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def split(data: bytes) -> list[bytes]:
    """Cut at the packets there are, by their headers; what is between stands alone."""
    slices, at = [], 0
    while at < len(data):
        begin = data.find(layout.SYNC, at)
        begin = len(data) if begin < 0 else begin
        if begin > at:
            slices.append(data[at:begin])
        if begin < len(data):
            end = _end(data, begin)
            slices.append(data[begin:end])
            begin = end
        at = begin
    return slices


def _end(data: bytes, begin: int) -> int:
    parts = parse(data[begin:])
    if parts is None:
        return begin + len(layout.SYNC)
    return min(len(data), begin + layout.packet_size(parts.number, len(parts.payload)))


def parse(raw: bytes) -> Parts | None:
    """A packet that begins here; no checksum is looked at."""
    values, at = [], 8
    for _ in range(2):
        value = shift = 0
        while True:
            if at >= len(raw) or shift > 28:
                return None
            byte = raw[at]
            value |= (byte & 0x7F) << shift
            at += 1
            shift += 7
            if byte < 0x80:
                break
        values.append(value)
    number, length = values
    if raw[:3] != layout.SYNC or number >> 32 or length > layout.MAX_PAYLOAD:
        return None
    return Parts(raw[3], raw[4:8], number, raw[at + 2 : at + 2 + length])


def mutate(data: bytes, limit: int, random: Random, pool: Sequence[bytes] = ()) -> bytes:
    """`data` with one thing changed or a few; `pool` are packets that may be put in."""
    if random.random() < 0.15:
        return bytes(atheris.Mutate(data, limit)) if data else random.randbytes(16)
    slices = split(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        _change(slices, random, pool)
    return b"".join(slices)[:limit]


def _change(slices: list[bytes], random: Random, pool: Sequence[bytes]) -> None:
    """One change, in place."""
    places = [place for place, raw in enumerate(slices) if raw[:3] == layout.SYNC]
    if not places or (pool and random.random() < 0.08):
        slices.insert(random.randint(0, len(slices)), random.choice(pool) if pool else random.randbytes(20))
        return
    place = random.choice(places)
    parts = parse(slices[place])
    change = random.choice(CHANGES)
    if change is adopt:
        slices[:] = adopt(slices)
    elif change is arrange:
        arrange(slices, place, random)
    elif change is flip or parts is None:
        slices[place] = flip(slices[place], random)
    else:
        slices[place] = change(parts, slices, random)


# --- One packet ----------------------------------------------------------------------------------------------------


def payload(parts: Parts, slices: Sequence[bytes], random: Random) -> bytes:
    """Any other payload, sealed."""
    changed = atheris.Mutate(parts.payload, len(parts.payload) + 16) if parts.payload else random.randbytes(5)
    return replace(parts, payload=bytes(changed)).sealed()


def fields(parts: Parts, slices: Sequence[bytes], random: Random) -> bytes:
    """Another kind, stream id or number, sealed."""
    which = random.randrange(3)
    if which == 0:
        return replace(parts, kind=int(random.choice(KINDS))).sealed()
    if which == 1:
        others = [other.identity for raw in slices if (other := parse(raw)) is not None]
        return replace(parts, identity=random.choice([*others, random.randbytes(4)])).sealed()
    return replace(parts, number=random.choice([parts.number + 1, *NUMBERS])).sealed()


def lie(parts: Parts, slices: Sequence[bytes], random: Random) -> bytes:
    """A length that is not the payload's, in a header that is valid."""
    near = len(parts.payload) + random.randint(-30, 30)
    return parts.sealed(random.choice([max(0, near), random.choice(NUMBERS)]))


def nest(parts: Parts, slices: Sequence[bytes], random: Random) -> bytes:
    """A packet inside this one's payload."""
    at = random.randint(0, len(parts.payload))
    inner = random.choice(slices)
    return replace(parts, payload=parts.payload[:at] + inner + parts.payload[at:]).sealed()


def values(parts: Parts, slices: Sequence[bytes], random: Random) -> bytes:
    """The payload's own fields changed, and its own checksums put right."""
    change = VALUES.get(parts.kind)
    try:
        changed = change(parts, slices, random) if change else None
    except (RobustStreamError, ValueError, layout.c.ConstructError):
        changed = None
    return payload(parts, slices, random) if changed is None else replace(parts, payload=changed).sealed()


def flip(raw: bytes, random: Random) -> bytes:
    """One bit to three, nothing sealed."""
    flipped = bytearray(raw)
    for _ in range(random.randint(1, 3)):
        flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
    return bytes(flipped)


# --- Several packets -----------------------------------------------------------------------------------------------


def arrange(slices: list[bytes], place: int, random: Random) -> None:
    """Drop a slice, double it, cut it, or let it change places, in place."""
    which = random.randrange(5)
    other = random.randrange(len(slices))
    if which == 0:
        del slices[place]
    elif which == 1:
        slices.insert(other, slices[place])
    elif which == 2:
        slices[place], slices[other] = slices[other], slices[place]
    elif which == 3:
        slices[place] = slices[place][: random.randint(0, len(slices[place]))]
    else:
        slices[place] = slices[place][random.randint(0, len(slices[place])) :]


def adopt(slices: Sequence[bytes]) -> list[bytes]:
    """All packets with the stream id that header and tiles hash to."""
    everything = [(raw, parse(raw)) for raw in slices]
    header = _header(slices)
    if header is None:
        return list(slices)
    first, head = header
    tiles = {}
    for _, parts in everything:
        if parts is not None and parts.kind == Kind.TILE and parts.number not in tiles:
            tile = parse_tile(head, parts.identity, parts.number, parts.payload)
            if tile is not None:
                tiles[parts.number] = tile
    identity = layout.stream_id(first.payload, (tiles[number] for number in sorted(tiles)))
    adopted = []
    for raw, parts in everything:
        if parts is None:
            adopted.append(raw)
        elif parts.kind == Kind.TILE and parts.number in tiles:
            own = build_tile(head, identity, tiles[parts.number])
            adopted.append(replace(parts, identity=identity, payload=own).sealed())
        else:
            adopted.append(replace(parts, identity=identity).sealed())
    return adopted


def _header(slices: Sequence[bytes]) -> tuple[Parts, Header] | None:
    for raw in slices:
        parts = parse(raw)
        if parts is not None and parts.kind == Kind.HEADER:
            try:
                return parts, layout.parse_header(parts.payload)
            except RobustStreamError:
                continue
    return None


# --- Payloads by kind ----------------------------------------------------------------------------------------------


def _header_values(parts: Parts, slices: Sequence[bytes], random: Random) -> bytes:
    header = layout.parse_header(parts.payload)
    number = random.choice(NUMBERS)
    changes: list[dict[str, Any]] = [
        {"width": number},
        {"height": number},
        {"width": number, "height": random.choice(NUMBERS)},
        {"tile": number},
        {"quality": number},
        {"z_checkpoint": random.randrange(3)},
        {"checkpoints": random.choice((0, 1, 3, 15, 16))},
        {"metadata_packets": number},
        {"parity": number},
        {"mode": random.choice(list(Mode))},
        {"colour": random.choice(list(Colour))},
        {"parameters_digest": random.randbytes(16)},
        {"model_name": "n" * min(number, 70)},
    ]
    return layout.build_header(replace(header, **random.choice(changes)))


def _tile_values(parts: Parts, slices: Sequence[bytes], random: Random) -> bytes | None:
    header = _header(slices)
    if header is None:
        return None
    tile = parse_tile(header[1], parts.identity, parts.number, parts.payload)
    if tile is None:
        return None
    words = bytes(atheris.Mutate(tile.words, len(tile.words) + 8))
    changes: list[dict[str, Any]] = [
        {"words": words},
        {"words": words[: len(words) // 4 * 4]},
        {"digest": random.getrandbits(32)},
        {"earlier": tuple(random.getrandbits(32) for _ in range(random.randrange(14)))},
    ]
    if tile.z_words is not None:
        changes.append({"z_words": random.choice([0, 1, 2, tile.z_words + 1, len(tile.words) // 4])})
    return build_tile(header[1], parts.identity, replace(tile, **random.choice(changes)))


def _parity_values(parts: Parts, slices: Sequence[bytes], random: Random) -> bytes | None:
    block = parity.parse_description(parts.payload)
    if block is None:
        return None
    rest = parts.payload[len(block.description) :]
    sizes = list(block.sizes)
    at = random.randrange(len(sizes))
    which = random.randrange(4)
    if which == 0:
        sizes[at] = random.choice([sizes[at] + random.randint(-3, 3), *NUMBERS]) % (1 << 32)
    elif which == 1:
        sizes.insert(at, random.choice(sizes))
    elif which == 2 and len(sizes) > 1:
        del sizes[at]
    else:
        name = random.choice(["metadata", "first", "symbol", "repair", "number", "packets"])
        old = getattr(block, name)
        value = random.choice([old + 1, max(0, old - 1), 2 * old, old + 8, *NUMBERS]) % (1 << 32)
        return replace(block, **{name: value}).description + rest
    return replace(block, sizes=tuple(sizes)).description + rest


def _metadata_values(parts: Parts, slices: Sequence[bytes], random: Random) -> bytes:
    block = layout.parse_metadata(parts.payload)
    if block is None:
        return parts.payload
    name = random.choice(["type", "part", "parts"])
    return layout.build_metadata(block._replace(**{name: random.choice(NUMBERS)}))


def _index_values(parts: Parts, slices: Sequence[bytes], random: Random) -> bytes:
    distances = list(layout.INDEX.parse(parts.payload)) or [0]
    distances[random.randrange(len(distances))] = random.choice(NUMBERS)
    return bytes(layout.INDEX.build(distances * random.choice((1, 1, 2))))


VALUES: dict[int, Callable[[Parts, Sequence[bytes], Random], bytes | None]] = {
    Kind.HEADER: _header_values,
    Kind.TILE: _tile_values,
    Kind.PARITY: _parity_values,
    Kind.METADATA: _metadata_values,
    Kind.INDEX: _index_values,
}
CHANGES: list[Any] = [payload, payload, fields, lie, nest, values, values, values, flip, arrange, arrange, adopt]
