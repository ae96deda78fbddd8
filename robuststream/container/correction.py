"""Bit errors at no rate: which one or two flipped bits make a damaged packet whole (spec/format.md, section 10.1).

A CRC is linear over GF(2). What a flipped bit changes in the syndrome (the stored CRC xor the computed one) hangs on
its distance from the packet's end alone: it is x^distance modulo the polynomial. So one bit is found by walking the
syndrome back to x^0, two by looking up, for each bit, the syndrome that would be left to another.

CRC-32C's polynomial has the factor x + 1: the syndrome's parity is that of the number of flips, and one flip is never
taken for two. Two bits have no second explanation by two in packets of up to 655 bytes (Hamming distance 6: Koopman,
"32-Bit Cyclic Redundancy Codes for Internet Applications", 2002); in longer ones they may. Heavier damage may look like
one or two flips everywhere. What is found here is a guess, for others to prove.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from robuststream.checksum import CRC32C_POLYNOMIAL, crc16, crc32c
from robuststream.container.layout import (
    MAX_PACKET_HEADER,
    MIN_PACKET_HEADER,
    PAYLOAD_CRC_BYTES,
    SYNC,
    PacketFields,
    parse_packet_header,
)
from robuststream.container.packets import Packet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    _Flags = npt.NDArray[np.bool_]
    _Words = npt.NDArray[np.uint32]
    _Places = npt.NDArray[np.int64]

#: In a whole packet, sync and CRCs included.
MAX_FLIPS = 2
#: Pairs are not looked for in longer payloads (CRC-32C included): 16 KiB, in which a random syndrome is explained by
#: 2^33 pairs over 2^31 syndromes of even parity, 4 on average.
MAX_PAIR_BITS = 1 << 17
#: So many bits of pairs are looked at one by one; a file that has more is worth importing NumPy.
FEW_BITS = 1 << 20
#: Bytes that a search for one bit goes back at a time.
STRIDE = 1 << 10
#: Bits of a syndrome that say whether it may be in the table of powers.
FILTER_BITS = 20


@dataclass(frozen=True)
class Corrected:
    """A packet as it would be with bits put right. `flips` are their positions in the file, 8 * byte + bit (0 is the
    byte's lowest), rising; none where its checksums hold."""

    packet: Packet
    flips: tuple[int, ...]


#: A packet header put right: its fields, CRC-32C so far and size, and the bits, as positions in it.
Head = tuple[tuple[PacketFields, int, int], tuple[int, ...]]


def describe(flips: Sequence[int]) -> str:
    """Where the bits are, for a message."""
    return " and ".join(f"bit {flip & 7} of byte {flip >> 3}" for flip in flips)


# --- Whole packets --------------------------------------------------------------------------------------------------


class Corrector:
    """Explains damaged packets of one file.

    Args:
        data: the file.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._syndromes: list[int] = [1 << 31]  # of the bit at each distance
        self._distances: dict[int, int] = {1 << 31: 0}
        self._bits = 0  # looked up one by one

    def explanations(self, at: int, head: Head) -> list[Corrected]:
        """The packets that may have stood at file position `at`, behind this packet header, which the file holds."""
        (fields, crc, size), flips = head
        end = at + size + fields.length + PAYLOAD_CRC_BYTES
        body = self._data[at + size : end]
        syndrome = crc32c(body[:-PAYLOAD_CRC_BYTES], crc) ^ int.from_bytes(body[-PAYLOAD_CRC_BYTES:], "little")
        found = []
        for distances in self._sets(syndrome, 8 * len(body), MAX_FLIPS - len(flips)):
            mended = bytearray(body)
            for distance in distances:
                mended[-1 - (distance >> 3)] ^= 0x80 >> (distance & 7)
            payload = bytes(mended[:-PAYLOAD_CRC_BYTES])
            packet = Packet(fields.kind, fields.stream_id, fields.number, payload, at, end - at)
            places = [8 * at + flip for flip in flips] + [8 * end - 1 - distance for distance in distances]
            found.append(Corrected(packet, tuple(sorted(places))))
        return found

    def _sets(self, syndrome: int, bits: int, flips: int) -> list[tuple[int, ...]]:
        """The sets of up to `flips` bits, as distances from the end, that have this syndrome in a packet of `bits`.

        The bits are those of payload and CRC-32C; those before have a CRC of their own.
        """
        if not syndrome:
            return [()]
        if syndrome.bit_count() & 1:
            distance = _distance(syndrome, bits >> 3) if flips else None
            return [] if distance is None else [(distance,)]
        return self._pairs(syndrome, bits) if flips > 1 and bits <= MAX_PAIR_BITS else []

    def _pairs(self, syndrome: int, bits: int) -> list[tuple[int, ...]]:
        """All (one, two) whose syndromes sum up to this one, bits > one > two."""
        self._bits += bits
        if self._bits > FEW_BITS:
            return _many_pairs(syndrome, bits)
        value = self._syndromes[-1]
        for distance in range(len(self._syndromes), bits):
            value = _next(value)
            self._syndromes.append(value)
            self._distances[value] = distance
        other = self._distances.get
        near = enumerate(self._syndromes[:bits])
        # Distances that are not there, or beyond this packet, are no smaller than the first one.
        return [(one, two) for one, value in near if (two := other(syndrome ^ value, bits)) < one]


def _many_pairs(syndrome: int, bits: int) -> list[tuple[int, ...]]:
    """As Corrector._pairs, in NumPy, which is imported only here."""
    import numpy as np

    values, order, rising, filters = _powers()
    wanted = values[:bits] ^ np.uint32(syndrome)
    ones = np.arange(bits)
    for shift, there in filters:
        hits = there[wanted >> np.uint32(shift) & np.uint32((1 << FILTER_BITS) - 1)]
        ones, wanted = ones[hits], wanted[hits]
    places = np.minimum(np.searchsorted(rising, wanted), len(rising) - 1)
    twos = order[places]
    hits = (rising[places] == wanted) & (twos < ones)
    return list(zip(ones[hits].tolist(), twos[hits].tolist(), strict=True))


@cache
def _powers() -> tuple[_Words, _Places, _Words, list[tuple[int, _Flags]]]:
    """Syndromes by distance; what sorts them; sorted; and for some of their bits, which values these take."""
    import numpy as np

    values = np.empty(MAX_PAIR_BITS, np.uint32)
    value = 1 << 31
    for distance in range(MAX_PAIR_BITS):
        values[distance] = value
        value = _next(value)
    order = np.argsort(values)
    filters = []
    for shift in (0, 32 - FILTER_BITS):
        there = np.zeros(1 << FILTER_BITS, bool)
        there[values >> np.uint32(shift) & np.uint32((1 << FILTER_BITS) - 1)] = True
        filters.append((shift, there))
    return values, order, values[order], filters


def _next(syndrome: int) -> int:
    """That of the bit before: multiplied by x."""
    return syndrome >> 1 ^ (CRC32C_POLYNOMIAL if syndrome & 1 else 0)


def _distance(syndrome: int, size: int) -> int | None:
    """The distance, in bits, of the one bit among the last `size` bytes that has this syndrome; None if there is none.

    Divides by a large power of x until it meets one of the powers below (Shanks, "Class number, a theory of
    factorization, and genera", 1971: baby steps, giant steps).
    """
    near, (a, b, c, d) = _steps()
    for distance in range(0, 8 * size, 8 * STRIDE):
        if syndrome in near:
            found = distance + near[syndrome]
            return found if found < 8 * size else None
        syndrome = a[syndrome & 255] ^ b[syndrome >> 8 & 255] ^ c[syndrome >> 16 & 255] ^ d[syndrome >> 24]
    return None


@cache
def _steps() -> tuple[dict[int, int], list[list[int]]]:
    """The syndromes of the bits of the last STRIDE bytes, with their distances; and as tables, byte by byte, what a
    syndrome is, divided by x^(8 STRIDE)."""
    near, value = {}, 1 << 31  # reflected: the highest bit is x^0
    for distance in range(8 * STRIDE):
        near[value] = distance
        value = _next(value)
    divided = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = ((value ^ CRC32C_POLYNOMIAL) << 1 | 1) if value >> 31 else value << 1
        divided.append(value)
    tables = []
    for shift in range(0, 32, 8):
        table = [0]
        for bit in range(shift, shift + 8):
            value = 1 << bit
            for _ in range(STRIDE):
                # By x^8 (Stigge et al., "Reversing CRC: Theory and Practice", 2006).
                value = (value << 8 & 0xFFFFFFFF) ^ divided[value >> 24]
            table += [entry ^ value for entry in table]
        tables.append(table)
    return near, tables


# --- Packet headers -------------------------------------------------------------------------------------------------


def heads(raw: bytes, identity: bytes) -> Iterator[Head]:
    """Packet headers of the stream that `raw` may begin with, and which of its bits would have been flipped.

    Sync and stream id are known; for the rest the CRC-16 speaks, whose polynomial has the factor x + 1 as well. A flip
    may make a varint longer or shorter, so every size is tried.
    """
    intact = parse_packet_header(raw)
    if intact is not None:
        if intact[0].stream_id == identity:
            yield intact, ()
        return
    known = SYNC + raw[len(SYNC) : len(SYNC) + 1] + identity
    flips = [8 * byte + bit for byte, (a, b) in enumerate(zip(raw, known, strict=False)) for bit in _bits(a ^ b)]
    single = _head_syndromes()
    whole = known + raw[len(known) :]
    for size in range(MIN_PACKET_HEADER, len(whole) + 1):
        syndrome = crc16(whole[len(SYNC) : size - 2]) ^ int.from_bytes(whole[size - 2 : size], "little")
        sets: list[tuple[int, ...]] = [(syndrome,)] if syndrome in single else []
        if not syndrome:
            sets = [()]
        elif not syndrome.bit_count() & 1:
            sets = [(one, syndrome ^ one) for one in single if syndrome ^ one in single and one < syndrome ^ one]
        for parts in sets:
            places = [8 * size - 8 - single[part][0] * 8 + single[part][1] for part in parts]
            if len(flips) + len(places) <= MAX_FLIPS and all(place >= 8 * len(SYNC) for place in places):
                head = bytearray(whole[:size])
                for place in places:
                    head[place >> 3] ^= 1 << (place & 7)
                parsed = parse_packet_header(bytes(head))
                if parsed is not None and parsed[0].stream_id == identity and parsed[2] == size:
                    yield parsed, tuple(flips + places)


@cache
def _head_syndromes() -> dict[int, tuple[int, int]]:
    """What a flipped bit of a packet header changes in the CRC-16's syndrome: its byte, from the last one, and bit."""
    single = {1 << 8 * byte + bit: (1 - byte, bit) for byte in range(2) for bit in range(8)}
    for behind in range(MAX_PACKET_HEADER - len(SYNC) - 2):
        for bit in range(8):
            changed = crc16(bytes((1 << bit,)) + bytes(behind)) ^ crc16(bytes(1 + behind))
            single[changed] = (2 + behind, bit)
    return single


def _bits(byte: int) -> list[int]:
    return [bit for bit in range(8) if byte >> bit & 1]
