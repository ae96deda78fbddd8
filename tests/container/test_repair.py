"""Restoring: every byte lost, bursts, insertions, deletions, several copies; and what cannot be restored."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import robuststream as rs
from robuststream.checksum import crc16
from robuststream.container import layout, parity, symbols
from robuststream.container.collect import Collected
from robuststream.container.copies import MAX_PLACES, Copy
from robuststream.container.packets import Kind, Metadata, Packet
from robuststream.container.scanner import scan
from robuststream.container.symbols import MAX_SHIFT, Effort, SymbolSearch
from robuststream.container.tiles import build_tile
from robuststream.container.writer import write_stream
from robuststream.faults import drop_tiles
from robuststream.transfers.reading import read_restored, read_stream, restore
from tests.helpers import memory_below, packet, random_tiles, sample_header, sample_stream

HEADER = sample_header(parity=500)
TILES = random_tiles(HEADER, words=60)
DATA = write_stream(HEADER, TILES, Metadata(xmp=b"<x/>"))
PACKETS = [event for event in scan(DATA) if isinstance(event, Packet)]
BLOCK = parity.parse_description(next(p for p in PACKETS if p.kind == Kind.PARITY).payload)
_, _, PLAIN = sample_stream(words=60)


def test_an_undamaged_stream_is_given_back():
    for data in (DATA, PLAIN):
        restored = restore([data])
        assert (restored.data, restored.whole, restored.missing, restored.restored) == (data, True, (), ())


@pytest.mark.parametrize("length", [1, 40, 200])
def test_every_place_of_a_hit(length):
    """Overwritten, cut out, put in: a burst hurts fewer symbols than there are repair symbols."""
    random = np.random.default_rng(length)
    for at in range(0, len(DATA) - length, 3):
        noise = random.bytes(length)
        for hurt in (
            DATA[:at] + noise + DATA[at + length :],
            DATA[:at] + DATA[at + length :],
            DATA[:at] + noise + DATA[at:],
        ):
            restored = restore([hurt])
            assert restored.whole, at
            assert restored.data == DATA, at


def test_headers_and_index_hurt_as_well():
    hurt = bytearray(DATA)
    for item in PACKETS:
        if item.kind in (Kind.HEADER, Kind.INDEX):
            hurt[item.offset + 20] ^= 0x1F
    with pytest.raises(rs.DamagedStream):
        read_stream(bytes(hurt))
    assert restore([bytes(hurt)]).data == DATA
    report = read_restored(bytes(hurt)).report
    assert not report.intact
    assert "no HEADER packet survived" in str(report.findings[0])


def test_parity_of_another_header_than_the_one_that_counts():
    """The first one has one tile, which is gone; all that parity gives back belongs to the other."""
    large = layout.build_header(replace(HEADER, tile=256, metadata_packets=1))
    pieces = [DATA[p.offset : p.offset + p.size] for p in PACKETS if p.kind != Kind.TILE or 0 < p.number < 5]
    pieces[0] = packet(Kind.HEADER, PACKETS[0].stream_id, 0, large)
    hurt = b"".join(pieces)
    assert len(large) > len(PACKETS[0].payload)
    assert restore([hurt]).data == DATA
    stream = read_restored(hurt)
    assert stream == read_stream(hurt)
    assert (stream.header.tiles, stream.tiles) == (1, {})


@pytest.mark.parametrize("payload", [None, b"\2newer", b"\1\0broken"], ids=["other", "newer", "broken"])
def test_parity_of_another_header_spoils_no_whole_stream(payload):
    """What the stream id proves is whole, whatever a stranger's parity gives back beside it."""
    identity, size = PACKETS[0].stream_id, PACKETS[0].size
    swapped = build_tile(HEADER, identity, replace(TILES[2], words=bytes(200)))
    payload = payload or layout.build_header(replace(HEADER, tile=256, metadata_packets=9))
    raw = [packet(Kind.HEADER, identity, 0, payload)]
    raw += [packet(Kind.METADATA, identity, n, b"") for n in range(9)]
    raw += [packet(Kind.INDEX, identity, 0, b""), *(packet(Kind.TILE, identity, n, swapped) for n in range(3))]
    blocks = [replace(block, number=500) for block in parity.plan([len(item) for item in raw], 9, 1500)]
    forged = b"".join(item for _, item in parity.parity_packets(blocks, raw, identity))
    data = DATA[:size] + forged + DATA[size:]
    restored = restore([data])
    assert (restored.data, restored.whole) == (DATA, True)
    assert read_restored(data).tiles == read_stream(DATA).tiles


