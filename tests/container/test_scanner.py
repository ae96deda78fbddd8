"""Any bytes in pieces of any size: the same events, and all of the file."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream.container.packets import Event, Gap, Kind, Packet
from robuststream.container.scanner import Scanner
from tests.helpers import packet, sample_stream, slow_crc16

IDENTITY = b"\x09\x08\x07\x06"


def events(*pieces: bytes) -> list[Event]:
    instance = Scanner()
    found = [event for piece in pieces for event in instance.feed(piece)]
    return found + list(instance.close())


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def assert_covers(found: list[Event], data: bytes) -> None:
    """Packets and gaps follow each other without overlap or hole."""
    at = 0
    for event in found:
        if isinstance(event, Packet):
            assert event.offset == at
            whole = packet(event.kind, event.stream_id, event.number, event.payload)
            assert data[event.offset : event.offset + event.size] == whole
            at += event.size
        else:
            assert event.start == at
            assert event.end > at
            at = event.end
    assert at == len(data)


SNIPPETS = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"\xb7", b"\xb7R", b"\xb7RS", b"\xb7\xb7RS", b"\xb7RSH"]),
    st.builds(packet, st.sampled_from(list(b"HTimpX")), st.just(IDENTITY), st.integers(0, 400), st.binary(max_size=40)),
    st.builds(
        packet, st.just(Kind.TILE), st.just(IDENTITY), st.integers(0, 9), st.binary(max_size=30), st.integers(0, 200)
    ),
    st.builds(lambda end: packet(Kind.TILE, IDENTITY, 1, b"cut off somewhere")[:end], st.integers(0, 33)),
)
FILES = st.lists(SNIPPETS, max_size=12).map(b"".join)


@given(FILES, st.lists(st.integers(0, 10_000), max_size=8))
def test_any_split_gives_the_same_events(data, cuts):
    assert events(*split(data, cuts)) == events(data)


@given(FILES)
def test_byte_by_byte_gives_the_same_events(data):
    assert events(*(data[at : at + 1] for at in range(len(data)))) == events(data)


@given(FILES)
def test_events_cover_the_file(data):
    assert_covers(events(data), data)


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=30)), max_size=6))
def test_every_whole_packet_is_found_in_any_junk(parts):
    parts = [(junk.replace(b"\xb7", b"x"), payload) for junk, payload in parts]
    data = b"".join(junk + packet(Kind.TILE, IDENTITY, n, payload) for n, (junk, payload) in enumerate(parts))
    found = [event for event in events(data) if isinstance(event, Packet)]
    assert [(event.number, event.payload) for event in found] == [(n, payload) for n, (_, payload) in enumerate(parts)]


def test_real_stream_is_packets_only_and_trailing_bytes_are_a_gap():
    data = sample_stream()[2]
    whole = events(data)
    assert all(isinstance(event, Packet) for event in whole)
    assert_covers(whole, data)
    assert events(data + b"\xb7R") == [*whole, Gap(len(data), len(data) + 2)]


def test_empty_file_has_no_events():
    assert events() == events(b"") == []


def test_search_resumes_inside_a_damaged_packet():
    inner = packet(Kind.TILE, IDENTITY, 2, b"inner")
    outer = packet(Kind.TILE, IDENTITY, 1, b"before" + inner + b"after")
    broken = outer[:-1] + bytes([outer[-1] ^ 1])
    start = len(outer) - 4 - len(b"before" + inner + b"after")
    inside = start + len(b"before")
    assert events(broken) == [
        Gap(0, inside),
        Packet(Kind.TILE, IDENTITY, 2, b"inner", inside, len(inner)),
        Gap(inside + len(inner), len(outer)),
    ]


def test_search_resumes_inside_the_header_of_a_damaged_packet():
    """A true packet that begins in what looks like a header, CRC-16 and all: its stream id is the false one's CRC."""
    false_fields = b"T" + b"\xb7RST" + b"\x05" + b"\x20"
    identity = b"\x05\x20" + struct.pack("<H", slow_crc16(false_fields))
    data = b"\xb7RST" + packet(Kind.TILE, identity, 1, b"the payload of the true one")
    true = Packet(Kind.TILE, identity, 1, b"the payload of the true one", 4, len(data) - 4)
    assert events(data) == [Gap(0, 4), true]


def test_intact_packet_is_passed_over_whole():
    outer = packet(Kind.TILE, IDENTITY, 1, packet(Kind.TILE, IDENTITY, 2, b"inner"))
    assert [event.number for event in events(outer)] == [1]


@pytest.mark.parametrize("cut", range(1, 32))
def test_a_packet_that_is_cut_off_is_a_gap(cut):
    data = packet(Kind.TILE, IDENTITY, 1, b"twenty bytes of text")
    assert events(data[:-cut]) == [Gap(0, len(data) - cut)]
