"""Independent oracles, written from the format's rules without the package's code, and random inputs."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import construct as c
import numpy as np

from robuststream.container.layout import VarInt
from robuststream.container.packets import Header, Kind, Metadata, Packet, Tile
from robuststream.container.scanner import scan
from robuststream.container.writer import write_stream
from robuststream.entropy.tables import CdfTables

# --- Checksums, bit by bit ------------------------------------------------------------------------------------------


def slow_crc32c(data: bytes, crc: int = 0) -> int:
    """CRC-32C, going on from `crc`."""
    register = crc ^ 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def slow_crc16(data: bytes) -> int:
    """CRC-16/IBM-3740."""
    register = 0xFFFF
    for byte in data:
        register ^= byte << 8
        for _ in range(8):
            register = (register << 1 ^ (0x1021 if register & 0x8000 else 0)) & 0xFFFF
    return register


# --- Memory ---------------------------------------------------------------------------------------------------------


@contextmanager
def memory_below(limit: float) -> Iterator[None]:
    """Python's and NumPy's allocations inside stay below `limit` bytes."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit


# --- The stream, with struct only -----------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """Unsigned LEB128 in its shortest form."""
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F)
    return bytes([digit | 0x80 for digit in digits[:-1]] + digits[-1:])


def packet(kind: int, identity: bytes, number: int, payload: bytes, length: int | None = None) -> bytes:
    """A packet; with `length`, one whose header lies about its payload and is valid nevertheless."""
    head = packet_header(kind, identity, number, len(payload) if length is None else length)
    return head + payload + struct.pack("<I", slow_crc32c(payload, slow_crc32c(head[3:-2])))


def packet_header(kind: int, identity: bytes, number: int, length: int) -> bytes:
    fields = bytes([kind]) + identity + varint(number) + varint(length)
    return b"\xb7RS" + fields + struct.pack("<H", slow_crc16(fields))


#: Payloads as structures; TILE is parsed with the fields of a Header, and its words begin at `size`.
TILE = c.Struct(
    "checkpoint" / c.If(c.this._.z_checkpoint, c.Struct("z_words" / VarInt, "crc" / c.Int32ul)),
    "earlier" / c.If(c.this._.mode, c.PrefixedArray(c.Byte, c.Int32ul)),
    "digest" / c.Int32ul,
    "sums" / c.Array(c.this._.checkpoints, c.Int16ul),
    "size" / c.Tell,
)
METADATA = c.Struct("type" / VarInt, "part" / VarInt, "parts" / VarInt, "data" / c.GreedyBytes)


def without_headers(data: bytes) -> bytes:
    """A stream with all its HEADER packets cut out."""
    packets = [event for event in scan(data) if isinstance(event, Packet) and event.kind != Kind.HEADER]
    return b"".join(data[item.offset : item.offset + item.size] for item in packets)


# --- rANS, with Python's own integers -------------------------------------------------------------------------------


def slow_rans(symbols: Sequence[int], rows: Sequence[int], tables: CdfTables) -> bytes:
    """The rANS string of one tile."""
    state, words = 1 << 31, []

    def room_for(frequency: int) -> None:
        nonlocal state
        if state >= (1 << 31 >> 16 << 32) * frequency:
            words.append(state & 0xFFFFFFFF)
            state >>= 32

    for symbol, row in reversed(list(zip(symbols, rows, strict=True))):
        start, length = int(tables.lengths[:row].sum()), int(tables.lengths[row])
        cdf = [int(value) for value in tables.cdf[start : start + length]]
        escape, value = length - 2, int(symbol) - int(tables.offsets[row])
        if not 0 <= value < escape:
            raw = -2 * value - 1 if value < 0 else 2 * (value - escape)
            value = escape
            digits = [raw >> 4 * k & 15 for k in range((raw.bit_length() + 3) // 4)]
            for digit in [*reversed(digits), len(digits)]:
                room_for(1 << 12)
                state = state << 4 | digit
        frequency = cdf[value + 1] - cdf[value]
        room_for(frequency)
        state = (state // frequency << 16) + cdf[value] + state % frequency
    words += [state >> 32, state & 0xFFFFFFFF]
    return b"".join(struct.pack("<I", word) for word in reversed(words))


# --- Random inputs --------------------------------------------------------------------------------------------------


def random_tables(rng: np.random.Generator, rows: int, longest: int = 40) -> CdfTables:
    """Tables of rows with 1 to `longest` regular symbols and any frequencies."""
    parts, offsets = [], []
    for _ in range(rows):
        inner = int(rng.integers(1, longest + 1))
        cuts = np.sort(rng.choice(np.arange(1, 1 << 16), inner, replace=False))
        parts.append(np.concatenate(([0], cuts, [1 << 16])).astype(np.int32))
        offsets.append(int(rng.integers(-inner, 1)))
    lengths = np.array([len(part) for part in parts], np.int32)
    return CdfTables(np.concatenate(parts), lengths, np.array(offsets, np.int32))


def sample_header(width: int = 96, height: int = 64, tile: int = 32, **changes: object) -> Header:
    """96 x 64 pixels in 3 x 2 tiles, if nothing else is said."""
    values = {"parameters_digest": bytes(range(16)), "synthesis_digest": bytes(range(16, 32)), **changes}
    return Header(width, height, tile, **values)  # type: ignore[arg-type]


def random_tiles(header: Header, words: int = 9, seed: int = 1) -> list[Tile]:
    """Tiles of random words; with checkpoints, the first third of the words is z's."""
    rng = np.random.default_rng(seed)
    z_words = max(2, words // 3) if header.z_checkpoint else None
    return [Tile(index, rng.bytes(4 * words), int(rng.integers(1 << 32)), z_words) for index in range(header.tiles)]


def sample_stream(
    header: Header | None = None, words: int = 9, seed: int = 1, metadata: Metadata | None = None
) -> tuple[Header, list[Tile], bytes]:
    """A header, its tiles, and the stream of them."""
    header = header or sample_header()
    tiles = random_tiles(header, words, seed)
    return header, tiles, write_stream(header, tiles, metadata)
