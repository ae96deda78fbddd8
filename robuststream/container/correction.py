"""Bit errors at no rate: which one or two flipped bits make a damaged packet whole (spec/format.md, section 10.1).

A CRC is linear over GF(2). What a flipped bit changes in the syndrome (the stored CRC xor the computed one) depends
only on its distance from the packet's end, so the syndrome says which bits they may be (syndromes.py).

CRC-32C's polynomial has the factor x + 1: the syndrome's parity is that of the number of flips, and one flip is never
taken for two. Two bits have no second explanation by two in packets of up to 655 bytes (Hamming distance 6: Koopman,
"32-Bit Cyclic Redundancy Codes for Internet Applications", 2002); in longer ones they may. Heavier damage may look like
one or two flips everywhere. What is found here is a guess, for others to prove.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from robuststream.checksum import crc16, crc32c
from robuststream.container.layout import (
    MAX_PACKET_HEADER,
    MIN_PACKET_HEADER,
    PAYLOAD_CRC_BYTES,
    SYNC,
    PacketFields,
    parse_packet_header,
)
from robuststream.container.packets import Packet

#: In a whole packet, sync and CRCs included.
MAX_FLIPS = 2


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


def explanations(data: bytes, at: int, head: Head) -> list[Corrected]:
    """The packets that may have stood at position `at` of a file, behind this packet header, which the file holds."""
    (fields, crc, size), flips = head
    end = at + size + fields.length + PAYLOAD_CRC_BYTES
    body = data[at + size : end]
    syndrome = crc32c(body[:-PAYLOAD_CRC_BYTES], crc) ^ int.from_bytes(body[-PAYLOAD_CRC_BYTES:], "little")
    found = []
    for distances in _sets(syndrome, 8 * len(body), MAX_FLIPS - len(flips)):
        mended = bytearray(body)
        for distance in distances:
            mended[-1 - (distance >> 3)] ^= 0x80 >> (distance & 7)
        payload = bytes(mended[:-PAYLOAD_CRC_BYTES])
        packet = Packet(fields.kind, fields.stream_id, fields.number, payload, at, end - at)
        places = [8 * at + flip for flip in flips] + [8 * end - 1 - distance for distance in distances]
        found.append(Corrected(packet, tuple(sorted(places))))
    return found


def _sets(syndrome: int, bits: int, flips: int) -> Sequence[tuple[int, ...]]:
    """The sets of up to `flips` bits, as distances from the end, that have this syndrome in a packet of `bits`.

    The bits are those of payload and CRC-32C; those before have a CRC of their own.
    """
    if not syndrome:
        return [()]
    from robuststream.container import syndromes

    if syndrome.bit_count() & 1:
        distance = syndromes.bit_of(syndrome, bits) if flips else None
        return [] if distance is None else [(distance,)]
    return syndromes.pairs_of(syndrome, bits) if flips > 1 and bits <= syndromes.MAX_PAIR_BITS else []


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
