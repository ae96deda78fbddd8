"""Files made to keep a reader busy: the events of the plain search all the same, at a cost that stays linear."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robuststream.checksum import crc16, crc32c
from robuststream.container import flood, layout, prefixes, scanner
from robuststream.container.packets import Event, Gap, Kind, Packet
from tests.container.test_scanner import IDENTITY, SNIPPETS, events, split
from tests.helpers import memory_below, packet, slow_crc16, varint

NEVER, AT_ONCE = 1 << 62, -1


@contextmanager
def limits(patience: int, payload: int = layout.MAX_PAYLOAD, block: int = flood.BLOCK) -> Iterator[None]:
    """How much the search bears before the rest is a flood, and a smaller format, so that small files are large."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (layout, flood):
            patch.setattr(module, "MAX_PAYLOAD", payload)
        patch.setattr(flood, "BLOCK", block)
        patch.setattr(scanner, "PATIENCE", patience)
        yield


def plain_search(data: bytes, limit: int = layout.MAX_PAYLOAD) -> list[Event]:
    """Section 10 as it stands there, each payload summed anew."""
    found: list[Event] = []
    p = end_of_last = 0
    while (q := data.find(b"\xb7RS", p)) >= 0:
        p = q + 1
        header = plain_header(data, q, limit)
        if header is None:
            continue
        fields, number, start, end = header
        kind, identity = fields[0], fields[1:5]
        stored = data[end : end + 4]
        if len(stored) == 4 and struct.pack("<I", crc32c(data[start:end], crc32c(fields))) == stored:
            if q > end_of_last:
                found.append(Gap(end_of_last, q))
            found.append(Packet(kind, identity, number, data[start:end], q, end + 4 - q))
            p = end_of_last = end + 4
    return found + ([Gap(end_of_last, len(data))] if end_of_last < len(data) else [])


def plain_header(data: bytes, q: int, limit: int) -> tuple[bytes, int, int, int] | None:
    """What the CRCs cover, number, and where the payload begins and ends."""
    values, at = [], q + 8
    for _ in range(2):
        stop = at
        while stop < len(data) and data[stop] >= 0x80:
            stop += 1
        value = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data[at : stop + 1]))
        if value >= 1 << 32 or data[at : stop + 1] != varint(value):
            return None
        values.append(value)
        at = stop + 1
    fields = data[q + 3 : at]
    if data[at : at + 2] != struct.pack("<H", crc16(fields)) or values[1] > limit:
        return None
    return fields, values[0], at + 2, at + 2 + values[1]


def raw_header(number: bytes, length: bytes) -> bytes:
    """A packet header of TILE with these bytes as varints, and with a valid CRC-16."""
    fields = bytes([Kind.TILE]) + IDENTITY + number + length
    return b"\xb7RS" + fields + struct.pack("<H", slow_crc16(fields))


SMALL = 200
VARINTS = st.one_of(
    st.integers(0, 2 * SMALL).map(varint),
    st.sampled_from(
        [varint(value) for value in (127, 128, SMALL, SMALL + 1, 1 << 14, 1 << 20, 1 << 21, (1 << 32) - 1)]
    ),
    st.sampled_from([b"\x80\x00", b"\xff\x80\x00", b"\x80\x80\x80\x80\x10", b"\x80\x80\x80\x80\x80\x01", b"\x80" * 4]),
)
HEADERS = st.builds(raw_header, VARINTS, VARINTS)
NESTED = st.lists(
    st.builds(raw_header, st.integers(0, 3).map(varint), st.integers(0, SMALL).map(varint)), max_size=30
).map(b"".join)
FULL = st.builds(packet, st.just(Kind.TILE), st.just(IDENTITY), st.integers(0, 9), NESTED)
HOSTILE = st.lists(
    st.one_of(
        SNIPPETS, HEADERS, NESTED, FULL, st.builds(lambda header, end: header[:end], HEADERS, st.integers(0, 20))
    ),
    max_size=12,
).map(b"".join)
FEW_IN_VAIN = 3 * scanner.HEADER_COST


@given(HOSTILE, st.lists(st.integers(0, 10_000), max_size=8), st.sampled_from([NEVER, FEW_IN_VAIN, AT_ONCE]))
def test_events_are_those_of_the_plain_search(data, cuts, patience):
    with limits(patience, SMALL, block=64):
        assert events(*split(data, cuts)) == plain_search(data, SMALL)


