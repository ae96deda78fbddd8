"""One or two flipped bits are found wherever they are; the search is bounded whatever the bytes say."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream.container import correction, layout, remains, syndromes
from robuststream.container.correction import Corrected
from robuststream.container.packets import Gap, Kind, Metadata, Packet
from robuststream.container.remains import Search
from robuststream.container.scanner import scan
from tests.helpers import memory_below, packet, sample_header, sample_stream, slow_crc16, slow_crc32c, varint

_, _, DATA = sample_stream(sample_header(64, 64), words=6, metadata=Metadata(xmp=b"<x/>"))
PACKETS = [event for event in scan(DATA) if isinstance(event, Packet)]
IDENTITY = PACKETS[0].stream_id


def flipped(data: bytes, *bits: int) -> bytes:
    hurt = bytearray(data)
    for bit in bits:
        hurt[bit >> 3] ^= 1 << (bit & 7)
    return bytes(hurt)


def everything(kind: int, number: int) -> bool:
    return True


def found(data: bytes, identity: bytes = IDENTITY, wanted: Callable[[int, int], bool] = everything):
    gaps = [event for event in scan(data) if isinstance(event, Gap)]
    return [list(item.explanations) for item in Search(data, gaps, identity, wanted).run() if item.explanations]


def at(bit: int) -> Packet:
    """The packet a bit of the stream lies in."""
    return next(item for item in PACKETS if item.offset <= bit >> 3 < item.offset + item.size)


# --- What is found --------------------------------------------------------------------------------------------------


def test_every_flipped_bit():
    """In sync, kind, id, number, length, CRC-16, payload and CRC-32C of every packet."""
    for bit in range(8 * len(DATA)):
        assert found(flipped(DATA, bit)) == [[Corrected(at(bit), (bit,))]], bit


def test_random_pairs():
    rng = np.random.default_rng(1)
    for _ in range(1500):
        item = PACKETS[rng.integers(len(PACKETS))]
        pair = tuple(sorted(map(int, 8 * item.offset + rng.choice(8 * item.size, 2, replace=False))))
        assert found(flipped(DATA, *pair)) == [[Corrected(item, pair)]], pair


def plain_places(data: bytes, start: int, end: int) -> list[int]:
    places = []
    for at in range(start, end - 7):
        flips = [
            sum((a ^ b).bit_count() for a, b in zip(data[at + k : at + k + len(p)], p, strict=True))
            for k, p in ((0, layout.SYNC), (4, IDENTITY))
        ]
        if 0 in flips and sum(flips) <= 2:
            places.append(at)
    return places


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=9),
            st.builds(
                lambda bits, end: flipped(layout.SYNC + b"T" + IDENTITY, *bits)[:end],
                st.sets(st.integers(0, 63), max_size=3),
                st.integers(1, 8),
            ),
        ),
        max_size=30,
    ).map(b"".join),
    st.integers(0, 20),
    st.integers(0, 20),
    st.sampled_from([0, 2, 1 << 12]),
)
def test_places_are_those_of_a_plain_loop(data, start, behind, few):
    """Few are tried one by one, more in NumPy, in small blocks here."""
    start, end = min(start, len(data)), max(0, len(data) - behind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remains, "FEW_PLACES", few)
        patch.setattr(remains, "BLOCK", 16)
        assert list(remains.near_places(data, start, end, IDENTITY)) == plain_places(data, start, end)


def test_a_flip_in_every_packet_at_once():
    rng = np.random.default_rng(2)
    for _ in range(100):
        bits = [int(8 * item.offset + rng.integers(8 * item.size)) for item in PACKETS]
        hurt = flipped(DATA, *bits)
        assert found(hurt) == [[Corrected(item, (bit,))] for item, bit in zip(PACKETS, bits, strict=True)]


def test_a_packet_header_that_the_file_cuts_off_is_none():
    for end in range(len(layout.SYNC), 12):
        assert found(packet(Kind.TILE, IDENTITY, 5, b"payload")[:end]) == [], end


@pytest.mark.parametrize("ahead", range(3))
def test_three_flips_are_too_many_wherever_they_are(ahead):
    """Each part alone has few enough: sync, fields and CRC-16 before the payload, and what the CRC-32C covers."""
    data = packet(Kind.TILE, IDENTITY, 5, b"payload")
    rng = np.random.default_rng(ahead)
    for _ in range(50):
        bits = [*rng.choice(8 * 12, ahead, replace=False), *(8 * 12 + rng.choice(8 * 11, 3 - ahead, replace=False))]
        assert found(flipped(data, *map(int, bits))) == [], bits
        assert found(flipped(data, *map(int, bits[1:]))) != [], bits


def test_all_sizes_of_packet_header():
    """Number and length of 1 to 5 and 1 to 3 bytes: a flip may make them longer or shorter."""
    for number in (0, 127, 128, 1 << 14, 1 << 21, 1 << 28, (1 << 32) - 1):
        for length in (0, 1, 127, 128, 20_000):
            data = packet(Kind.TILE, IDENTITY, number, bytes(length))
            head = len(data) - length - 4
            for bit in range(8 * head):
                hurt = flipped(data, bit)
                (explanations,) = found(hurt)
                assert [(item.packet.number, item.flips) for item in explanations] == [(number, (bit,))]


def test_long_packets_may_have_several_explanations():
    """All of them are true as far as the CRCs know, and what was written is among them."""
    rng = np.random.default_rng(3)
    several = 0
    for _ in range(20):
        data = packet(Kind.TILE, IDENTITY, 5, rng.bytes(16_000))
        pair = tuple(sorted(map(int, rng.choice(range(8 * 14, 8 * len(data)), 2, replace=False))))
        (explanations,) = found(flipped(data, *pair))
        several += len(explanations) > 1
        assert pair in [item.flips for item in explanations]
        for item in explanations:
            mended = flipped(flipped(data, *pair), *item.flips)
            assert [event for event in scan(mended) if isinstance(event, Packet)] == [item.packet]
    assert several > 5, "a second explanation is likely in 16 KB: the test proves nothing"


def test_what_heavier_damage_looks_like():
    """Against all sets of up to two flips of a short packet, tried one by one."""
    rng = np.random.default_rng(4)
    fields = b"T" + IDENTITY + b"\x03\x06"
    data = packet(Kind.TILE, IDENTITY, 3, b"abcdef")
    body = range(8 * 12, 8 * len(data))
    for count in (3, 4, 5, 6, 7, 20):
        hurt = flipped(data, *map(int, rng.choice(body, count, replace=False)))
        syndrome = slow_crc32c(hurt[12:-4], slow_crc32c(fields)) ^ struct.unpack("<I", hurt[-4:])[0]
        alone = {bit: _syndrome(data, bit) ^ _syndrome(data, None) for bit in body}
        expected = [(bit,) for bit in body if alone[bit] == syndrome]
        expected += [pair for pair in combinations(body, 2) if alone[pair[0]] ^ alone[pair[1]] == syndrome]
        assert [item.flips for group in found(hurt) for item in group] == expected


def _syndrome(data: bytes, bit: int | None) -> int:
    hurt = data if bit is None else flipped(data, bit)
    return slow_crc32c(hurt[12:-4]) ^ struct.unpack("<I", hurt[-4:])[0]


@pytest.mark.parametrize("size", [1, 1000, layout.MAX_PAYLOAD])
def test_one_flip_in_a_packet_of_any_size(size):
    data = layout.build_packet(Kind.TILE, IDENTITY, 0, bytes(size))
    first = 8 * (len(data) - size - 4)
    for bit in (first, first + 8 * size - 1, 8 * len(data) - 1):
        assert [[item.flips for item in group] for group in found(flipped(data, bit))] == [[(bit,)]]


def test_pairs_in_long_packets_are_not_looked_for():
    data = layout.build_packet(Kind.TILE, IDENTITY, 0, bytes(syndromes.MAX_PAIR_BITS // 8))
    assert found(flipped(data, 2000, 3000)) == []
    assert len(found(flipped(data, 2000))) == 1


def test_too_many_explanations_are_none(monkeypatch):
    monkeypatch.setattr(remains, "MAX_EXPLANATIONS", 0)
    assert found(flipped(DATA, 700)) == []


def test_packets_of_other_streams_and_unwanted_ones_are_left_alone():
    hurt = flipped(DATA, 8 * (PACKETS[3].offset + 14))
    assert found(hurt, b"else") == []
    assert found(hurt, wanted=lambda kind, number: kind == Kind.HEADER) == []


def test_an_id_of_one_bit_more_is_another_streams():
    """Its packet header's CRC-16 holds: nothing in it was flipped."""
    other = flipped(IDENTITY, 3)
    hurt = flipped(packet(Kind.TILE, other, 0, b"abcdef"), 8 * 14)
    assert found(hurt) == []
    assert [[item.flips for item in group] for group in found(hurt, other)] == [[(8 * 14,)]]