def test_a_broken_header_is_no_obstacle_where_parity_has_the_true_one():
    tile = next(p for p in PACKETS if p.kind == Kind.TILE)
    broken = packet(Kind.HEADER, tile.stream_id, 0, b"\1\0broken")
    pieces = [DATA[p.offset : p.offset + p.size] for p in PACKETS if p.kind != Kind.HEADER and p != tile]
    assert restore([broken + b"".join(pieces)]).data == DATA


def test_every_packet_hurt():
    """Not one intact packet, and no intact description: two halves of one are."""
    hurt = bytearray(DATA)
    for item in PACKETS:
        hurt[item.offset + item.size - 5] ^= 1
    first, second, third = (p.offset for p in PACKETS if p.kind == Kind.PARITY)
    hurt[first + 18] ^= 1
    hurt[second + 28] ^= 1
    hurt[third + 20] ^= 1
    assert not any(isinstance(event, Packet) for event in scan(bytes(hurt)))
    restored = restore([bytes(hurt)])
    assert (restored.whole, restored.data) == (True, DATA)


def test_tiles_from_parity_are_restored_not_intact():
    cut = next(p for p in PACKETS if p.kind == Kind.TILE and p.number == 2)
    stream = read_restored(DATA[: cut.offset] + DATA[cut.offset + cut.size :])
    assert stream.tiles[2] == TILES[2]
    assert set(stream.restored) == {2}
    assert not stream.report.intact


def test_two_deletions_in_one_tile():
    tile = next(p for p in PACKETS if p.kind == Kind.TILE and p.number == 1)
    start = tile.offset
    hurt = DATA[: start + 30] + DATA[start + 37 : start + 220] + DATA[start + 230 :]
    needed = restore([hurt])
    assert needed.whole
    assert needed.data == DATA


def test_too_much_is_lost():
    tiles = [p for p in PACKETS if p.kind == Kind.TILE]
    hurt = DATA[: tiles[1].offset] + DATA[tiles[4].offset + tiles[4].size :]
    restored = restore([hurt])
    assert not restored.whole
    assert restored.missing == ("TILE 1", "TILE 2", "TILE 3", "TILE 4")
    gone = sum(p.size for p in tiles[1:5]) / BLOCK.symbol
    assert gone - BLOCK.repair - 3 < restored.needed < gone - BLOCK.repair + 8
    assert set(read_stream(restored.data).tiles) == {0, 5}


def test_copies_are_merged():
    tiles = {p.number: p for p in scan(PLAIN) if isinstance(p, Packet) and p.kind == Kind.TILE}
    copies = []
    for lost in ((0, 1, 2), (2, 3, 4), (5,)):
        hurt = bytearray(PLAIN)
        for number in lost:
            hurt[tiles[number].offset + 40] ^= 0xFF
        copies.append(bytes(hurt))
    restored = restore(copies)
    assert (restored.whole, restored.data) == (True, PLAIN)
    assert restore(copies[:1] * 2).missing == ("TILE 0", "TILE 1", "TILE 2")
    foreign = sample_stream(words=60, seed=9)[2]
    assert restore([copies[0], foreign]).missing == ("TILE 0", "TILE 1", "TILE 2")


