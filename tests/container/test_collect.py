"""What is kept of a scan, and that what is not kept is counted, or found again when it is wanted."""

from __future__ import annotations

import pytest

from robuststream.container import collect
from robuststream.container.collect import Collected, likely
from robuststream.container.packets import Kind, Packet, Tile
from robuststream.container.report import Rule
from robuststream.container.scanner import Scanner, scan
from robuststream.container.tiles import build_tile
from robuststream.faults import flip_bits
from robuststream.transfers.reading import read_stream
from tests.helpers import memory_below, packet, sample_header, sample_stream

HEADER, TILES, DATA = sample_stream(sample_header(64, 64), words=6)
PACKETS = [event for event in scan(DATA) if isinstance(event, Packet)]
IDENTITY = PACKETS[0].stream_id
#: With the HEADERs behind all else.
LATE = b"".join(DATA[p.offset : p.offset + p.size] for p in sorted(PACKETS, key=lambda p: p.kind == Kind.HEADER))


def empty(count: int, identity: bytes | None = None) -> bytes:
    """Tiles without a word: of one stream, or of as many streams."""
    return b"".join(packet(Kind.TILE, identity or n.to_bytes(4, "big"), n % 9, b"") for n in range(count))


@pytest.mark.parametrize("kept", [1, 3, 100])
@pytest.mark.parametrize("others", [0, 2, 40])
def test_what_came_before_the_header_is_found_again(kept, others, monkeypatch):
    data = empty(others) + LATE
    whole = read_stream(data)
    monkeypatch.setattr(collect, "KEPT", kept)
    stream = read_stream(data)
    assert (stream.tiles, stream.metadata) == (whole.tiles, whole.metadata)
    assert stream.report.packets == whole.report.packets
    assert len(stream.report.findings) + stream.report.findings_left_out >= min(others, kept)


def test_a_stream_is_scanned_once(monkeypatch):
    """Damaged, with parity, or with the first HEADER lost: what is found is found by one scan."""
    scans = 0
    made = Scanner.__init__

    def counted(self: Scanner) -> None:
        nonlocal scans
        scans += 1
        made(self)

    monkeypatch.setattr(Scanner, "__init__", counted)
    pytest.importorskip("raptorq")
    from robuststream.container.writer import write_stream
    from robuststream.transfers.reading import read_restored

    data = write_stream(sample_header(64, 64, parity=900), TILES)
    tile = next(p for p in scan(data) if isinstance(p, Packet) and p.kind == Kind.TILE)
    cut = data[: tile.offset] + data[tile.offset + tile.size :]
    for hurt in (data, cut, flip_bits(data, count=3, seed=1), DATA[PACKETS[0].size :], LATE):
        scans = 0
        stream = read_restored(hurt)
        assert scans == 1
        assert len(stream.tiles) + len(stream.candidates) == 4


def test_without_a_header_the_stream_of_most_packets_is_likely(monkeypatch):
    monkeypatch.setattr(collect, "KEPT", 8)
    bare = b"".join(DATA[p.offset : p.offset + p.size] for p in PACKETS if p.kind == Kind.TILE)
    assert likely(Collected(empty(200) + bare + empty(200)))[0] == IDENTITY
    collected = Collected(empty(3) + bare + empty(30, b"more"))
    assert likely(collected) == [b"more", IDENTITY, bytes(4), b"\0\0\0\1"]
    collected.choose(IDENTITY)
    assert collected.found.tiles.keys() == {0, 1, 2, 3}
    assert collected.foreign[b"more"].count == 30


def test_memory_does_not_grow_with_headerless_tiles():
    for data in (empty(60_000, IDENTITY), empty(60_000)):
        with memory_below(9 << 20):
            likely(Collected(data))


def test_a_conflict_among_many_repeated_tiles_is_kept():
    changed = Tile(1, TILES[1].words[:-1] + b"!", TILES[1].digest, TILES[1].z_words)
    second = packet(Kind.TILE, IDENTITY, 1, build_tile(HEADER, IDENTITY, changed))
    tile = next(p for p in PACKETS if (p.kind, p.number) == (Kind.TILE, 3))
    again = DATA[tile.offset : tile.offset + tile.size] * 6000
    gone = next(p for p in PACKETS if (p.kind, p.number) == (Kind.TILE, 0))
    rest = DATA[: gone.offset] + DATA[gone.offset + gone.size :]
    stream = read_stream(rest + again + second)
    assert set(stream.unproven) == {1}
    assert Rule.TILE_CONFLICT in {finding.rule for finding in stream.report.findings}
    assert len(stream.report.findings) + stream.report.findings_left_out > 6000


def test_foreign_packets_beyond_a_limit_are_counted(monkeypatch):
    monkeypatch.setattr(collect, "KEPT", 10)
    report = read_stream(DATA + empty(50)).report
    assert len(report.other_streams) == 10
    assert (len(report.findings), report.findings_left_out) == (10, 40)