def test_a_packet_must_lie_inside_its_gap():
    """What claims more than there is, or what another packet holds, is no packet of a few flipped bits."""
    tile = packet(Kind.TILE, IDENTITY, 0, b"abcdef")
    long = flipped(packet(Kind.TILE, IDENTITY, 0, b"begin" + tile + b"end"), 8 * 14)
    assert len([event for event in scan(long) if isinstance(event, Packet)]) == 1
    assert found(long) == []
    assert found(flipped(tile, 100)[:-1]) == []


# --- What it costs --------------------------------------------------------------------------------------------------


class Work:
    """Counts what the search does: bytes summed and walked, places tried, bits looked up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = 0
        heads, pairs, one, crc = remains.heads, syndromes.pairs_of, syndromes.bit_of, correction.crc32c

        def counted_crc(data: bytes, seed: int = 0) -> int:
            self.done += len(data)
            return crc(data, seed)

        def counted_pairs(syndrome: int, bits: int) -> list[tuple[int, int]]:
            self.done += bits // 8
            return pairs(syndrome, bits)

        def counted_bit(syndrome: int, bits: int) -> int | None:
            self.done += bits // 8
            return one(syndrome, bits)

        def counted_heads(raw: bytes, identity: bytes):
            self.done += remains.NAME
            return heads(raw, identity)

        monkeypatch.setattr(correction, "crc32c", counted_crc)
        monkeypatch.setattr(syndromes, "pairs_of", counted_pairs)
        monkeypatch.setattr(syndromes, "bit_of", counted_bit)
        monkeypatch.setattr(remains, "heads", counted_heads)


def hostile(kind: str, size: int) -> bytes:
    data, number = bytearray(), 0
    while len(data) < size:
        if kind == "syncs":
            data += layout.SYNC + b"T" + IDENTITY
        elif kind == "ids":
            data += IDENTITY
        elif kind == "nested":
            left = max(0, size - len(data) - 18 - 4)
            data += packet(Kind.TILE, IDENTITY, number, b"", length=min(left, layout.MAX_PAYLOAD))[:-4]
        else:  # a flip in each nested packet header, which says how long it is nevertheless
            left = max(0, size - len(data) - 18 - 4)
            head = packet(Kind.TILE, IDENTITY, number, b"", length=min(left, layout.MAX_PAYLOAD))[:-4]
            data += flipped(head, 8 * 8 + 1)
        number += 1
    return bytes(data[:size])


@pytest.mark.parametrize("kind", ["syncs", "ids", "nested", "flipped"])
def test_work_is_linear_whatever_the_bytes_say(kind, monkeypatch):
    work = Work(monkeypatch)
    for size in (1 << 15, 1 << 17):
        data = hostile(kind, size)
        work.done = 0
        found(data)
        # Each byte that is paid for is summed, and then walked over or looked up; one packet may overdraw.
        assert work.done < 2 * (remains.SPARE + remains.WORK * size) + 2 * size + 1000
    # Two tables with an entry for each bit, of 16 KiB at most, however long the file is.
    with memory_below(24 << 20):
        found(hostile(kind, 1 << 14))


def test_an_undamaged_stream_costs_nothing(monkeypatch):
    work = Work(monkeypatch)
    assert found(DATA) == []
    assert work.done == 0


def test_honest_damage_stays_within_its_budget():
    """Two flips in every packet of a stream of small packets, where each costs most."""
    _, _, data = sample_stream(sample_header(640, 640), words=2)
    rng = np.random.default_rng(5)
    packets = [event for event in scan(data) if isinstance(event, Packet)]
    bits = [int(bit) for item in packets for bit in 8 * item.offset + rng.choice(8 * item.size, 2, replace=False)]
    hurt = flipped(data, *bits)
    search = Search(hurt, [Gap(0, len(hurt))], packets[0].stream_id, everything)
    explained = [item.explanations[0].packet for item in search.run() if item.explanations]
    assert search.budget > 0
    assert len(explained) > 0.99 * len(packets)


def test_checksums_are_those_of_the_oracle():
    """The syndromes this module walks over belong to the CRCs of the format."""
    fields = b"T" + IDENTITY + varint(300) + varint(5)
    for syndrome, (byte, bit) in correction._head_syndromes().items():
        if byte >= 2 and byte - 2 < len(fields):
            hurt = flipped(fields, 8 * (len(fields) - 1 - (byte - 2)) + bit)
            assert slow_crc16(hurt) ^ slow_crc16(fields) == syndrome
