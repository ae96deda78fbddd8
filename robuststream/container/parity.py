"""Parity: repair symbols over a stream's packets (spec/format.md, section 19).

M. Luby, A. Shokrollahi, M. Watson, T. Stockhammer, L. Minder, RFC 6330 (RaptorQ), by the package `raptorq`, which is
imported only where parity is written or used: `pip install robuststream[parity]`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

from robuststream.checksum import crc16, crc32c
from robuststream.container.layout import MAX_PAYLOAD, MAX_VARINT, build_packet, build_varint, read_varints
from robuststream.container.packets import Buffer, Kind

#: Bytes of packets that one block holds at most, but for its last packet.
MAX_BLOCK = 1 << 22
#: RFC 6330: the most source symbols of a block.
MAX_SYMBOLS = 56403
MIN_SYMBOL, ALIGNMENT, MAX_SYMBOL = 32, 8, 1 << 15
MAX_REPAIR, MAX_PACKETS = 1 << 16, 1 << 12
#: A PARITY packet should be no longer, so that a HEADER is never far.
PACKET_BYTES = 1 << 14
#: A block needs one description that is whole. With two packets, a few hits too often hurt both.
MIN_PACKETS = 3


@dataclass(frozen=True)
class Block:
    """A run of packets, cut into symbols, and where its repair symbols stand.

    Attributes:
        metadata: METADATA packets of the stream: they say which packet an ordinal is.
        first: ordinal of the run's first packet: HEADER 0, then METADATA, INDEX, TILEs.
        sizes: of the packets of the run, in bytes.
        symbol: size of a symbol in bytes.
        repair: number of repair symbols.
        number: of the first PARITY packet of this block.
        packets: PARITY packets of this block.
    """

    metadata: int
    first: int
    sizes: tuple[int, ...]
    symbol: int
    repair: int
    number: int
    packets: int

    @cached_property
    def starts(self) -> list[int]:
        """Where each packet begins in the block, and where the block ends."""
        return [0, *accumulate(self.sizes)]

    @property
    def length(self) -> int:
        return self.starts[-1]

    @property
    def symbols(self) -> int:
        """Source symbols; the last one is filled up with zeros."""
        return -(-self.length // self.symbol)

    @property
    def each(self) -> int:
        """Repair symbols in a PARITY packet; the last one has what is left."""
        return -(-self.repair // self.packets)

    def key(self, ordinal: int) -> tuple[int, int]:
        """Kind and number of a packet."""
        return packet_key(ordinal, self.metadata)

    def ordinals(self) -> range:
        return range(self.first, self.first + len(self.sizes))

    def spans(self) -> Iterator[tuple[tuple[int, int], int, int]]:
        """Kind and number of each packet, and where in the block it begins and ends."""
        keys = map(self.key, self.ordinals())
        return zip(keys, self.starts, self.starts[1:], strict=False)

    def parity_numbers(self) -> range:
        return range(self.number, self.number + self.packets)

    def repair_of(self, number: int) -> range:
        """The repair symbols that PARITY packet `number` holds."""
        begin = (number - self.number) * self.each
        return range(begin, min(begin + self.each, self.repair))

    def payload_size(self, symbols: int) -> int:
        """Of a PARITY packet with `symbols` repair symbols, in bytes."""
        return len(self.description) + 2 * self.symbols + symbols * (self.symbol + 2)

    @cached_property
    def description(self) -> bytes:
        """How each PARITY payload of the block begins; it has a CRC of its own, for what is behind may be damaged."""
        values = [self.metadata, self.first, len(self.sizes), *self.sizes]
        values += [self.symbol, self.repair, self.number, self.packets]
        raw = b"".join(map(build_varint, values))
        return raw + struct.pack("<I", crc32c(raw))


def packet_key(ordinal: int, metadata: int) -> tuple[int, int]:
    if ordinal == 0:
        return Kind.HEADER, 0
    if ordinal <= metadata:
        return Kind.METADATA, ordinal - 1
    return (Kind.INDEX, 0) if ordinal == metadata + 1 else (Kind.TILE, ordinal - metadata - 2)


def parse_description(payload: Buffer, last: Block | None = None) -> Block | None:
    """The block a PARITY payload, damaged or not, belongs to; None where that is not proven or not possible.

    Args:
        last: a block that may well be the same, since all PARITY packets of a block begin alike.
    """
    if last is not None and payload[: len(last.description)] == last.description:
        return last
    values, at = read_varints(payload, 0, 3)
    if len(values) < 3:
        return None
    sizes, at = read_varints(payload, at, values[2])
    rest, at = read_varints(payload, at, 4)
    if len(sizes) < values[2] or len(rest) < 4 or payload[at : at + 4] != struct.pack("<I", crc32c(payload[:at])):
        return None
    block = Block(values[0], values[1], tuple(sizes), *rest)
    block.__dict__["description"] = bytes(payload[: at + 4])  # kept as if it were built
    return block if _is_possible(block) else None


def source_sums(block: Block, payload: Buffer) -> tuple[int, ...]:
    """The CRC-16 of each source symbol, as a PARITY payload of the block has them; of a damaged one some are wrong."""
    at = len(block.description)
    raw = payload[at : at + 2 * block.symbols]
    return struct.unpack(f"<{len(raw) // 2}H", raw[: len(raw) // 2 * 2])


def _is_possible(block: Block) -> bool:
    return (
        0 < block.length <= 2 * MAX_BLOCK
        and all(block.sizes)
        and MIN_SYMBOL <= block.symbol <= MAX_SYMBOL
        and block.symbol % ALIGNMENT == 0
        and block.symbols <= MAX_SYMBOLS
        and 0 < block.packets <= min(block.repair, MAX_PACKETS)
        and block.repair <= MAX_REPAIR
        and block.each * (block.packets - 1) < block.repair
        and block.number + block.packets - 1 <= MAX_VARINT
        and block.payload_size(block.each) <= MAX_PAYLOAD
    )


def repair_symbols(block: Block, number: int, payload: Buffer) -> Iterator[tuple[int, bytes]]:
    """The repair symbols in a PARITY payload of a block, damaged or not: each has a CRC-16 of its own."""
    at = len(block.description) + 2 * block.symbols
    for index in block.repair_of(number):
        end = at + block.symbol
        symbol, sum_ = bytes(payload[at:end]), payload[end : end + 2]
        if len(symbol) == block.symbol and sum_ == repair_sum(index, symbol):
            yield index, symbol
        at += block.symbol + 2


def repair_sum(index: int, symbol: bytes) -> bytes:
    """CRC-16 over a repair symbol's index (u32) and bytes: found in a wrong place it counts for nothing."""
    return struct.pack("<H", crc16(struct.pack("<I", index) + symbol))


