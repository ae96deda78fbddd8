"""Files made to exhaust a reader: what they declare allocates nothing, what they break is counted."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream.checksum import crc16
from robuststream.container import layout, leftovers, symbols
from robuststream.container.judge import without
from robuststream.container.packets import Header, Kind, Salvage
from robuststream.container.parity import Block
from robuststream.container.report import Rule
from robuststream.transfers.reading import read_restored, read_stream, restore
from tests.helpers import memory_below, packet, packet_header, sample_header, varint

IDENTITY = b"\x01\x02\x03\x04"


def huge(tile: int) -> Header:
    return sample_header(1 << 31, 1 << 31, tile)


@pytest.mark.parametrize("tile", [1, 256, 4096])
def test_declared_size_allocates_nothing(tile):
    payload = layout.build_header(huge(tile))
    data = packet(Kind.HEADER, IDENTITY, 0, payload) + packet(Kind.TILE, IDENTITY, 0, b"\x02")
    with memory_below(1 << 20):
        stream = read_stream(data)
        json.dumps(stream.report.to_json())
    assert stream.header.width == 1 << 31
    assert stream.report.missing_tiles == huge(tile).tiles - 1
    assert len(stream.report.tiles) == 1


@pytest.mark.parametrize(("bytes_more", "listed"), [(0, 6400), (-1, 0)])
def test_tiles_are_listed_where_the_file_has_16_bytes_for_each(bytes_more, listed):
    data = packet(Kind.HEADER, IDENTITY, 0, layout.build_header(sample_header(80, 80, 1)))
    data += bytes(16 * 6400 + bytes_more - len(data))
    report = read_stream(data).report
    assert (len(report.tiles), report.missing_tiles) == (listed, 6400)


def hostile() -> Iterator[tuple[str, bytes]]:
    header = packet(Kind.HEADER, IDENTITY, 0, layout.build_header(sample_header()))
    lie = packet(Kind.TILE, IDENTITY, 1, b"", length=layout.MAX_PAYLOAD)[:-4]
    yield "syncs", header + layout.SYNC * 20_000
    yield "forged tiles", header + lie * 5000
    yield (
        "many forged tiles",
        header
        + b"".join(packet(Kind.TILE, IDENTITY, number, b"", length=layout.MAX_PAYLOAD)[:-4] for number in range(9))
        * 500,
    )
    yield "foreign packets", header + b"".join(packet(Kind.TILE, n.to_bytes(4, "big"), 0, b"") for n in range(5000))
    yield "empty tiles", header + packet(Kind.TILE, IDENTITY, 1, b"") * 5000
    yield "gaps", header + (b"x" + packet(ord("x"), IDENTITY, 0, b"")) * 5000


def forged(kind: int, count: int, behind: bytes = b"", distinct: str = "number") -> bytes:
    """Damaged packets of as many names, each of which claims what follows as payload."""
    headers = []
    for n in range(count):
        number, identity = (n, IDENTITY) if distinct == "number" else (0, n.to_bytes(4, "big"))
        headers.append(packet_header(kind, identity, number, layout.MAX_PAYLOAD) + behind)
    return b"".join(headers)


@pytest.mark.parametrize(("kind", "distinct"), [(Kind.TILE, "number"), (Kind.METADATA, "number"), (Kind.TILE, "id")])
def test_damaged_packets_of_distinct_names_take_few_bytes(kind, distinct):
    header = packet(Kind.HEADER, IDENTITY, 0, layout.build_header(sample_header()))
    data = header + forged(kind, 60_000, distinct=distinct)
    read_stream(data)  # what is made once
    # The second is for what any file takes: two blocks, their prefixes, a thousand findings.
    with memory_below(3 * len(data) + (9 << 20)):
        report = read_stream(data).report
    assert len(report.tiles) == 6
    assert report.other_streams == ()


def test_damaged_packets_of_other_kinds_are_told_up_to_a_limit():
    header = packet(Kind.HEADER, IDENTITY, 0, layout.build_header(sample_header()))
    findings = read_stream(header + forged(Kind.METADATA, 3000)).report.findings
    told = [finding.rule for finding in findings]
    assert told.count(Rule.PACKET_CRC) == 1000
    # Of each other rule the first.
    assert {rule: told.count(rule) for rule in set(told)} == {Rule.PACKET_CRC: 1000, Rule.TILE_MISSING: 1}


def test_salvage_is_bounded(monkeypatch):
    """Damaged tiles nested in each other, each with a checkpoint over all that it claims."""
    seen = 0
    salvage = leftovers.salvage_tile

    def counted(header: Header, identity: bytes, index: int, payload: bytes, length: int) -> Salvage | None:
        nonlocal seen
        seen += len(payload)
        return salvage(header, identity, index, payload, length)

    monkeypatch.setattr(leftovers, "salvage_tile", counted)
    header = packet(Kind.HEADER, IDENTITY, 0, layout.build_header(sample_header(1 << 14, 1 << 14)))
    data = header + forged(Kind.TILE, 5000, behind=varint(1 << 17) + b"crc.")
    report = read_stream(data).report
    assert len(data) < seen <= 2 * len(data)
    assert report.findings_left_out > 800  # others are told all the same, but for what a search may cost


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=8),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=8),
)
def test_gaps_are_what_no_finding_names(gaps, named):
    taken: set[int] = set()
    listed = []
    for start, size in sorted(gaps):
        if not taken & set(range(start - 1, start + size + 1)):
            taken |= set(range(start, start + size))
            listed.append((start, start + size))
    told = without(listed, [(start, start + size) for start, size in named])
    bytes_told = [at for start, end in told for at in range(start, end)]
    assert bytes_told == sorted(taken - {at for start, size in named for at in range(start, start + size)})


@pytest.mark.parametrize(("name", "data"), list(hostile()), ids=[name for name, _ in hostile()])
def test_findings_are_capped(name, data):
    report = read_stream(data).report
    assert not report.intact
    assert len(report.findings) <= 1000 + len(Rule)
    kept_or_counted = len(report.findings) + report.findings_left_out
    assert kept_or_counted >= (4999 if name in ("foreign packets", "empty tiles", "gaps") else 1)


@pytest.mark.parametrize("read", [read_stream, read_restored, lambda data: restore([data])])
def test_parity_packets_that_declare_many_others_take_few_bytes(monkeypatch, read):
    """Each is of a block of its own, of one symbol and 1024 PARITY packets."""
    monkeypatch.setattr(symbols, "SPARE_SYMBOLS", 1 << 11)
    blocks = [Block(0, 3 + n, (32,), 32, 1024, 1024 * n, 1024) for n in range(400)]
    header = packet(Kind.HEADER, IDENTITY, 0, layout.build_header(sample_header(parity=100)))
    data = header + b"".join(packet(Kind.PARITY, IDENTITY, block.number, block.description) for block in blocks)
    with memory_below(16 << 20):
        read(data)


def test_parity_packets_are_counted_once():
    """Blocks that claim the same numbers, in part."""
    spans = [(0, 4), (2, 4), (10, 3)]
    blocks = [Block(0, 3 + n, (32,), 32, size, number, size) for n, (number, size) in enumerate(spans)]
    header = packet(Kind.HEADER, IDENTITY, 0, layout.build_header(sample_header(parity=100)))
    parts = [packet(Kind.PARITY, IDENTITY, block.number + 1, block.description) for block in blocks]
    messages = [finding.message for finding in read_stream(header + b"".join(parts)).report.findings]
    assert "6 of 9 PARITY packets are missing or damaged" in messages


@pytest.mark.parametrize("size", [1 << 15, 1 << 16])
@pytest.mark.parametrize(("packets", "symbol"), [(1, 1 << 15), (64, 1 << 10)])
def test_symbols_looked_for_are_linear_in_bytes(monkeypatch, size, packets, symbol):
    """Many blocks, of each of which the same bytes may be the packets, in many places."""
    seen = 0

    def counted(data: bytes) -> int:
        nonlocal seen
        seen += len(data)
        return crc16(data)

    monkeypatch.setattr(symbols, "crc16", counted)
    monkeypatch.setattr(symbols, "SPARE_STEPS", 0)
    monkeypatch.setattr(symbols, "SPARE_LOOKED", 0)
    blocks = [Block(0, 2 + packets * n, (size // packets,) * packets, symbol, 1, n, 1) for n in range(300 // packets)]
    parts = [packet(Kind.HEADER, IDENTITY, 0, layout.build_header(sample_header(1 << 15, 1 << 15, parity=100)))]
    parts += [packet(Kind.PARITY, IDENTITY, block.number, block.description) for block in blocks]
    parts += [
        packet(Kind.TILE, IDENTITY, n, b"", length=size // packets - 24)[:-4] for n in range(len(blocks) * packets)
    ]
    data = b"".join(parts) + bytes(size)
    assert not read_restored(data).restored
    per_byte = (symbols.LOOKED + symbols.STEPS * symbols.STEP) / 256
    assert size < seen <= 2 * per_byte * len(data)
