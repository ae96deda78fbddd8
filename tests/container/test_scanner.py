"""Any bytes in pieces of any size: the same events, all of the file, at a cost that stays linear."""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream.container import layout, scanner
from robuststream.container.packets import DamagedPacket, Event, Gap, Kind, Packet
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
    """Packets and gaps follow each other without overlap or hole; damaged packets begin inside gaps."""
    at = 0
    for event in found:
        if isinstance(event, Packet):
            assert event.offset == at
            whole = packet(event.kind, event.stream_id, event.number, event.payload)
            assert data[event.offset : event.offset + event.size] == whole
            at += event.size
        elif isinstance(event, Gap):
            assert event.start == at
            assert event.end > at
            at = event.end
    assert at == len(data)
    gaps = [event for event in found if isinstance(event, Gap)]
    for event in found:
        if isinstance(event, DamagedPacket):
            assert any(gap.start <= event.offset < gap.end for gap in gaps)
            assert event.offset < event.payload_start <= event.payload_end


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


def test_damaged_packet_is_told_and_search_resumes_inside_it():
    inner = packet(Kind.TILE, IDENTITY, 2, b"inner")
    outer = packet(Kind.TILE, IDENTITY, 1, b"before" + inner + b"after")
    broken = outer[:-1] + bytes([outer[-1] ^ 1])
    start = len(outer) - 4 - len(b"before" + inner + b"after")
    inside = start + len(b"before")
    assert events(broken) == [
        DamagedPacket(Kind.TILE, IDENTITY, 1, 0, start, len(outer) - 4),
        Gap(0, inside),
        Packet(Kind.TILE, IDENTITY, 2, b"inner", inside, len(inner)),
        Gap(inside + len(inner), len(outer)),
    ]


def test_search_resumes_inside_the_header_of_a_damaged_packet():
    """A true packet that begins in what looks like a header, CRC-16 and all: its stream id is the false one's CRC."""
    false_fields = b"T" + b"\xb7RST" + b"\x05" + b"\x20"
    identity = b"\x05\x20" + struct.pack("<H", slow_crc16(false_fields))
    data = b"\xb7RST" + packet(Kind.TILE, identity, 1, b"the payload of the true one")
    false = DamagedPacket(Kind.TILE, b"\xb7RST", 5, 0, 12, 44)
    true = Packet(Kind.TILE, identity, 1, b"the payload of the true one", 4, len(data) - 4)
    assert events(data) == [false, Gap(0, 4), true]


def test_intact_packet_is_passed_over_whole():
    outer = packet(Kind.TILE, IDENTITY, 1, packet(Kind.TILE, IDENTITY, 2, b"inner"))
    assert [event.number for event in events(outer)] == [1]


@pytest.mark.parametrize("cut", range(1, 40))
def test_cut_packet_is_told_as_soon_as_its_header_is_whole(cut):
    data = packet(Kind.TILE, IDENTITY, 1, b"twenty bytes of text")
    found = events(data[:-cut])
    header = len(data) - 24
    assert found[-1] == Gap(0, len(data) - cut) if len(data) > cut else found == []
    assert any(isinstance(event, DamagedPacket) for event in found) == (len(data) - cut >= header)


# --- Cost -----------------------------------------------------------------------------------------------------------


class Counter:
    """How many bytes go into CRC-32C, and how large the scanner's window gets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.summed = self.window = 0
        real, append = scanner.crc32c, scanner._Window.append

        def counted(data: bytes, crc: int = 0) -> int:
            self.summed += len(data)
            return real(data, crc)

        def measured(window: scanner._Window, data: bytes) -> None:
            append(window, data)
            self.window = max(self.window, len(window._data))

        monkeypatch.setattr(scanner, "crc32c", counted)
        monkeypatch.setattr(layout, "crc32c", counted)
        monkeypatch.setattr(scanner._Window, "append", measured)


def forged(kind: str, size: int, limit: int = layout.MAX_PAYLOAD) -> bytes:
    """Headers on headers, each with a valid CRC-16, that claim what follows as payload."""
    data, number = bytearray(), 0
    while len(data) < size:
        claims = {
            "maximal": limit,
            "shrinking": min(limit, max(size - len(data) - 18 - 4, 0)),
            "sawtooth": limit >> number % 16,
        }
        data += packet(Kind.TILE, IDENTITY, number, b"", length=claims[kind])[:-4]  # the next header follows at once
        number += 1
    return bytes(data[:size])


@pytest.mark.parametrize("kind", ["maximal", "shrinking", "sawtooth"])
def test_forged_headers_cost_a_constant_for_each_byte(kind, monkeypatch):
    """Naively each header would cost all it claims, some 4000 bytes for each byte of the file.

    The longest payload is set to 64 KiB, so that a short file is long beside it.
    """
    limit = 1 << 16
    for module in (scanner, layout):
        monkeypatch.setattr(module, "MAX_PAYLOAD", limit)
    counter = Counter(monkeypatch)
    costs = []
    for size in (4 * limit, 8 * limit):
        data = forged(kind, size, limit)
        counter.summed = 0
        found = events(*split(data, list(range(0, size, 5000))))
        assert sum(isinstance(event, DamagedPacket) for event in found) > size // 20
        assert found[-1] == Gap(0, size)
        costs.append(counter.summed / size)
    # Two cells of at most 1 KiB for each header of at least 13 bytes, and every byte once or twice.
    assert max(costs) < 2 * scanner._Window.GRID / 13 + 3
    assert costs[1] < 1.3 * costs[0]


def test_undamaged_stream_is_summed_about_once(monkeypatch):
    counter = Counter(monkeypatch)
    rng = np.random.default_rng(4)
    data = b"".join(layout.build_packet(Kind.TILE, IDENTITY, n, rng.bytes(100_000)) for n in range(30))
    counter.summed = 0
    assert all(isinstance(event, Packet) for event in events(data))
    assert counter.summed < 1.2 * len(data)


def test_forged_headers_hide_no_true_packet():
    """Prefix CRCs, grid cells and a moved window must give what a plain CRC gives."""
    rng = np.random.default_rng(3)
    data, places = bytearray(), []
    for n in range(60):
        data += forged("sawtooth", int(rng.integers(0, 3000)))
        data += rng.bytes(int(rng.integers(0, 5000)))
        places.append(len(data))
        data += packet(Kind.TILE, IDENTITY, n, rng.bytes(int(rng.integers(0, 40_000))))
    found = events(*(bytes(data[at : at + 70_001]) for at in range(0, len(data), 70_001)))
    assert [event.offset for event in found if isinstance(event, Packet)] == places
    assert_covers(found, bytes(data))


@pytest.mark.parametrize("content", ["zeros", "syncs", "maximal", "shrinking"])
def test_memory_is_bounded_whatever_the_bytes_say(content, monkeypatch):
    counter = Counter(monkeypatch)
    size, piece = 5 << 20, 1 << 16
    if content in ("zeros", "syncs"):
        data = (bytes(16) if content == "zeros" else layout.SYNC + bytes(13)) * (size // 16)
    else:
        data = forged(content, 1 << 19) + bytes(4 << 20)
    events(*(data[at : at + piece] for at in range(0, len(data), piece)))
    # The longest packet, what is let go of only in steps of a payload's size, and the piece just given.
    longest = layout.MAX_PACKET_HEADER + layout.MAX_PAYLOAD + layout.PAYLOAD_CRC_BYTES
    assert counter.window <= longest + layout.MAX_PAYLOAD + piece
