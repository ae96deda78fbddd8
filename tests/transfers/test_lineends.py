"""Streams whose line ends a transfer changed, rebuilt packet by packet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from robuststream.container import layout
from robuststream.container.layout import GUARD
from robuststream.container.packets import Kind, Metadata, Mode, Packet, Tile
from robuststream.container.scanner import scan
from robuststream.container.writer import write_stream
from robuststream.transfers import lineends
from robuststream.transfers.insertions import CR, LF, Change
from robuststream.transfers.lineends import rebuild
from robuststream.transfers.reading import read_stream
from tests.helpers import memory_below, packet, random_tiles, sample_header, sample_stream

#: A change, what it makes of the guard, and what does it.
CRLF_TO_LF = Change(insert=CR), b"\n\x1a\n\r"
CR_DROPPED = Change(CR, anywhere=True), b"\n\x1a\n"
CR_TO_LF = Change(flip=LF), b"\n\n\x1a\n\n"


def dropped(data: bytes) -> bytes:
    return data.replace(b"\r", b"")


def tile_of(data: bytes, number: int) -> Packet:
    return next(p for p in scan(data) if isinstance(p, Packet) and (p.kind, p.number) == (Kind.TILE, number))


@pytest.mark.parametrize("words", [4, 30, 100])
@pytest.mark.parametrize("seed", range(4))
def test_a_small_stream_comes_back_to_the_byte(words, seed):
    data = sample_stream(words=words, seed=seed, metadata=Metadata(icc=bytes(range(256))))[2]
    assert rebuild(data.replace(b"\r\n", b"\n"), *CRLF_TO_LF) == data
    assert rebuild(data.replace(b"\r", b"\n"), *CR_TO_LF) == data
    if words < 100:
        assert rebuild(dropped(data), *CR_DROPPED) == data


@pytest.mark.parametrize("identity", [b"abcd", b"\rabc", b"ab\r\r", b"\r\r\r\r"])
@pytest.mark.parametrize("number", [0, CR, CR << 7 | 0x7F])
@pytest.mark.parametrize("size", [CR, CR << 7])
def test_line_ends_in_packet_headers(identity, number, size):
    """Stream id, number and length may be hit, up to three bytes together; it is the id of most that counts."""
    one = packet(Kind.PARITY, identity, number, b"x" * size)
    head = one[: one.index(b"x")]
    made = rebuild(dropped(one) * 3, *CR_DROPPED)
    if head.count(b"\r") <= lineends.MAX_IN_HEAD:
        assert made.count(head) == 3
    else:
        assert made == dropped(one) * 3


def test_an_end_of_line_behind_the_last_packet():
    data = sample_stream()[2]
    for added in (b"\n", b"x", b"\n\n"):
        assert rebuild(dropped(data) + added, *CR_DROPPED).startswith(data)


def test_what_is_between_packets_stays_and_further_damage_is_local():
    _, tiles, data = sample_stream()
    second = tile_of(data, 1)
    junk = b"between packets " * 9
    hurt = bytearray(data)
    hurt[second.offset + second.size - 9] ^= 0x55
    hurt[second.offset : second.offset] = junk
    made = rebuild(dropped(bytes(hurt)), *CR_DROPPED)
    assert junk in made
    stream = read_stream(made)
    assert set(stream.tiles) == {0, 2, 3, 4, 5}
    assert all(bytes(tile.words) == tiles[index].words for index, tile in stream.tiles.items())
    assert 1 in stream.salvaged


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize(("change", "end"), [(CR_DROPPED, b""), (CR_TO_LF, b"\n")])
def test_of_a_tile_that_is_too_long_z_is_proven(mode, change, end):
    header = sample_header(64, 32, mode=mode, checkpoints=2)
    salvaged = 0
    for seed in range(8):
        tiles = [replace(tile, z_words=20) for tile in random_tiles(header, words=4000, seed=seed)]
        stream = read_stream(rebuild(write_stream(header, tiles).replace(b"\r", end), *change))
        assert stream.tiles == {}
        for index, salvage in stream.salvaged.items():
            assert salvage.words[:80] == tiles[index].words[:80]
        salvaged += len(stream.salvaged)
    assert salvaged >= 12


def test_without_checkpoints_or_a_header_nothing_is_salvaged():
    header = sample_header(32, 32, z_checkpoint=False)
    data = write_stream(header, random_tiles(header, words=4000))
    made = rebuild(dropped(data), *CR_DROPPED)
    assert read_stream(made).salvaged == {}
    # A TILE alone.
    header, _, data = sample_stream(sample_header(32, 32), words=4000)
    tile = tile_of(data, 0)
    alone = dropped(data[tile.offset : tile.offset + tile.size])
    assert rebuild(alone, *CR_DROPPED)[-1000:] == alone[-1000:]


def test_a_tile_cut_off_has_no_front():
    data = sample_stream(sample_header(32, 32), words=4000)[2]
    tile = tile_of(data, 0)
    for left in (0, 3, 12, 40):
        hurt = dropped(data[: tile.offset]) + dropped(data[tile.offset : tile.offset + 14 + left])
        assert read_stream(rebuild(hurt, *CR_DROPPED)).salvaged == {}


def test_a_tile_is_held_to_its_format():
    """A payload that the CRC allows and section 6 does not is no solution."""
    header = sample_header(32, 32)
    payload = layout.build_header(header)
    identity = b"abcd"
    data = packet(Kind.HEADER, identity, 0, payload) + packet(Kind.TILE, identity, 0, b"\r" * 12)
    made = rebuild(dropped(data), *CR_DROPPED)
    assert made.startswith(packet(Kind.HEADER, identity, 0, payload))
    assert not made.endswith(packet(Kind.TILE, identity, 0, b"\r" * 12))


@pytest.mark.parametrize(
    ("payload", "comes_back"),
    [
        (b"\1\0" + GUARD + b"\x0b\2\1\r", False),  # breaks the rules
        (b"\2\0" + GUARD + b"\x0b\2\1\r", True),  # of another version
    ],
)
def test_a_header_is_held_to_its_format(payload, comes_back):
    data = packet(Kind.HEADER, b"abcd", 0, payload)
    assert (rebuild(dropped(data), *CR_DROPPED) == data) == comes_back


@pytest.mark.parametrize(("size", "missing"), [(280, 4), (600, 3), (1000, 3), (1000, 6)])
def test_memory_is_linear_in_the_file(size, missing):
    """Also where sets of many places may have gone: a small file is left as it came before it takes megabytes."""
    payload = bytearray(b"\x55" * size)
    payload[:missing] = b"\r" * missing
    hurt = dropped(packet(ord("x"), b"abcd", 1, bytes(payload)))
    rebuild(hurt, *CR_DROPPED)  # what is made once
    with memory_below((2 << 20) + 1024 * len(hurt)):
        rebuild(hurt, *CR_DROPPED)


def test_the_work_is_bounded(monkeypatch):
    """What is left when it is spent stays as it came."""
    data = sample_stream(words=60)[2]
    hurt = dropped(data)
    monkeypatch.setattr(lineends, "WORK", 0)
    kept = []
    for spare in (0, 1000, 20_000, 100_000, 1 << 20):
        monkeypatch.setattr(lineends, "SPARE", spare)
        made = rebuild(hurt, *CR_DROPPED)
        kept.append(sum(isinstance(event, Packet) for event in scan(made)))
    assert kept == sorted(kept)
    assert kept[0] < kept[-1] == 11
    monkeypatch.setattr(lineends, "SPARE", 0)
    assert rebuild(hurt, *CR_DROPPED) == hurt


def test_two_solutions_are_none(monkeypatch):
    data = sample_stream()[2]
    hurt = dropped(data)
    true = lineends.explain
    # Those of HEADER and TILE are held to the format, which leaves one.
    monkeypatch.setattr(lineends, "explain", lambda *given: [*true(*given), b"\1" * 40])
    assert rebuild(hurt, *CR_DROPPED) == data
    monkeypatch.setattr(lineends, "explain", lambda *given: 2 * true(*given))
    monkeypatch.setattr(lineends, "MAX_IN_FRONT", -1)
    made = rebuild(hurt, *CR_DROPPED)
    whole = [[event.kind for event in scan(item) if isinstance(event, Packet)] for item in (made, hurt)]
    assert whole[0] == whole[1]
    assert len(whole[0]) < 11


def test_nothing_of_a_stream():
    for data in (b"", b"\n" * 100, b"\xb7RS" * 50, b"\xb7RSH\n\n\n\n\0\1"):
        assert rebuild(data, *CRLF_TO_LF) == data


def test_a_copy_of_the_header_is_solved_once(monkeypatch):
    calls = []
    true = lineends.explain
    monkeypatch.setattr(lineends, "explain", lambda *a: calls.append(a) or true(*a))
    header = sample_header(64, 64, 32)
    tiles = [Tile(index, bytes(8), 0, 2) for index in range(4)]
    data = write_stream(header, tiles)
    assert rebuild(dropped(data), *CR_DROPPED) == data
    heads = [call for call in calls if GUARD in call[1]]
    assert len(heads) == 1
