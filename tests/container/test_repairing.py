"""A repaired file is never worse than its input: what the id proves is put right, the rest is kept as it was found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robuststream.container import layout
from robuststream.container.packets import Kind, Metadata, Packet
from robuststream.container.report import Rule
from robuststream.container.scanner import scan
from robuststream.container.stream import Stream
from robuststream.container.tiles import build_tile
from robuststream.container.writer import write_stream
from robuststream.errors import DamagedStream, NotARobustStream, UnsupportedVersion
from robuststream.transfers.reading import read_restored, read_stream, restore
from tests.helpers import packet, packet_header, random_tiles, sample_header

NOTES = Metadata(icc=b"profile" * 20, xmp=b"<x/>")
PLAIN_HEADER = sample_header(checkpoints=3)
TILES = random_tiles(PLAIN_HEADER, words=60)
PLAIN = write_stream(PLAIN_HEADER, TILES, NOTES)
DATA = write_stream(replace(PLAIN_HEADER, parity=500), TILES, NOTES)


def packets(data: bytes) -> list[Packet]:
    return [event for event in scan(data) if isinstance(event, Packet)]


def flipped(data: bytes, places: dict[int, int]) -> bytes:
    """With these masks XORed into the bytes at these places."""
    hurt = bytearray(data)
    for place, mask in places.items():
        hurt[place] ^= mask
    return bytes(hurt)


def hurt_each(data: bytes, kind: int, place: int, mask: int) -> bytes:
    """With a byte changed in each packet of a kind, `place` bytes behind its beginning (or before its end)."""
    hurt = [item for item in packets(data) if item.kind == kind]
    return flipped(data, {item.offset + (place if place >= 0 else item.size + place): mask for item in hurt})


# --- Flipped bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [4, 0x21])
@pytest.mark.parametrize("place", [1, 3, 5, 9, 10, 20, 60, -5, -1])
def test_flipped_bits_in_every_tile_are_put_right(place, mask):
    """The stream id proves them: no model is needed."""
    for data in (PLAIN, DATA):
        restored = restore([hurt_each(data, Kind.TILE, place, mask)])
        assert (restored.data, restored.whole, restored.missing) == (data, True, ())
        # Where there is parity, that may come first.
        assert {*restored.corrected, *restored.restored} == set(range(6))


def test_a_header_put_right_is_proven_by_all_tiles():
    hurt = hurt_each(hurt_each(PLAIN, Kind.HEADER, 30, 1), Kind.TILE, 40, 2)
    assert restore([hurt]).data == PLAIN


def test_with_a_tile_gone_nothing_proves_the_others():
    """They are kept as they were found, for a decode to try."""
    gone = next(item for item in packets(PLAIN) if (item.kind, item.number) == (Kind.TILE, 2))
    hurt = hurt_each(PLAIN, Kind.TILE, 40, 2)
    hurt = hurt[: gone.offset] + hurt[gone.offset + gone.size :]
    restored = restore([hurt])
    assert (restored.whole, restored.data) == (False, hurt)
    assert read_stream(restored.data).candidates.keys() == {0, 1, 3, 4, 5}


def test_a_flip_in_metadata_loses_nothing():
    """Nothing but its CRC proves it, so it stays as it was found; a reader takes it as before."""
    hurt = hurt_each(PLAIN, Kind.METADATA, 20, 8)
    restored = restore([hurt])
    assert read_stream(restored.data).metadata == read_stream(hurt).metadata == NOTES
    assert (restored.data, restored.missing) == (hurt, ("METADATA 0", "METADATA 1"))
    assert restore([hurt_each(DATA, Kind.METADATA, 20, 8)]).data == DATA


def test_what_the_id_proves_is_put_in_though_metadata_is_lost():
    note = packets(PLAIN)[1]
    hurt = hurt_each(PLAIN, Kind.TILE, 40, 2)
    hurt = hurt[: note.offset] + hurt[note.offset + note.size :]
    restored = restore([hurt])
    assert restored.missing == ("METADATA 0",)
    assert read_stream(restored.data).tiles == dict(enumerate(TILES))


def test_what_is_salvaged_stays():
    """In one tile y is hit beyond its second part, another one is gone."""
    tiles = [item for item in packets(PLAIN) if item.kind == Kind.TILE]
    hurt = flipped(PLAIN, {tiles[1].offset + tiles[1].size - 10 - n: 0xFF for n in range(40)})
    hurt = hurt[: tiles[4].offset] + hurt[tiles[4].offset + tiles[4].size :]
    assert read_stream(hurt).salvaged[1].pieces
    assert read_stream(restore([hurt]).data).salvaged == read_stream(hurt).salvaged


# --- Parity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [1, 0x18])
@pytest.mark.parametrize("place", [0, 2, 3, 4, 8, 9, 11, 12, 14, 20])
def test_flips_at_the_front_of_every_parity_packet_leave_it_its_use(place, mask):
    pytest.importorskip("raptorq")
    tile = next(item for item in packets(DATA) if (item.kind, item.number) == (Kind.TILE, 2))
    hurt = hurt_each(DATA, Kind.PARITY, place, mask)
    hurt = hurt[: tile.offset] + hurt[tile.offset + tile.size :]
    assert set(read_restored(hurt).restored) == {2}
    assert restore([hurt]).data == DATA
    if mask == 1:
        assert Rule.CORRECTED in {finding.rule for finding in read_stream(hurt).report.findings}


def test_parity_gives_metadata_back_where_no_tile_is_lost():
    pytest.importorskip("raptorq")
    note = packets(DATA)[1]
    hurt = DATA[: note.offset] + DATA[note.offset + note.size :]
    stream = read_restored(hurt)
    assert (stream.metadata, set(stream.restored)) == (NOTES, set())
    assert not stream.report.intact


# --- Never worse ----------------------------------------------------------------------------------------------------


def worth(stream: Stream) -> tuple[int, int, int, int]:
    """What a decode can use."""
    salvaged = sum(1 + item.pieces for item in stream.salvaged.values())
    return len(stream.tiles), len(stream.tiles) + len(stream.candidates), salvaged, len(stream.metadata.items())


DAMAGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "burst", "cut", "insert", "drop", "double"]),
        st.floats(0, 1),
        st.integers(1, 150),
    ),
    min_size=1,
    max_size=8,
)


def damaged(data: bytes, damages: list[tuple[str, float, int]]) -> bytes:
    for what, where, size in damages:
        at = int(where * len(data))
        whole = packets(data)
        item = whole[int(where * (len(whole) - 1))] if whole else None
        noise = np.random.default_rng(size).bytes(size)
        if what == "flip":
            data = flipped(data, {min(at, len(data) - 1): 1 << size % 8}) if data else data
        elif what == "burst":
            data = data[:at] + noise + data[at + size :]
        elif what == "cut":
            data = data[:at] + data[at + size :]
        elif what == "insert":
            data = data[:at] + noise + data[at:]
        elif item is not None:
            raw = data[item.offset : item.offset + item.size]
            data = data[: item.offset] + raw * (what == "double") * 2 + data[item.offset + item.size :]
    return data


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([PLAIN, DATA]), DAMAGES)
def test_a_repaired_file_is_never_worse(whole, damages):
    hurt = damaged(whole, damages)
    try:
        before = read_restored(hurt)
    except (DamagedStream, NotARobustStream):
        return
    restored = restore([hurt])
    after = read_restored(restored.data)
    assert all(tile == TILES[index] for index, tile in after.tiles.items())
    assert not set(after.unproven) - set(before.unproven)
    assert worth(after)[:2] >= worth(before)[:2]
    assert len(after.tiles) > len(before.tiles) or worth(after) >= worth(before)
    assert set(before.metadata.items().items()) <= set(after.metadata.items().items())
    if restored.whole:
        assert restored.data == whole


@settings(max_examples=60, deadline=None)
@given(st.lists(DAMAGES, min_size=2, max_size=3))
def test_several_copies_are_no_worse_than_any_of_them(damages):
    copies = [damaged(PLAIN, one) for one in damages]
    best = 0
    for copy in copies:
        try:
            best = max(best, len(read_stream(copy).tiles))
        except (DamagedStream, NotARobustStream):
            continue
    if best:
        assert len(read_stream(restore(copies).data).tiles) >= best


def test_bytes_of_another_stream_stay():
    other = write_stream(PLAIN_HEADER, random_tiles(PLAIN_HEADER, words=60, seed=5))
    gone = next(item for item in packets(PLAIN) if item.kind == Kind.TILE)
    hurt = PLAIN[: gone.offset] + other[40:900] + PLAIN[gone.offset + gone.size :]
    assert restore([hurt]).data == hurt


def test_a_damaged_packet_of_another_copy_is_put_in():
    """Neither has tile 1 whole, and only the second has any of it."""
    tile = next(item for item in packets(PLAIN) if (item.kind, item.number) == (Kind.TILE, 1))
    gone = PLAIN[: tile.offset] + PLAIN[tile.offset + tile.size :]
    hurt = flipped(PLAIN, {tile.offset + tile.size - 10 - n: 0xFF for n in range(40)})
    last = packets(PLAIN)[-2]
    hurt = hurt[: last.offset] + hurt[last.offset + last.size :]
    stream = read_stream(restore([gone, hurt]).data)
    assert (set(stream.tiles), stream.salvaged) == ({0, 2, 3, 4, 5}, read_stream(hurt).salvaged)


def test_of_damaged_packets_that_claim_each_other_no_byte_is_taken_twice():
    identity = bytes(4)
    header = packet(Kind.HEADER, identity, 0, layout.build_header(sample_header(1 << 14, 1 << 14, 32)))
    first = header + packet(Kind.TILE, identity, 0, bytes(40))
    second = header + b"".join(packet_header(Kind.TILE, identity, n, 1 << 20) for n in range(1, 500)) + bytes(9000)
    data = restore([first, second]).data
    assert data.startswith(first)
    assert len(data) <= len(first) + len(second)


def test_a_damaged_packet_of_another_copy_brings_no_other_stream():
    """It claims what follows it: a stream of its own, whose HEADER must not be the first then."""
    whole = packets(PLAIN)
    identity = whole[0].stream_id
    tile = next(item for item in whole if (item.kind, item.number) == (Kind.TILE, 0))
    other = write_stream(PLAIN_HEADER, random_tiles(PLAIN_HEADER, words=9, seed=5))
    first = PLAIN[: tile.offset] + PLAIN[tile.offset + tile.size :]
    second = packet_header(Kind.TILE, identity, 0, 5000) + other + PLAIN[-whole[-1].size :]
    assert read_stream(restore([first, second]).data).report.other_streams == ()


@pytest.mark.parametrize("more", [4000, 0])
def test_what_stands_in_place_of_a_tile_stays(more):
    """A packet header of it, before bytes that are not its own: many more, or a damaged HEADER of another stream."""
    first, *others = packets(PLAIN)
    two, three = (item for item in others if item.kind == Kind.TILE and item.number in (2, 3))
    length = len(two.payload) + more
    other = write_stream(PLAIN_HEADER, random_tiles(PLAIN_HEADER, words=9, seed=5))
    inside = (flipped(other[:70], {40: 0xFF}) + np.random.default_rng(1).bytes(length))[: length + 4]
    claimed = packet_header(Kind.TILE, two.stream_id, 2, length) + inside
    # Another tile is lost as well, so that the whole stream cannot be had.
    hurt = PLAIN[: two.offset] + claimed + PLAIN[three.offset + three.size :]
    restored = restore([hurt, PLAIN[: first.size] + PLAIN[two.offset : two.offset + two.size]])
    assert restored.missing == ("TILE 3",)
    assert inside in restored.data


def test_a_stream_cut_to_a_few_bytes_is_still_repaired():
    """Its header declares more tiles than there are bytes."""
    header = sample_header(6400, 6400, 32)
    identity = bytes(4)
    raw = packet(Kind.HEADER, identity, 0, layout.build_header(header))
    raw += packet(Kind.TILE, identity, 0, build_tile(header, identity, TILES[0]))
    restored = restore([raw])
    assert (restored.data, restored.whole) == (raw, False)
    assert "of 40002 packets" in restored.missing[0]


# --- Packets of newer formats, and other streams --------------------------------------------------------------------


def test_packets_of_unknown_kinds_stay():
    """Where they belong is not known, so what is repaired is not called whole."""
    newer = packet(ord("x"), read_stream(PLAIN).stream_id, 0, b"newer")
    last = packets(PLAIN)[-1]
    hurt = PLAIN[: last.offset] + newer
    for copies in ([hurt], [PLAIN[:300], hurt]):
        restored = restore(copies)
        assert newer in restored.data
        assert (restored.whole, restored.missing) == (False, ("where packets of kind 0x78 belong",))
        assert len(read_stream(restored.data).tiles) == len(TILES)


def test_a_critical_unknown_kind_is_refused():
    newer = packet(ord("X"), read_stream(PLAIN).stream_id, 0, b"newer")
    with pytest.raises(UnsupportedVersion, match="kind 0x58"):
        restore([PLAIN, PLAIN + newer])


def test_other_streams_of_the_copies_are_told():
    """What is whole is one stream."""
    other = write_stream(PLAIN_HEADER, random_tiles(PLAIN_HEADER, words=9, seed=5))
    tile = next(item for item in packets(other) if item.kind == Kind.TILE)
    piece = other[tile.offset : tile.offset + tile.size]
    restored = restore([PLAIN + other, PLAIN])
    assert (restored.data, restored.whole) == (PLAIN, True)
    assert restored.left_out == (read_stream(other).stream_id.hex(),)
    assert restore([PLAIN + piece]).left_out == ()
    lost = packets(PLAIN)[4]
    hurt = PLAIN[: lost.offset] + PLAIN[lost.offset + lost.size :]
    kept = restore([hurt + other])
    assert (kept.data, kept.left_out) == (hurt + other, ())


def test_a_guess_is_not_written_as_though_it_had_been_read():
    """Every CR was dropped: with a tile gone nothing proves what the CRCs gave back of others."""
    tile = next(item for item in packets(PLAIN) if (item.kind, item.number) == (Kind.TILE, 2))
    for hurt in (PLAIN, PLAIN[: tile.offset] + PLAIN[tile.offset + tile.size :]):
        came = hurt.replace(b"\r", b"")
        assert read_stream(came).restored
        restored = restore([came])
        if hurt is PLAIN and restored.whole:
            assert restored.data == PLAIN
        else:
            assert restored.data == came
            assert not restored.whole
    crlf = PLAIN.replace(b"\n", b"\r\n")
    assert restore([crlf]).data == PLAIN


def test_a_header_of_flipped_bits_that_nothing_proves_stays_as_it_was_found():
    """A tile is gone, so the stream id says nothing; a decode reads the file as before."""
    tile = next(item for item in packets(PLAIN) if (item.kind, item.number) == (Kind.TILE, 2))
    hurt = hurt_each(PLAIN, Kind.HEADER, 30, 1)
    hurt = hurt[: tile.offset] + hurt[tile.offset + tile.size :]
    restored = restore([hurt])
    assert (restored.data, restored.whole) == (hurt, False)
    assert {"HEADER 0", "TILE 2"} <= set(restored.missing)


def test_copies_lend_each_other_a_header():
    """The one of most packets has none; what the other has of it stands first and last then."""
    whole = packets(PLAIN)
    pieces = [PLAIN[item.offset : item.offset + item.size] for item in whole]
    bare = b"".join(piece for piece, item in zip(pieces, whole, strict=True) if item.kind != Kind.HEADER)
    gone = b"".join(
        piece
        for piece, item in zip(pieces, whole, strict=True)
        if item.kind != Kind.HEADER and (item.kind, item.number) != (Kind.TILE, 5)
    )
    few = pieces[0] + pieces[-2]
    assert restore([few, bare]).data == PLAIN
    stream = read_stream(restore([pieces[0], gone]).data)
    assert stream.tiles.keys() == {0, 1, 2, 3, 4}
