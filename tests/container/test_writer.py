"""What is written, and where: order, repetition of the header, cost."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robuststream.container import layout
from robuststream.container.packets import Header, Kind, Metadata, Packet, Tile
from robuststream.container.scanner import scan
from robuststream.container.tiles import build_tile
from robuststream.container.writer import HEADER_INTERVAL, write_stream
from robuststream.transfers.reading import read_stream
from tests.helpers import METADATA, packet, random_tiles, sample_header, sample_stream, varint


def packets(data: bytes) -> list[Packet]:
    found = list(scan(data))
    assert all(isinstance(item, Packet) for item in found)
    return found


def order(data: bytes) -> str:
    """The kinds' letters, with a tile's number instead of T."""
    return "".join(str(item.number) if item.kind == Kind.TILE else chr(item.kind) for item in packets(data))


def test_whole_stream_equals_one_built_by_hand():
    header = sample_header(64, 32)
    first, second = random_tiles(header)
    head = layout.build_header(header)
    identity = layout.stream_id(head, [first, second])
    bodies = [packet(Kind.TILE, identity, tile.index, build_tile(header, identity, tile)) for tile in (first, second)]
    header_packet = packet(Kind.HEADER, identity, 0, head)
    distances = varint(0) + varint(len(bodies[0]) + len(header_packet))
    index = packet(Kind.INDEX, identity, 0, distances)
    expected = header_packet + index + bodies[0] + header_packet + bodies[1] + header_packet
    assert write_stream(header, [first, second]) == expected


def test_same_arguments_give_the_same_bytes():
    header, tiles, data = sample_stream()
    copies = [Tile(tile.index, bytes(bytearray(tile.words)), tile.digest, tile.z_words) for tile in tiles]
    assert write_stream(replace(header), copies, Metadata()) == data


def test_metadata_count_of_the_caller_does_not_matter():
    header, tiles, data = sample_stream()
    assert write_stream(replace(header, metadata_packets=7), tiles) == data


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda tiles: tiles[:-1], "missing"),
        (lambda tiles: tiles[::-1], "order"),
        (lambda tiles: [*tiles, tiles[0]], "more"),
    ],
)
def test_tiles_must_be_all_and_in_order(change, where):
    header = sample_header()
    with pytest.raises(ValueError, match="6 tiles"):
        write_stream(header, change(random_tiles(header)))


def test_canonical_order_of_several_tiles():
    assert order(sample_stream()[2]) == "Hi01H23H45H"
    assert order(sample_stream(metadata=Metadata(icc=b"i", exif=b"e", xmp=b"x"))[2]) == "Hmmmi01H23H45H"


def test_a_single_tile_has_a_header_on_either_side():
    assert order(sample_stream(sample_header(20, 10))[2]) == "Hi0H"


def test_metadata_is_split_and_comes_in_the_order_of_types():
    metadata = Metadata(icc=bytes(16384), exif=b"", xmp=b"x" * (2 * 16384 + 1))
    notes = [item for item in packets(sample_stream(metadata=metadata)[2]) if item.kind == Kind.METADATA]
    fields = [METADATA.parse(item.payload) for item in notes]
    assert [item.number for item in notes] == list(range(5))
    assert [(item.type, item.part, item.parts, len(item.data)) for item in fields] == [
        (1, 0, 1, 16384),
        (2, 0, 1, 0),
        (3, 0, 3, 16384),
        (3, 1, 3, 16384),
        (3, 2, 3, 1),
    ]


def stretches(data: bytes) -> list[list[Packet]]:
    """What stands between one HEADER and the next."""
    found: list[list[Packet]] = []
    for item in packets(data):
        if item.kind == Kind.HEADER:
            found.append([])
        else:
            found[-1].append(item)
    assert found.pop() == []
    return found


@given(st.lists(st.integers(2, 6000), min_size=1, max_size=24))
def test_a_header_is_never_farther_than_the_interval(sizes):
    header = sample_header(32 * len(sizes), 32)
    tiles = [Tile(index, bytes(4 * size), 7, 2) for index, size in enumerate(sizes)]
    data = write_stream(header, tiles)
    for stretch in stretches(data):
        counted = [item.size for item in stretch if item.kind != Kind.INDEX]
        assert sum(counted) <= HEADER_INTERVAL or len(counted) == 1
    found = [*packets(data), None]
    names = [item and (item.kind, item.number) for item in found]
    for third in (1, 2):
        behind = math.ceil(len(tiles) * third / 3)
        assert found[names.index((Kind.TILE, behind) if behind < len(tiles) else None) - 1].kind == Kind.HEADER


@pytest.mark.parametrize(("more", "expected"), [(0, "Hmmi0H"), (1, "HmmiH0H")])
def test_32768_bytes_may_stand_between_headers(more, expected):
    header = sample_header(32, 32)
    tiles = [Tile(0, bytes(4000), 7, 2)]

    def stream(size: int) -> bytes:
        return write_stream(header, tiles, Metadata(xmp=bytes(size)))

    (between,) = stretches(stream(20_000))
    rest = 32768 - sum(item.size for item in between if item.kind != Kind.INDEX)
    assert order(stream(20_000 + rest + more)) == expected


def test_a_packet_longer_than_the_interval_stands_alone():
    header = sample_header(96, 32)
    tiles = [Tile(index, bytes(size), 7, 2) for index, size in enumerate([40, 40000, 40])]
    assert order(write_stream(header, tiles)) == "Hi0H1H2H"


@given(st.lists(st.integers(2, 4000), min_size=1, max_size=12), st.booleans())
def test_index_points_at_every_tile(sizes, notes):
    header = sample_header(32 * len(sizes), 32)
    tiles = [Tile(index, bytes(4 * size), 7, 2) for index, size in enumerate(sizes)]
    found = packets(write_stream(header, tiles, Metadata(xmp=b"x" * 40000) if notes else None))
    index = next(item for item in found if item.kind == Kind.INDEX)
    at, pointed = index.offset + index.size, []
    for distance in layout.INDEX.parse(index.payload):
        at += distance
        pointed.append(at)
    assert pointed == [item.offset for item in found if item.kind == Kind.TILE]


def test_cost_of_robustness():
    """A 768 x 512 picture with 256 px tiles of ordinary size and a name of ordinary length."""
    header = Header(768, 512, 256, bytes(16), bytes(16), model_name="mbt2018-mean-64-96")
    tiles = random_tiles(header, words=900)
    found = packets(write_stream(header, tiles))
    framing = [item.size - len(tiles[item.number].words) for item in found if item.kind == Kind.TILE]
    assert len(framing) == 6
    assert max(framing) <= 28
    headers = [item.size for item in found if item.kind == Kind.HEADER]
    assert len(headers) == 4
    assert max(headers) <= 92
    assert sum(item.size for item in found if item.kind == Kind.INDEX) <= 27


def test_a_tile_of_60_kilobytes_still_costs_28_bytes():
    header = Header(256 * 128, 256, 256, bytes(16), bytes(16))
    tiles = [Tile(index, bytes(60_000 if index == 127 else 8), 0, 4000 if index == 127 else 2) for index in range(128)]
    last = [item for item in packets(write_stream(header, tiles)) if item.kind == Kind.TILE][-1]
    assert last.size - 60_000 == 28


# --- What is written is intact --------------------------------------------------------------------------------------


@st.composite
def layouts(draw: st.DrawFn) -> bytes:
    """Streams whose INDEX is long beside its neighbours, so that a HEADER's place may hang on it."""
    count = draw(st.integers(1, 700))
    sizes = st.sampled_from([2, 3, 30, 31, 32, 100, 2000, 8000])
    own = draw(st.lists(sizes, min_size=1, max_size=24))
    header = sample_header(32 * count, 32, checkpoints=draw(st.integers(0, 15)))
    tiles = [Tile(index, bytes(4 * own[index % len(own)]), 7, 2) for index in range(count)]
    icc = draw(st.none() | st.integers(0, 70_000).map(bytes))
    return write_stream(header, tiles, Metadata(icc=icc))


@given(layouts())
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_intact(data):
    assert [str(finding) for finding in read_stream(data).report.findings] == []


@pytest.mark.parametrize("count", range(215, 245))
def test_where_headers_stand_does_not_hang_on_the_size_of_the_index(count):
    """A third of the tiles comes close to the interval: with the INDEX counted, a HEADER would stand before it."""
    header = sample_header(32 * count, 32)
    tiles = [Tile(index, bytes(400), 7, 2) for index in range(count)]
    data = write_stream(header, tiles)
    assert [str(finding) for finding in read_stream(data).report.findings] == []
