"""A stream without any HEADER, read with that of another one: what is proven, what is not, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from robuststream.container.collect import Collected, likely
from robuststream.container.layout import INDEX, stream_id
from robuststream.container.packets import Header, Kind, Metadata, Packet
from robuststream.container.report import Rule
from robuststream.container.scanner import scan
from robuststream.container.stream import Stream
from robuststream.container.tiles import build_tile
from robuststream.container.writer import write_stream
from robuststream.errors import DamagedStream, NotARobustStream, UnsupportedVersion
from robuststream.faults import drop_tiles, flip_bits
from robuststream.transfers.reading import read_restored, read_stream, restore
from tests.helpers import packet, random_tiles, sample_header, sample_stream

HEADER, TILES, DATA = sample_stream(sample_header(64, 64), words=6)
LENDER = read_stream(sample_stream(HEADER, words=6, seed=2)[2])


def without(data: bytes, *kinds: Kind) -> bytes:
    """The stream with all packets of these kinds cut out."""
    packets = [event for event in scan(data) if isinstance(event, Packet)]
    return b"".join(data[p.offset : p.offset + p.size] for p in packets if p.kind not in kinds)


LOST = without(DATA, Kind.HEADER)


def rules(stream: Stream) -> list[Rule]:
    return [finding.rule for finding in stream.report.findings]


def lender(header: Header = HEADER, metadata: Metadata | None = None) -> Stream:
    return read_stream(write_stream(header, random_tiles(header, 6, seed=2), metadata))


# --- Proven ---------------------------------------------------------------------------------------------------------


def test_all_tiles_prove_the_header():
    with pytest.raises(DamagedStream, match="no HEADER"):
        read_stream(LOST)
    stream = read_stream(LOST, LENDER)
    true = read_stream(DATA)
    assert (stream.header, stream.header_payload, stream.stream_id) == (
        true.header,
        true.header_payload,
        true.stream_id,
    )
    assert list(stream.tiles.values()) == TILES
    assert not stream.unproven
    assert rules(stream) == [Rule.HEADER_BORROWED]
    finding = stream.report.findings[0]
    assert f"that of stream {LENDER.stream_id.hex()} is borrowed" in finding.message
    assert "it is the one that was lost" in finding.message
    assert (finding.start, finding.end) == (0, len(LOST))
    assert not stream.report.intact


@pytest.mark.parametrize("ours", [None, Metadata(icc=b"1", xmp=b"2"), Metadata(exif=bytes(40_000))])
@pytest.mark.parametrize("theirs", [None, Metadata(exif=b"1")])
def test_metadata_need_not_be_alike(ours, theirs):
    data = write_stream(HEADER, TILES, ours)
    stream = read_stream(without(data, Kind.HEADER), lender(metadata=theirs))
    assert stream.header == read_stream(data).header
    assert stream.metadata == (ours or Metadata())
    assert (rules(stream), stream.unproven) == ([Rule.HEADER_BORROWED], ())


def test_metadata_that_is_lost_as_well():
    """As many packets as the lender has: the id says so."""
    data = write_stream(HEADER, TILES, Metadata(icc=b"1"))
    stream = read_stream(without(data, Kind.HEADER, Kind.METADATA), lender(metadata=Metadata(exif=b"2")))
    assert stream.header == read_stream(data).header
    assert set(rules(stream)) == {Rule.HEADER_BORROWED, Rule.METADATA}
    assert not stream.unproven


def test_parity_need_not_be_alike():
    pytest.importorskip("raptorq")
    assert not read_stream(LOST, lender(replace(HEADER, parity=200))).unproven
    data = write_stream(replace(HEADER, parity=200), TILES)
    # What a lender has not cannot be guessed; but there parity gives the header back.
    assert len(read_stream(without(data, Kind.HEADER), LENDER).unproven) == 4
    assert not read_stream(without(data, Kind.HEADER), lender(replace(HEADER, parity=200))).unproven


def test_another_copy_of_the_same_stream():
    stream = read_stream(drop_tiles(LOST, tiles=[1]), read_stream(DATA))
    assert not stream.unproven
    assert "taken from another copy of the stream" in stream.report.findings[0].message
    # All tiles are there, and one of them is not the stream's: that is told as ever.
    changed = replace(TILES[3], words=TILES[3].words[:-1] + b"!")
    true = read_stream(DATA)
    raw = packet(Kind.TILE, true.stream_id, 3, build_tile(HEADER, true.stream_id, changed))
    stream = read_stream(drop_tiles(LOST, tiles=[3]) + raw, true)
    assert set(rules(stream)) == {Rule.HEADER_BORROWED, Rule.STREAM_ID}
    assert list(stream.unproven) == [0, 1, 2, 3]


# --- Not proven -----------------------------------------------------------------------------------------------------


def test_with_a_tile_lost_nothing_is_proven():
    stream = read_stream(drop_tiles(LOST, tiles=[1]), LENDER)
    assert list(stream.tiles.values()) == [TILES[0], *TILES[2:]]
    assert list(stream.unproven) == [0, 1, 2, 3]
    assert rules(stream) == [Rule.HEADER_BORROWED, Rule.TILE_MISSING]
    assert "nothing confirms the size and place" in stream.report.findings[0].message


@pytest.mark.parametrize("other", [sample_header(63, 64), sample_header(64, 33), sample_header(64, 64, model_name="b")])
def test_a_header_of_other_bytes_is_not_proven(other):
    """As many tiles of the same model: nothing but the id tells."""
    stream = read_stream(LOST, lender(other))
    assert list(stream.tiles.values()) == TILES
    assert list(stream.unproven) == [0, 1, 2, 3]
    assert rules(stream) == [Rule.HEADER_BORROWED]


def test_a_swapped_tile_is_found_by_the_id():
    changed = replace(TILES[3], words=TILES[3].words[:-1] + b"!")
    identity = read_stream(DATA).stream_id
    raw = packet(Kind.TILE, identity, 3, build_tile(HEADER, identity, changed))
    stream = read_stream(drop_tiles(LOST, tiles=[3]) + raw, LENDER)
    assert list(stream.unproven) == [0, 1, 2, 3]
    assert rules(stream) == [Rule.HEADER_BORROWED]


# --- Which stream ---------------------------------------------------------------------------------------------------


def test_the_stream_of_most_tiles_is_meant_and_others_are_told():
    other = sample_stream(HEADER, words=6, seed=3)[2]
    few = drop_tiles(without(other, Kind.HEADER), tiles=[0, 1])
    for data in (few + LOST, LOST + few):
        stream = read_stream(data, LENDER)
        assert stream.stream_id == read_stream(DATA).stream_id
        assert stream.report.other_streams == (read_stream(other).stream_id.hex(),)
        assert rules(stream)[0] == Rule.HEADER_BORROWED
        assert Rule.FOREIGN in rules(stream)
        assert list(stream.tiles.values()) == TILES


@pytest.mark.parametrize("damaged_first", [True, False])
def test_of_streams_of_as_many_packets_the_first_is_meant(damaged_first):
    """Also where its packet is the damaged one."""
    hurt = bytearray(packet(Kind.TILE, b"hurt", 0, bytes(30)))
    hurt[20:23] = b"\xff\xff\xff"
    pieces = [bytes(hurt), packet(Kind.TILE, b"else", 0, bytes(30))]
    data = b"".join(pieces if damaged_first else pieces[::-1])
    assert likely(Collected(data)) == ([b"hurt", b"else"] if damaged_first else [b"else", b"hurt"])


def test_a_header_of_its_own_is_used():
    packets = [event for event in scan(DATA) if isinstance(event, Packet)]
    own = DATA[packets[0].offset : packets[0].offset + packets[0].size]
    other = lender(sample_header(32, 32))
    assert read_stream(DATA, other) == read_stream(DATA)
    assert read_stream(LOST + own, other) == read_stream(LOST + own)
    # Also one with flipped bits.
    hurt = flip_bits(own, seed=3, count=1)
    assert read_stream(hurt + LOST, other) == read_stream(hurt + LOST)
    assert Rule.CORRECTED in rules(read_stream(hurt + LOST, other))


# --- Refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (sample_header(32, 64), "it is of 2 tiles, and here is a tile 3"),
        (sample_header(96, 64), "it is of 6 tiles, and the INDEX of 4"),
        (sample_header(64, 64, parameters_digest=bytes(16)), "none of 4 intact tiles is of its model"),
        (sample_header(64, 64, quality=1), "none of 4 intact tiles is of its model, mode and quality"),
        (sample_header(64, 64, mode=1), "none of 4 intact tiles is of its model, mode and quality"),
    ],
)
def test_a_header_that_does_not_fit(other, why):
    with pytest.raises(DamagedStream, match=why):
        read_stream(LOST, lender(other))


def test_without_an_index_a_larger_size_leaves_tiles_missing():
    stream = read_stream(without(LOST, Kind.INDEX), lender(sample_header(96, 64)))
    assert rules(stream) == [Rule.HEADER_BORROWED, Rule.TILE_MISSING, Rule.TILE_MISSING]
    assert len(stream.unproven) == 6


def test_an_index_that_breaks_the_rules_is_no_obstacle():
    index = packet(Kind.INDEX, read_stream(DATA).stream_id, 0, INDEX.build([1, 2]) + b"\x80")
    assert not read_stream(index + without(LOST, Kind.INDEX), LENDER).unproven


def test_nothing_is_made_of_nothing():
    with pytest.raises(NotARobustStream):
        read_stream(b"nothing", LENDER)
    with pytest.raises(NotARobustStream):
        read_stream(b"", LENDER)
    newer = packet(Kind.HEADER, bytes(4), 0, b"\x02")
    with pytest.raises(UnsupportedVersion):
        read_stream(newer + LOST, LENDER)


# --- Repair ---------------------------------------------------------------------------------------------------------


def test_a_proven_header_is_written_back():
    assert restore([LOST], LENDER).data == DATA
    halves = drop_tiles(LOST, tiles=[0, 1]), drop_tiles(LOST, tiles=[2])
    assert restore(halves, LENDER).data == DATA
    for data, other in ((drop_tiles(LOST, tiles=[0]), LENDER), (LOST, lender(sample_header(63, 64)))):
        with pytest.raises(DamagedStream, match="nothing proves that of stream"):
            restore([data], other)


def test_parity_needs_no_loan():
    pytest.importorskip("raptorq")
    data = write_stream(replace(HEADER, parity=1000), TILES)
    assert restore([without(data, Kind.HEADER)], lender(sample_header(32, 32))).data == data


def test_a_loan_is_the_last_resort(caplog):
    """Where neither a header nor parity is left; where one is, the lender is named in a warning."""
    with pytest.raises(DamagedStream, match="no HEADER packet survived"):
        read_restored(LOST)
    assert read_restored(LOST, LENDER) == read_stream(LOST, LENDER)
    assert not caplog.text
    assert read_restored(DATA, LENDER) == read_stream(DATA)
    assert "has a HEADER of its own: none is borrowed" in caplog.text


def test_a_metadata_number_that_no_header_could_count():
    """Found by fuzzing: the highest number there is, and one more fits no varint."""
    stray = packet(Kind.METADATA, read_stream(DATA).stream_id, 2**32 - 1, b"\x01\x00\x01icc")
    stream = read_stream(LOST + stray, LENDER)
    assert list(stream.tiles.values()) == TILES
    assert rules(stream)[0] == Rule.HEADER_BORROWED


# --- Beside packets of newer formats --------------------------------------------------------------------------------


def test_an_unknown_ancillary_packet_is_no_reason_not_to_borrow():
    """The message was that no HEADER survived; and a critical one was not named."""
    identity = read_stream(DATA).stream_id
    newer = read_stream(LOST + packet(ord("x"), identity, 0, b"newer"), LENDER)
    assert list(newer.tiles.values()) == TILES
    assert not newer.unproven
    with pytest.raises(UnsupportedVersion, match="kind 0x58"):
        read_stream(LOST + packet(ord("X"), identity, 0, b"newer"), LENDER)


@pytest.mark.parametrize("notes", [Metadata(), Metadata(xmp=b"<x/>")])
def test_what_a_newer_minor_version_adds_to_headers_is_lent_too(notes):
    """Fields that this release skips are part of what hashes to the stream id."""

    def newer(seed: int, metadata: Metadata) -> bytes:
        data = write_stream(replace(HEADER, parity=0), random_tiles(HEADER, 6, seed=seed), metadata)
        found = [event for event in scan(data) if isinstance(event, Packet)]
        payload = b"\1\1" + found[0].payload[2:] + b"\x1a\x03new"
        tiles = random_tiles(HEADER, 6, seed=seed)
        identity = stream_id(payload, tiles)
        bodies = [packet(Kind.TILE, identity, tile.index, build_tile(HEADER, identity, tile)) for tile in tiles]
        others = [packet(p.kind, identity, p.number, p.payload) for p in found if p.kind == Kind.METADATA]
        return b"".join([packet(Kind.HEADER, identity, 0, payload), *others, *bodies])

    data = newer(1, notes)
    stream = read_stream(without(data, Kind.HEADER), read_stream(newer(2, Metadata(icc=b"icc", exif=b"MM"))))
    assert not stream.unproven
    assert stream.header_payload == read_stream(data).header_payload