@contextmanager
def plain_python() -> Iterator[None]:
    """Every kernel as Python runs it, where an index out of bounds is an error."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (flood, prefixes):
            for name, value in list(vars(module).items()):
                if hasattr(value, "py_func"):
                    patch.setattr(module, name, value.py_func)
        yield


@settings(max_examples=30)
@given(HOSTILE, st.lists(st.integers(0, 10_000), max_size=8))
def test_kernels_as_plain_python_find_the_same(data, cuts):
    with limits(AT_ONCE, SMALL, block=64), plain_python():
        assert events(*split(data, cuts)) == plain_search(data, SMALL)


@pytest.mark.parametrize("length", [0, 1, 128, 1 << 14, (1 << 14) + 129])
def test_kernels_as_plain_python_sum_payloads_of_any_length(length):
    data = layout.SYNC + bytes(30) + packet(Kind.TILE, IDENTITY, 3, np.random.default_rng(length).bytes(length))
    hurt = data[:-1] + bytes([data[-1] ^ 1])
    with limits(AT_ONCE, 1 << 15, block=64), plain_python():
        assert events(data) == plain_search(data)
        assert events(hurt) == plain_search(hurt)


def test_a_header_cut_at_the_end_as_plain_python():
    data = layout.SYNC + bytes(30) + raw_header(varint((1 << 32) - 1), varint(SMALL))
    for end in range(len(data) - 13, len(data) + 1):
        with limits(AT_ONCE, SMALL, block=64), plain_python():
            assert events(data[:end]) == plain_search(data[:end], SMALL), end


@pytest.mark.parametrize("plain", [False, True])
def test_headers_inside_each_other(plain):
    """More of them than headers fit side by side in a block: every second one begins in the stream id before."""
    data = layout.SYNC + bytes(30)
    for number in range(64):
        outer = b"T" + layout.SYNC + b"T" + varint(number) + b"\5"
        inner = b"T" + outer[-2:] + struct.pack("<H", slow_crc16(outer)) + varint(number) + b"\6"
        data += layout.SYNC + outer + inner[3:5] + inner[5:] + struct.pack("<H", slow_crc16(inner))
    data += packet(Kind.TILE, IDENTITY, 5, b"true")
    with limits(AT_ONCE, SMALL, block=64), plain_python() if plain else nullcontext():
        assert events(data) == plain_search(data, SMALL)


@pytest.mark.parametrize("patience", [NEVER, FEW_IN_VAIN, AT_ONCE])
def test_every_end_of_the_file_is_read_as_by_the_plain_search(patience):
    data = b"".join(raw_header(varint(n), varint(7 * n % SMALL)) for n in range(9))
    data += packet(Kind.TILE, IDENTITY, 300, b"true") + data + packet(Kind.TILE, IDENTITY, 1, b"", length=SMALL)
    for end in range(len(data)):
        with limits(patience, SMALL, block=32):
            assert events(*(data[at : min(at + 11, end)] for at in range(0, end, 11))) == plain_search(
                data[:end], SMALL
            )


@pytest.mark.parametrize("patience", [NEVER, AT_ONCE])
@pytest.mark.parametrize(
    ("number", "length"),
    [
        (b"\0", varint(layout.MAX_PAYLOAD)),
        (varint((1 << 32) - 1), varint(layout.MAX_PAYLOAD)),
        (b"\0", varint(layout.MAX_PAYLOAD + 1)),
        (b"\0", varint((1 << 21) - 1)),
        (b"\0", varint(1 << 21)),
        (b"\0", varint((1 << 32) - 1)),
        (b"\x80\0", b"\x05"),
        (b"\0", b"\x85\0"),
        (b"\x80\x80\x80\x80\x10", b"\x05"),
        (b"\x80\x80\x80\x80\x80\x01", b"\x05"),
    ],
)
def test_numbers_and_lengths_at_their_limits(number, length, patience):
    data = layout.SYNC + bytes(30) + raw_header(number, length) + b"payload"
    with limits(patience):
        assert events(data) == plain_search(data)


@pytest.mark.parametrize("patience", [NEVER, AT_ONCE])
def test_longest_packet_is_found_behind_forged_headers(patience):
    true = layout.build_packet(Kind.TILE, IDENTITY, 7, np.random.default_rng(5).bytes(layout.MAX_PAYLOAD))
    data = forged("maximal", 3000) + true + forged("maximal", 300) + true[:-1]
    with limits(patience):
        assert events(*split(data, list(range(0, len(data), 70_001)))) == plain_search(data)


def test_forged_headers_hide_no_true_packet():
    """Also where a flood is met on the way, and with blocks and cells of their true size."""
    rng = np.random.default_rng(3)
    data, places = bytearray(), []
    for n in range(60):
        data += forged("sawtooth", int(rng.integers(0, 3000)))
        data += rng.bytes(int(rng.integers(0, 5000)))
        places.append(len(data))
        data += packet(Kind.TILE, IDENTITY, n, rng.bytes(int(rng.integers(0, 40_000))))
    with limits(1 << 24):
        found = events(*(bytes(data[at : at + 70_001]) for at in range(0, len(data), 70_001)))
    assert [event.offset for event in found if isinstance(event, Packet)] == places
    with limits(1 << 24):
        assert events(bytes(data)) == plain_search(bytes(data)) == found


def test_intact_packets_are_passed_over_whole():
    """With what they hold, and next to each other, where no damaged ones lie between."""
    inner = packet(Kind.TILE, IDENTITY, 2, b"inner") + raw_header(b"\1", b"\1")
    outer = packet(Kind.TILE, IDENTITY, 1, inner)
    data = layout.SYNC + bytes(30) + outer + outer + raw_header(b"\3", b"\1") + outer
    with limits(AT_ONCE):
        found = events(data)
    assert [event.number for event in found if isinstance(event, Packet)] == [1, 1, 1]


def test_bytes_behind_the_end_are_not_taken_for_zeros():
    """Both checksums in turn end with a zero, which the end of the file cuts off."""
    packets = [packet(Kind.TILE, IDENTITY, number, b"") for number in range(128, 2000)]
    header = next(data[:-4] for data in packets if data[-5] == 0)
    whole = next(data for data in packets if data[-1] == 0)
    for data in (layout.SYNC + bytes(30) + header, layout.SYNC + bytes(30) + whole):
        with limits(AT_ONCE):
            assert events(data[:-1]) == plain_search(data[:-1])


# --- Cost -----------------------------------------------------------------------------------------------------------


class Counter:
    """Bytes that go into CRC-32C, bytes searched in blocks, and how large the scanner's window gets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.summed = self.searched = self.window = 0
        append, search, sum_up = scanner._Window.append, flood._search, flood.sum_up

        def counted(data: bytes, crc: int = 0) -> int:
            self.summed += len(data)
            return crc32c(data, crc)

        def counted_sum(data: np.ndarray, at: int, states: np.ndarray) -> None:
            self.summed += len(data) - at
            sum_up(data, at, states)

        def counted_search(data: np.ndarray, at: int, block: int, *others: object) -> tuple[int, int, int, int]:
            found = search(data, at, block, *others)
            self.searched += (found[0] if found[0] >= 0 else min(block, len(data))) - at
            return found

        def measured(window: scanner._Window, data: bytes) -> None:
            append(window, data)
            self.window = max(self.window, window.end - window._start)

        for module in (scanner, layout):
            monkeypatch.setattr(module, "crc32c", counted)
        monkeypatch.setattr(flood, "sum_up", counted_sum)
        monkeypatch.setattr(flood, "_search", counted_search)
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


