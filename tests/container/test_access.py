"""Tiles found by the INDEX: as a scan finds them, and nothing where a scan might find something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from robuststream.container.access import read_front, read_tiles
from robuststream.container.layout import INDEX
from robuststream.container.packets import Kind, Metadata, Packet, Tile
from robuststream.container.scanner import scan
from robuststream.container.tiles import build_tile
from robuststream.transfers.reading import read_stream
from tests.helpers import packet, sample_stream, varint

HEADER, TILES, DATA = sample_stream(metadata=Metadata(xmp=b"<x/>"))
PACKETS = [event for event in scan(DATA) if isinstance(event, Packet)]
IDENTITY = PACKETS[0].stream_id
PLACES = [item.offset for item in PACKETS if item.kind == Kind.TILE]
#: HEADER, METADATA, INDEX.
FRONT = DATA[: PLACES[0]]
DISTANCES = INDEX.parse(next(item.payload for item in PACKETS if item.kind == Kind.INDEX))


def reading(data: bytes) -> Callable[[int, int], bytes]:
    return lambda start, size: data[start : start + size]


def hurt(data: bytes, *places: int) -> bytes:
    """All bits of these bytes flipped: too many to be put right."""
    changed = bytearray(data)
    for place in places:
        changed[place] ^= 0xFF
    return bytes(changed)


def with_index(payload: bytes) -> bytes:
    """The stream with another INDEX whose CRCs hold."""
    index = next(item for item in PACKETS if item.kind == Kind.INDEX)
    return DATA[: index.offset] + packet(Kind.INDEX, IDENTITY, 0, payload) + DATA[index.offset + index.size :]


def with_tile(index: int, raw: bytes) -> bytes:
    """The stream with something else of any size instead of a tile, and an INDEX that knows it."""
    tile = next(item for item in PACKETS if (item.kind, item.number) == (Kind.TILE, index))
    distances = list(DISTANCES)
    if index + 1 < len(distances):
        distances[index + 1] += len(raw) - tile.size
    data = with_index(b"".join(map(varint, distances)))
    shift = len(data) - len(DATA)
    return data[: tile.offset + shift] + raw + data[tile.offset + shift + tile.size :]


def test_front_says_where_a_scan_finds_the_tiles():
    front = read_front(reading(DATA))
    assert front.data == FRONT
    assert list(front.places) == PLACES
    assert (front.stream.header, front.stream.metadata) == (read_stream(DATA).header, Metadata(xmp=b"<x/>"))


@pytest.mark.parametrize("wanted", [[0], [1, 3], [5], range(5), []])
def test_tiles_are_those_of_a_scan(wanted):
    stream = read_tiles(read_front(reading(DATA)), reading(DATA), wanted)
    assert stream.tiles == {index: TILES[index] for index in wanted}
    whole = read_stream(DATA).report.tiles
    assert stream.report.tiles == tuple(whole[index] for index in wanted)
    assert stream.report.findings == ()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        DATA[1:],
        DATA[PLACES[0] :],
        FRONT[:-1],
        hurt(DATA, 1),
        hurt(DATA, *range(20, 24)),
        hurt(DATA, PLACES[0] - 6),
        with_index(b"".join(map(varint, DISTANCES)) + b"\x80"),
        with_index(b"".join(map(varint, DISTANCES[:-1]))),
        with_index(b"".join(map(varint, [*DISTANCES, 1]))),
        # The file of another stream's header, before the rest of this one.
        sample_stream(seed=2)[2][: PACKETS[0].size] + DATA[PACKETS[0].size :],
    ],
)
def test_a_front_with_anything_wrong_is_none(data):
    assert read_front(reading(data)) is None


@pytest.mark.parametrize("index", [0, 3, 5])
def test_a_tile_with_anything_wrong_is_none(index):
    def tiles_of(data: bytes) -> object:
        return read_tiles(read_front(reading(data)), reading(data), [index])

    raw = DATA[PLACES[index] :][: next(item.size for item in PACKETS if item.offset == PLACES[index])]
    assert tiles_of(with_tile(index, raw)).tiles == {index: TILES[index]}
    assert tiles_of(with_tile(index, hurt(raw, 0))) is None
    assert tiles_of(with_tile(index, hurt(raw, 20, 22, 24))) is None
    assert tiles_of(with_tile(index, packet(Kind.TILE, IDENTITY, index, b"no tile"))) is None
    assert tiles_of(with_tile(index, packet(Kind.TILE, IDENTITY, index + 1, raw[14:-4]))) is None
    assert tiles_of(with_tile(index, packet(Kind.PARITY, IDENTITY, index, b"of this number"))) is None
    assert tiles_of(with_tile(index, packet(Kind.TILE, b"else", index, raw[14:-4]))) is None
    assert tiles_of(DATA[: PLACES[index]]) is None


def test_tiles_that_overlap_are_none():
    """Each would be read once for each of the others; alone, this one is a tile as good as any."""
    inner = DATA[PLACES[1] : PLACES[2]]
    words = bytes(8) + inner + bytes(-len(inner) % 4)
    outer = packet(Kind.TILE, IDENTITY, 0, build_tile(HEADER, IDENTITY, Tile(0, words, 0, z_words=2)))
    assert read_stream(FRONT + outer).tiles.keys() == {0}
    data = with_index(b"".join(map(varint, [0, outer.index(inner), *DISTANCES[2:]])))
    start = len(data) - (len(DATA) - PLACES[0])
    data = data[:start] + outer + data[start + len(outer) :]
    front = read_front(reading(data))
    assert front.places[1] < front.places[0] + len(outer)
    assert read_tiles(front, reading(data), [0]) is None
    assert read_tiles(front, reading(data), [1]).tiles == {1: TILES[1]}