def plan(sizes: Sequence[int], metadata: int, parity: int) -> list[Block]:
    """Cut packets of these sizes, by ordinal, into blocks, with `parity` repair symbols for each thousand."""
    runs: list[list[int]] = [[]]
    length = 0
    for size in sizes:
        if runs[-1] and length + size > MAX_BLOCK:
            runs.append([])
            length = 0
        runs[-1].append(size)
        length += size
    blocks: list[Block] = []
    first = number = 0
    for run in runs:
        block = _block(metadata, first, tuple(run), number, parity)
        blocks.append(block)
        first += len(run)
        number += block.packets
    return blocks


def _block(metadata: int, first: int, sizes: tuple[int, ...], number: int, parity: int) -> Block:
    """Size and number of symbols are a writer's choice.

    A symbol's CRC stands in every PARITY packet, so small symbols cost bytes; a hit byte costs a whole symbol, so large
    ones do too. Near the root of the block's size the two balance.
    """
    length = sum(sizes)
    symbol = max(MIN_SYMBOL, -(-math.isqrt(2 * length) // ALIGNMENT) * ALIGNMENT)
    symbols = -(-length // symbol)
    repair = min(MAX_REPAIR, max(MIN_PACKETS, -(-parity * symbols // 1000)))
    bytes_ = repair * (symbol + 2)
    description = 2 * (symbols + len(sizes)) + 24
    # Every packet repeats the description. There are three at least, and more where it is short beside the symbols.
    packets = max(MIN_PACKETS, bytes_ // (4 * description), -(-bytes_ // PACKET_BYTES))
    each = -(-repair // min(packets, repair))
    return Block(metadata, first, sizes, symbol, repair, number, -(-repair // each))


def parity_packets(blocks: Sequence[Block], packets: Sequence[Buffer], identity: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each PARITY packet of a stream: the same blocks and packets give the same bytes (RFC 6330
    defines the symbols).

    Args:
        packets: all packets but PARITY and copies of the HEADER, by ordinal.
    """
    for block in blocks:
        data = b"".join(packets[block.first : block.first + len(block.sizes)])
        padded = data + bytes(-len(data) % block.symbol)
        sums = [crc16(padded[at : at + block.symbol]) for at in range(0, len(padded), block.symbol)]
        symbols = require_raptorq().Encoder.with_defaults(padded, block.symbol).get_encoded_packets(block.repair)
        repair = [symbol[PAYLOAD_ID:] for symbol in symbols[block.symbols :]]
        head = block.description + struct.pack(f"<{len(sums)}H", *sums)
        for number in block.parity_numbers():
            own = b"".join(repair[index] + repair_sum(index, repair[index]) for index in block.repair_of(number))
            yield number, build_packet(Kind.PARITY, identity, number, head + own)


#: RFC 6330, section 3.2: source block number (u8) and encoding symbol id (u24), big-endian.
PAYLOAD_ID = 4


def payload_sizes(block: Block) -> Iterator[tuple[int, int]]:
    """Number, and size of the payload in bytes, of each PARITY packet of a block."""
    for number in block.parity_numbers():
        yield number, block.payload_size(len(block.repair_of(number)))


def solve(block: Block, source: Mapping[int, bytes], repair: Mapping[int, bytes]) -> bytes | None:
    """The block's bytes from enough of its source and repair symbols, by index; None where they are not enough."""
    if len(source) + len(repair) < block.symbols:
        return None
    if len(source) == block.symbols:
        return b"".join(source[index] for index in range(block.symbols))[: block.length]
    decoder = require_raptorq().Decoder.with_defaults(block.symbols * block.symbol, block.symbol)
    symbols = {**source, **{block.symbols + index: symbol for index, symbol in repair.items()}}
    for index, symbol in symbols.items():
        data = decoder.decode(struct.pack(">I", index) + symbol)
        if data is not None:
            return bytes(data)[: block.length]
    return None


def require_raptorq() -> Any:
    """The package. Raises ImportError with what to do."""
    try:
        import raptorq  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise ImportError("parity needs the package raptorq: pip install 'robuststream[parity]'") from error
    return raptorq
