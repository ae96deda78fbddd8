"""Parity packets: what is in them, against bytes written out with struct, and what must be refused."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
import raptorq
from hypothesis import given
from hypothesis import strategies as st

from robuststream.container import parity
from robuststream.container.packets import Kind, Metadata, Packet
from robuststream.container.report import Rule
from robuststream.container.scanner import scan
from robuststream.container.writer import write_stream
from robuststream.transfers.reading import read_stream
from tests.helpers import packet, random_tiles, sample_header, sample_stream, slow_crc16, slow_crc32c, varint

HEADER = sample_header(parity=250)
TILES = random_tiles(HEADER, words=40)
DATA = write_stream(HEADER, TILES, Metadata(xmp=b"<x/>"))
PACKETS = [event for event in scan(DATA) if isinstance(event, Packet)]
PARITY = [item for item in PACKETS if item.kind == Kind.PARITY]
#: HEADER once, METADATA, INDEX, TILEs: what parity covers.
COVERED = [DATA[p.offset : p.offset + p.size] for p in PACKETS if p.kind not in (Kind.HEADER, Kind.PARITY)]
COVERED.insert(0, DATA[: PACKETS[0].size])


def test_payload_written_out():
    source = b"".join(COVERED)
    size = 56
    assert size**2 >= 2 * len(source) > (size - 8) ** 2
    symbols = [source[at : at + size].ljust(size, b"\0") for at in range(0, len(source), size)]
    repair = -(-len(symbols) * 250 // 1000)
    assert len(PARITY) == 3
    head = varint(1) + varint(0) + varint(len(COVERED)) + b"".join(varint(len(raw)) for raw in COVERED)
    head += varint(size) + varint(repair) + varint(0) + varint(3)
    head += struct.pack("<I", slow_crc32c(head))
    head += b"".join(struct.pack("<H", slow_crc16(symbol)) for symbol in symbols)
    encoded = raptorq.Encoder.with_defaults(b"".join(symbols), size).get_encoded_packets(repair)
    assert [int.from_bytes(item[:4], "big") for item in encoded] == list(range(len(symbols) + repair))
    assert [item[4:] for item in encoded[: len(symbols)]] == symbols
    own = [
        item[4:] + struct.pack("<H", slow_crc16(struct.pack("<I", index) + item[4:]))
        for index, item in enumerate(encoded[len(symbols) :])
    ]
    each = -(-repair // 3)
    assert [item.payload for item in PARITY] == [head + b"".join(own[n * each : (n + 1) * each]) for n in range(3)]


def test_order_and_reading():
    kinds = "".join(chr(item.kind) for item in PACKETS)
    assert kinds == "HmiTTHTTHTTpppH"
    stream = read_stream(DATA)
    assert stream.report.intact
    assert stream.header.parity == 250
    assert stream.report.packets["PARITY"] == 3
    assert list(stream.tiles.values()) == TILES


@given(st.integers(1, 4000), st.lists(st.integers(1, 200_000), min_size=3, max_size=40), st.integers(0, 3))
def test_every_plan_is_possible_and_comes_back(share, sizes, metadata):
    blocks = parity.plan(sizes, metadata, share)
    assert [size for block in blocks for size in block.sizes] == sizes
    number = first = 0
    for block in blocks:
        assert parity.parse_description(block.description + b"rest") == block
        assert (block.first, block.number) == (first, number)
        held = [index for n in block.parity_numbers() for index in block.repair_of(n)]
        assert held == list(range(block.repair))
        assert all(len(block.repair_of(n)) for n in block.parity_numbers())
        assert 1000 * block.repair >= share * block.symbols
        first, number = first + len(block.sizes), number + block.packets


def test_large_streams_have_several_blocks():
    blocks = parity.plan([1_000_000] * 10, 0, 100)
    assert [len(block.sizes) for block in blocks] == [4, 4, 2]
    assert all(block.length <= parity.MAX_BLOCK for block in blocks)


BROKEN = {
    "no packets": {"sizes": ()},
    "a size of zero": {"sizes": (100, 0)},
    "too long": {"sizes": (1 << 20,) * 9, "symbol": 1 << 15},
    "small symbol": {"symbol": 24},
    "odd symbol": {"symbol": 44},
    "large symbol": {"symbol": (1 << 15) + 8},
    "too many symbols": {"sizes": (32 * 56404,), "symbol": 32},
    "no repair symbols": {"repair": 0, "packets": 0},
    "no packets of them": {"packets": 0},
    "more packets than symbols": {"repair": 3, "packets": 4},
    "an empty last packet": {"repair": 5, "packets": 4},
    "too many repair symbols": {"repair": (1 << 16) + 1},
    "numbers that no packet has": {"number": (1 << 32) - 2, "repair": 5, "packets": 5},
    "packets of more than 2^20 bytes": {"sizes": (1 << 15,) * 9, "symbol": 1 << 15, "repair": 128, "packets": 4},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_impossible_descriptions(change):
    block = parity.parse_description(PARITY[0].payload)
    assert block is not None
    assert parity.parse_description(replace(block, **change).description) is None


def test_every_bit_of_a_description_is_covered():
    head = parity.parse_description(PARITY[0].payload).description
    for bit in range(8 * len(head)):
        hurt = bytearray(PARITY[0].payload)
        hurt[bit // 8] ^= 1 << bit % 8
        assert parity.parse_description(bytes(hurt)) is None, bit
    for end in range(len(head)):
        assert parity.parse_description(head[:end]) is None


def rules(data):
    return {finding.rule for finding in read_stream(data).report.findings}


def test_reader_says_what_is_wrong_with_parity():
    one, two, three = (DATA[item.offset : item.offset + item.size] for item in PARITY)
    assert rules(DATA.replace(one, b"")) == {Rule.PARITY}
    assert rules(DATA.replace(one + two + three, b"")) == {Rule.PARITY}
    assert rules(DATA.replace(two, packet(Kind.PARITY, PARITY[0].stream_id, 1, b"junk"))) == {Rule.PARITY}
    assert rules(DATA.replace(two, two + two)) == {Rule.DUPLICATE}
    plain = sample_stream()[2]
    identity = read_stream(plain).stream_id
    assert Rule.PARITY in rules(plain + packet(Kind.PARITY, identity, 0, PARITY[0].payload))


def test_solving_needs_enough():
    block = parity.parse_description(PARITY[0].payload)
    data = b"".join(COVERED)
    padded = data + bytes(-len(data) % block.symbol)
    source = {k: padded[k * block.symbol : (k + 1) * block.symbol] for k in range(block.symbols)}
    repair = {k: s for item in PARITY for k, s in parity.repair_symbols(block, item.number, item.payload)}
    assert len(repair) == block.repair
    assert parity.solve(block, source, {}) == data
    lost = {k: symbol for k, symbol in source.items() if k >= block.repair}
    some = dict(list(repair.items())[:-1])
    assert parity.solve(block, lost, some) is None
    assert parity.solve(block, {k: s for k, s in source.items() if k >= block.repair - 2}, repair) == data


def test_nothing_is_made_before_there_are_enough_symbols(monkeypatch):
    """RaptorQ's decoder allocates by what the description says."""
    block = parity.Block(0, 0, (1 << 20,) * 8, 1 << 15, 5, 0, 5)
    monkeypatch.setattr(parity, "require_raptorq", lambda: pytest.fail("a decoder is made"))
    symbol = bytes(block.symbol)
    assert parity.solve(block, dict.fromkeys(range(block.symbols - 6), symbol), dict.fromkeys(range(5), symbol)) is None


def test_symbols_enough_in_number_may_still_not_do():
    """RFC 6330 solves from as many symbols as there were in all cases but one of a few hundred."""
    block = parity.Block(0, 0, (10 * 32,), 32, 400, 0, 3)
    data = np.random.default_rng(1).bytes(block.length)
    made = raptorq.Encoder.with_defaults(data, block.symbol).get_encoded_packets(block.repair)
    repair = [item[parity.PAYLOAD_ID :] for item in made[block.symbols :]]
    solved = [
        parity.solve(block, {}, {n: repair[n] for n in range(start, start + block.symbols)})
        for start in range(block.repair - block.symbols)
    ]
    assert set(solved) == {data, None}
    assert solved.count(None) < 10
