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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from robuststream.checksum import CRC32C_POLYNOMIAL, crc16, crc32c
from robuststream.container.layout import (
    MAX_PACKET_HEADER,
    MIN_PACKET_HEADER,
    PAYLOAD_CRC_BYTES,
    SYNC,
    PacketFields,
    parse_packet_header,
)
from robuststream.container.packets import Gap, Packet

#: In a whole packet, sync and CRCs included.
MAX_FLIPS = 2
#: Pairs are not looked for in longer payloads (CRC-32C included): 16 KiB, in which a random syndrome is explained by
#: 2^33 pairs over 2^31 syndromes of even parity, 4 on average.
MAX_PAIR_BITS = 1 << 17
#: A packet with more explanations is left alone: each would be decoded.
MAX_EXPLANATIONS = 16
#: What a search may cost in vain, in bytes looked at: so much for each byte in a gap, and some more for small files.
WORK, SPARE = 2, 1 << 16
#: What a place, and a packet header there, cost beside the payload.
PLACE = 48
#: So many places, or bits of pairs, are looked at one by one; a file that has more is worth importing NumPy.
FEW_PLACES, FEW_BITS = 1 << 12, 1 << 20
#: Bytes that a search for one bit goes back at a time.
STRIDE = 1 << 10

#: A packet begins with sync, kind and stream id; but for the kind these are known.
BEFORE_IDENTITY = len(SYNC) + 1
KNOWN = BEFORE_IDENTITY + 4

Wanted = Callable[[int, int], bool]


@dataclass(frozen=True)
class Corrected:
    """A packet as it would be with bits put right. `flips` are their positions in the file, 8 * byte + bit (0 is the
    byte's lowest), rising."""

    packet: Packet
    flips: tuple[int, ...]


def describe(flips: Sequence[int]) -> str:
    """Where the bits are, for a message."""
    return " and ".join(f"bit {flip & 7} of byte {flip >> 3}" for flip in flips)


class Corrector:
    """Looks for packets of one or two flipped bits in the gaps of a file.

    Args:
        data: the file.
        gaps: where no intact packet is.
    """

    def __init__(self, data: bytes, gaps: Sequence[Gap]) -> None:
        self._data = data
        self._gaps = gaps
        self._syndromes: list[int] = [1 << 31]  # of the bit at each distance
        self._distances: dict[int, int] = {1 << 31: 0}
        self._bits = 0  # looked up one by one
        #: Bytes the search may still look at in vain.
        self.budget = 0

    def packets(self, identity: bytes, wanted: Wanted) -> Iterator[list[Corrected]]:
        """All explanations of each packet that one or two flipped bits explain, in file order.

        A packet is looked for where its sync or its stream id is whole, where a gap begins, and behind a packet that
        was found; it must lie inside its gap. The time is linear in the gaps' size, whatever the bytes say: what is
        left when the budget is spent is not looked at. Packets that were found cost nothing of it: they do not overlap.

        Args:
            identity: the packets' stream id.
            wanted: given kind and number, whether such a packet is of any use.
        """
        self.budget = SPARE + WORK * sum(gap.end - gap.start for gap in self._gaps)
        for gap in self._gaps:
            at = gap.start
            places = near_places(self._data, at + 1, gap.end, identity)
            while at < gap.end and self.budget >= 0:
                budget = self.budget
                found = self._explain(at, gap.end, identity, wanted) if _is_near(self._data, at, identity) else []
                if found:
                    self.budget = budget
                    yield found
                    at = max(item.packet.offset + item.packet.size for item in found)
                else:
                    at = next((place for place in places if place > at), gap.end)

    def _explain(self, at: int, limit: int, identity: bytes, wanted: Wanted) -> list[Corrected]:
        """All explanations of the packet that begins at `at` and ends before `limit`."""
        found: list[Corrected] = []
        self.budget -= PLACE
        for (fields, crc, size), flips in _heads(self._data[at : at + MAX_PACKET_HEADER], identity):
            end = at + size + fields.length + PAYLOAD_CRC_BYTES
            if end > limit or not wanted(fields.kind, fields.number):
                continue
            self.budget -= PLACE + fields.length
            body = self._data[at + size : end]
            syndrome = crc32c(body[:-PAYLOAD_CRC_BYTES], crc) ^ int.from_bytes(body[-PAYLOAD_CRC_BYTES:], "little")
            for distances in self._explanations(syndrome, 8 * len(body), MAX_FLIPS - len(flips)):
                mended = bytearray(body)
                for distance in distances:
                    mended[-1 - (distance >> 3)] ^= 0x80 >> (distance & 7)
                payload = bytes(mended[:-PAYLOAD_CRC_BYTES])
                packet = Packet(fields.kind, identity, fields.number, payload, at, end - at)
                places = [8 * at + flip for flip in flips] + [8 * end - 1 - distance for distance in distances]
                found.append(Corrected(packet, tuple(sorted(places))))
            if len(found) > MAX_EXPLANATIONS:
                return []
        return found

    def _explanations(self, syndrome: int, bits: int, flips: int) -> list[tuple[int, ...]]:
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
        self._bits += bits
        if self._bits > FEW_BITS:
            # Here, because it imports NumPy.
            from robuststream.container.manybits import pairs

            return pairs(syndrome, bits)
        value = self._syndromes[-1]
        for distance in range(len(self._syndromes), bits):
            value = _next(value)
            self._syndromes.append(value)
            self._distances[value] = distance
        other = self._distances.get
        near = enumerate(self._syndromes[:bits])
        # Distances that are not there, or beyond this packet, are no smaller than the first one.
        return [(one, two) for one, value in near if (two := other(syndrome ^ value, bits)) < one]


def near_places(data: bytes, start: int, end: int, identity: bytes) -> Iterator[int]:
    """Where a packet's sync and stream id, one of them whole, are within MAX_FLIPS in data[start:end]; rising."""
    sync_end = end - (KNOWN - len(SYNC))
    sync, whole = _find(data, SYNC, 0, start, sync_end), _find(data, identity, BEFORE_IDENTITY, start, end)
    for _ in range(FEW_PLACES):
        place = min(sync, whole)
        if place == len(data):
            return
        if _is_near(data, place, identity):
            yield place
        # Each byte is searched once for each of the two.
        sync = _find(data, SYNC, 0, place + 1, sync_end) if sync == place else sync
        whole = _find(data, identity, BEFORE_IDENTITY, place + 1, end) if whole == place else whole
    # Here, because it imports NumPy.
    from robuststream.container.manybits import near_places

    yield from near_places(data, min(sync, whole), end, identity)


def _find(data: bytes, pattern: bytes, before: int, start: int, end: int) -> int:
    """The first place from `start` on that has `pattern` so many bytes behind it, before `end`; else len(data)."""
    found = data.find(pattern, start + before, max(end, 0))
    return len(data) if found < 0 else found - before


def _is_near(data: bytes, at: int, identity: bytes) -> bool:
    """Whether a packet of few flipped bits may begin there, by its sync and stream id."""
    sync = int.from_bytes(data[at : at + len(SYNC)], "big") ^ int.from_bytes(SYNC, "big")
    other = int.from_bytes(data[at + BEFORE_IDENTITY : at + KNOWN], "big") ^ int.from_bytes(identity, "big")
    return sync.bit_count() + other.bit_count() <= MAX_FLIPS


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


def _heads(raw: bytes, identity: bytes) -> Iterator[tuple[tuple[PacketFields, int, int], tuple[int, ...]]]:
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