@pytest.mark.parametrize("piece", [500, 5000])
@pytest.mark.parametrize("kind", ["maximal", "shrinking", "sawtooth"])
def test_forged_headers_cost_a_constant_for_each_byte(kind, piece, monkeypatch):
    """Naively each header would cost all it claims, some 4000 bytes for each byte of the file.

    The longest payload is set to 64 KiB, so that a short file is long beside it.
    """
    limit, size, patience = 1 << 16, 1 << 19, 1 << 22
    data = forged(kind, size, limit)
    counter = Counter(monkeypatch)
    with limits(patience, limit, block=1 << 14):
        found = events(*split(data, list(range(0, size, piece))))
    assert found == [Gap(0, size)]
    # Before the flood what patience allows, and in it each byte once, with a reach beyond the file's end.
    headers = patience // scanner.HEADER_COST * layout.MAX_PACKET_HEADER
    assert counter.summed < patience + limit + headers + size + 2 * limit
    assert counter.searched <= size


@pytest.mark.parametrize("length", [1, 1000, layout.MAX_PAYLOAD])
def test_what_is_too_little_for_a_flood_costs_a_constant_for_each_byte(length, monkeypatch):
    """Headers so far from each other that they never are one."""
    apart = (length + scanner.HEADER_COST) // scanner.PACE
    one = packet(Kind.TILE, IDENTITY, 1, b"", length=length)
    data = (one + bytes(apart)) * ((1 << 22) // apart)
    counter = Counter(monkeypatch)
    assert events(data) == [Gap(0, len(data))]
    assert counter.searched == 0
    assert counter.summed < scanner.PACE * len(data)


def test_undamaged_stream_is_summed_about_once(monkeypatch):
    counter = Counter(monkeypatch)
    rng = np.random.default_rng(4)
    data = b"".join(layout.build_packet(Kind.TILE, IDENTITY, n, rng.bytes(100_000)) for n in range(30))
    counter.summed = 0
    assert all(isinstance(event, Packet) for event in events(data))
    assert counter.summed < 1.2 * len(data)


@pytest.mark.parametrize("content", ["zeros", "syncs", "maximal", "shrinking"])
def test_memory_is_bounded_whatever_the_bytes_say(content, monkeypatch):
    counter = Counter(monkeypatch)
    size, piece = 5 << 20, 1 << 16
    if content in ("zeros", "syncs"):
        data = (bytes(16) if content == "zeros" else layout.SYNC + bytes(13)) * (size // 16)
    else:
        data = forged(content, 1 << 19) + bytes(4 << 20)
    with memory_below(24 << 20):
        events(*(data[at : at + piece] for at in range(0, len(data), piece)))
    # What a search must see, what is let go of only in steps of a payload's size, and the piece just given.
    assert counter.window <= flood.Flood().reach + layout.MAX_PAYLOAD + piece