def test_order_copies_and_index_are_put_right_without_parity():
    pieces = [PLAIN[p.offset : p.offset + p.size] for p in scan(PLAIN) if isinstance(p, Packet)]
    unique = [piece for piece in dict.fromkeys(pieces) if piece[3] != Kind.INDEX]
    assert restore([b"junk".join(reversed(unique))]).data == PLAIN


def with_wrong_symbols(*tiles: int) -> bytes:
    """In each of these tiles three lost bytes are made up so that a symbol's CRC-16 holds."""
    hurt = bytearray(DATA)
    for number in tiles:
        tile = next(p for p in PACKETS if p.kind == Kind.TILE and p.number == number)
        before = sum(p.size for p in PACKETS if p.offset < tile.offset and p.kind != Kind.HEADER) + PACKETS[0].size
        index = -(-(before + 30) // BLOCK.symbol)
        start = tile.offset + index * BLOCK.symbol - before
        # A multiple of the CRC's polynomial x^16 + x^12 + x^5 + 1 changes nothing of it.
        for place, value in ((5, 0x01), (6, 0x10), (7, 0x21)):
            hurt[start + place] ^= value
        end = start + BLOCK.symbol
        assert crc16(bytes(hurt[start:end])) == crc16(DATA[start:end])
    return bytes(hurt)


def test_a_wrong_symbol_with_the_right_sum_is_found_out():
    """Only the CRC-32C of the packet can tell."""
    restored = restore([with_wrong_symbols(3)])
    assert (restored.whole, restored.data) == (True, DATA)


def test_two_wrong_symbols_with_the_right_sums_are_not_taken():
    """One at a time is done without: what two would do to the tile is not found, and nothing wrong is given out."""
    restored = restore([with_wrong_symbols(2, 3)])
    assert restored.missing == ("TILE 2", "TILE 3")
    assert read_stream(restored.data).tiles == {n: TILES[n] for n in (0, 1, 4, 5)}


def test_a_search_for_wrong_symbols_ends(monkeypatch):
    monkeypatch.setattr(symbols, "SPARE_SOLVED", -(1 << 30))
    assert restore([with_wrong_symbols(3)]).missing == ("TILE 3",)


def test_sums_of_a_damaged_parity_packet_do_not_count_beside_an_intact_one():
    tile = next(p for p in PACKETS if (p.kind, p.number) == (Kind.TILE, 2))
    lost = next(p for p in PACKETS if (p.kind, p.number) == (Kind.PARITY, 1))
    hurt = bytearray(DATA)
    hurt[tile.offset + 20 : tile.offset + 220] = bytes(200)
    # It says that the symbols are what stands there now.
    start = lost.offset + lost.size - layout.PAYLOAD_CRC_BYTES - len(lost.payload) + len(BLOCK.description)
    hurt[start : start + 2 * BLOCK.symbols] = crc16(bytes(BLOCK.symbol)).to_bytes(2, "little") * BLOCK.symbols
    restored = restore([bytes(hurt)])
    assert (restored.whole, restored.data) == (True, DATA)


def test_some_tiles_stay_lost():
    tiles = [p for p in PACKETS if p.kind == Kind.TILE]
    hurt = DATA[: tiles[1].offset] + DATA[tiles[4].offset + tiles[4].size :]
    stream = read_restored(hurt)
    assert stream.tiles == {0: TILES[0], 5: TILES[5]}
    assert (set(stream.restored), list(stream.unproven)) == (set(), [])
    assert read_restored(DATA) == read_stream(DATA)


def test_nothing_to_restore():
    with pytest.raises(rs.NotARobustStream):
        restore([b"no stream"])
    with pytest.raises(rs.DamagedStream, match="no HEADER packet survived, and parity does not give it back"):
        restore([b"".join(PLAIN[p.offset : p.offset + p.size] for p in scan(PLAIN) if p.kind == Kind.TILE)])
    with pytest.raises(ValueError, match="one damaged copy"):
        rs.repair()


def test_a_forged_header_allocates_nothing():
    header = packet(Kind.HEADER, bytes(4), 0, layout.build_header(sample_header(1 << 31, 1 << 31, 1)))
    with memory_below(1 << 20):
        restored = restore([header])
    assert (restored.data, restored.whole) == (header, False)
    assert restored.missing == ("4611686018427387905 of 4611686018427387906 packets",)


@pytest.mark.parametrize(("sizes", "symbol"), [((1 << 20,) * 8, 1 << 15), ((56403 * 32,), 32)])
def test_forged_descriptions_allocate_nothing(sizes, symbol):
    """Of few large symbols, and of as many as can be."""
    blocks = [parity.Block(0, n, sizes, symbol, 5, n, 5) for n in range(200)]
    forged = b"".join(packet(Kind.PARITY, bytes(4), n, block.description) for n, block in enumerate(blocks))
    header = packet(Kind.HEADER, bytes(4), 0, layout.build_header(HEADER))
    with memory_below(1 << 21):
        assert not restore([header + forged]).whole


def test_without_the_package(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "raptorq", None)
    cut = next(p for p in PACKETS if p.kind == Kind.TILE)
    hurt = DATA[: cut.offset] + DATA[cut.offset + cut.size :]
    assert 0 not in read_restored(hurt).tiles
    assert "pip install 'robuststream[parity]'" in caplog.text
    with pytest.raises(ImportError, match="needs the package raptorq"):
        restore([hurt])
    with pytest.raises(ImportError):
        write_stream(HEADER, TILES)
    assert restore([PLAIN]).whole


# --- Forged ---------------------------------------------------------------------------------------------------------


def repacked(kind: int, change: Callable[[Packet], bytes]) -> bytes:
    """DATA with `change` instead of each packet of a kind."""
    return b"".join(change(p) if p.kind == kind else DATA[p.offset : p.offset + p.size] for p in PACKETS)


def test_a_header_of_any_number():
    """bad-numbered-header: a reader does not interpret it, and restoring looked for number 0."""
    numbered = repacked(Kind.HEADER, lambda p: packet(p.kind, p.stream_id, 7, p.payload))
    tile = next(p for p in scan(numbered) if isinstance(p, Packet) and p.kind == Kind.TILE)
    hurt = numbered[: tile.offset] + numbered[tile.offset + tile.size :]
    assert restore([hurt]).restored == (tile.number,)
    assert read_restored(hurt).tiles.keys() == set(range(HEADER.tiles))


def test_a_tile_by_parity_beside_a_strangers():
    """bad-lent-tile: all tiles are there then, and none is proven."""

    def other(item: Packet) -> bytes:
        if item.number == 0:
            return b""
        tile = TILES[item.number]
        if item.number == 1:
            tile = replace(tile, words=tile.words[:-4] + b"else")
        return packet(item.kind, item.stream_id, item.number, build_tile(HEADER, item.stream_id, tile))

    stream = read_restored(repacked(Kind.TILE, other))
    assert set(stream.restored) == {0}
    assert set(stream.unproven) == stream.tiles.keys() == set(range(HEADER.tiles))


@pytest.mark.parametrize("kind", [Kind.TILE, Kind.METADATA])
def test_packets_of_numbers_that_the_header_has_not_replace_no_lost_one(kind):
    """They were counted, and so parity was not asked."""
    lost = next(p for p in PACKETS if p.kind == kind)
    hurt = DATA[: lost.offset] + packet(kind, lost.stream_id, 99, b"") + DATA[lost.offset + lost.size :]
    stream = read_restored(hurt)
    assert stream.tiles.keys() == set(range(HEADER.tiles))
    assert stream.metadata == Metadata(xmp=b"<x/>")


@pytest.mark.parametrize(
    ("kind", "identity", "number", "taken"),
    [(None, None, 2, True), (None, b"else", 2, False), (None, None, 3, False), (Kind.METADATA, None, 2, False)],
    ids=["itself", "of another stream", "of another number", "of another kind"],
)
def test_a_packet_solved_for_must_be_what_its_ordinal_says(kind, identity, number, taken):
    """Parity over a packet in the place of tile 2, all of whose CRCs hold."""
    own = [p for p in PACKETS if p.kind != Kind.PARITY]
    by_ordinal = [own[0], *(p for p in own if p.kind != Kind.HEADER)]
    raw = [DATA[p.offset : p.offset + p.size] for p in by_ordinal]
    place = next(n for n, p in enumerate(by_ordinal) if (p.kind, p.number) == (Kind.TILE, 2))
    tile = by_ordinal[place]
    raw[place] = packet(kind or Kind.TILE, identity or tile.stream_id, number, tile.payload)
    blocks = parity.plan([len(item) for item in raw], 1, HEADER.parity)
    there = raw[:place] + raw[place + 1 :]
    there += [data for _, data in parity.parity_packets(blocks, raw, tile.stream_id)]
    assert restore([b"".join(there)]).restored == ((2,) if taken else ())


def test_with_nothing_left_to_spend_nothing_is_restored(monkeypatch):
    """Neither what PARITY packets hold nor what stands in damaged places is looked at."""
    hurt = drop_tiles(DATA, tiles=[2])
    assert restore([hurt]).restored == (2,)
    monkeypatch.setattr(symbols, "LOOKED", 0)
    monkeypatch.setattr(symbols, "SPARE_LOOKED", 0)
    restored = restore([hurt])
    assert (restored.data, restored.restored) == (hurt, ())
    assert restored.needed > 0


def test_only_symbols_inside_a_copy_are_looked_for():
    """bad-wide-description: of symbols that no place is left for, any number cost nothing."""
    data = bytes(200)
    block = parity.Block(0, 1, (1 << 20, 100), 32, 3, 0, 3)
    key, _, _ = next(iter(block.spans()))
    places = [{name: [0] for name, _, _ in block.spans()}]
    effort = Effort(len(data))
    begun = effort.steps
    search = SymbolSearch(block, [Copy(Collected(data), [])], places, [set()] * block.symbols, {}, effort)
    assert search.beside({}, 1) == {}
    shifts, packets = 2 * MAX_SHIFT + 1, 2
    assert 0 < begun - effort.steps <= packets * shifts * (1 + len(data) // 32)
    effort.steps = -1
    search = SymbolSearch(block, [Copy(Collected(data), [])], places, [{crc16(bytes(32))}] * block.symbols, {}, effort)
    assert search.beside({}, 1) == {}
    assert key == (Kind.INDEX, 0)


def test_symbols_beside_their_place_are_those_that_stand_there():
    """In any shift, also where a copy cuts the first or the last symbol."""
    data = np.random.default_rng(1).bytes(1000)
    block = parity.Block(0, 0, (640,), 32, 3, 0, 3)
    for place in (-700, -33, -1, 0, 350, 360, 361, 980):
        sums = [{crc16(data[max(0, place + 32 * n) :][:32])} for n in range(20)]
        inside = {n for n in range(20) if place + 32 * n >= 0 and place + 32 * (n + 1) <= len(data)}
        search = SymbolSearch(block, [Copy(Collected(data), [])], [{(Kind.HEADER, 0): [place]}], sums, {}, Effort(1000))
        found = search._run(data, place, list(range(20)), 1)
        assert found == {n: data[place + 32 * n : place + 32 * (n + 1)] for n in inside}


def test_a_tile_that_breaks_the_rules_is_not_whole():
    """All packets are there and their CRCs hold."""
    restored = restore([repacked(Kind.TILE, lambda p: packet(p.kind, p.stream_id, p.number, b"no tile"))])
    assert (restored.whole, restored.missing) == (False, ())


def test_a_packet_repeated_without_end_has_few_places():
    data = DATA[: PACKETS[0].size] * 100
    starts = Copy(Collected(data), []).starts
    assert starts == {(Kind.HEADER, 0): [PACKETS[0].size * n for n in range(MAX_PLACES)]}
