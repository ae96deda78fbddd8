"""Every small damage of a kind, through whole decodes: nothing wrong in silence, nothing lost that stands whole.

What must hold of a decode is `campaigns.decode.Original.wrong`, which random damage is held to as well. Single bits and
truncations are in test_codec.py, the container alone in container/test_reader.py.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

import robuststream as rs
from robuststream.container.packets import Kind, Metadata, Packet
from robuststream.container.report import Rule
from robuststream.container.scanner import scan
from robuststream.container.writer import write_stream
from robuststream.transfers.reading import read_stream
from tests.helpers import random_tiles, sample_header, without_headers
from tests.small import model, picture

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from campaigns.decode import Original

ARCHITECTURES = ("bmshj2018-factorized", "mbt2018-mean")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For thousands of tiny networks: waking a second thread takes longer than they do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def original(request: pytest.FixtureRequest) -> Original:
    """A stream of four tiles."""
    small = model(request.param, n=2, m=3)
    return Original(rs.encode(picture(128, 128), small, tile=64), small)


@pytest.fixture(scope="module")
def stranger(original: Original) -> Original:
    """A stream of the same series."""
    return Original(rs.encode(picture(128, 128, 1), original.model, tile=64), original.model)


def pieces(data: bytes) -> list[bytes]:
    return [data[p.offset : p.offset + p.size] for p in scan(data) if isinstance(p, Packet)]


def assert_holds(original: Original, damaged: Iterable[bytes], *others: Original) -> Counter[str]:
    """Of every damaged stream; what was counted."""
    known = {item.identity: item for item in (original, *others)}
    counts: Counter[str] = Counter()
    for number, hurt in enumerate(damaged):
        assert list(original.wrong(hurt, known, counts)) == [], number
    return counts


# --- Bytes ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=ARCHITECTURES)
def short(request: pytest.FixtureRequest) -> Original:
    """A stream of two tiles."""
    small = model(request.param, n=2, m=3)
    return Original(rs.encode(picture(64, 128), small, tile=64), small)


def test_every_deleted_byte(short: Original) -> None:
    data = short.data
    counts = assert_holds(short, (data[:at] + data[at + 1 :] for at in range(len(data))))
    assert not counts["refused"]


def test_a_byte_inserted_at_every_place(short: Original) -> None:
    """All 256 values: tools/campaign.py insertions."""
    data = short.data
    values = np.random.default_rng(1).integers(256, size=len(data) + 1)
    for byte in (0xB7, None) if short.model.prior.has_z else (0x00, 0xFF):
        hurt = (data[:at] + bytes([values[at] if byte is None else byte]) + data[at:] for at in range(len(data) + 1))
        assert not assert_holds(short, hurt)["refused"]


# --- Packets --------------------------------------------------------------------------------------------------------


def test_every_set_of_tiles_dropped(original: Original) -> None:
    parts = pieces(original.data)
    tiles = [number for number, part in enumerate(parts) if part[3] == Kind.TILE]
    sets = [gone for count in range(1, len(tiles) + 1) for gone in combinations(tiles, count)]
    counts = assert_holds(original, (b"".join(p for n, p in enumerate(parts) if n not in gone) for gone in sets))
    assert counts["refused"] == 1  # without any there is nothing to show
    assert counts["tiles missing"] == sum(map(len, sets)) - len(tiles)


def test_every_two_packets_swapped(original: Original) -> None:
    parts = pieces(original.data)

    def swapped() -> Iterator[bytes]:
        for one, other in combinations(range(len(parts)), 2):
            moved = list(parts)
            moved[one], moved[other] = parts[other], parts[one]
            yield b"".join(moved)

    counts = assert_holds(original, swapped())
    assert counts["tiles exact"] == counts["tiles that stand whole"] == 4 * len(list(combinations(parts, 2)))


def test_every_packet_doubled_at_every_place(original: Original) -> None:
    parts = pieces(original.data)
    doubled = (b"".join([*parts[:at], part, *parts[at:]]) for part in parts for at in range(len(parts) + 1))
    counts = assert_holds(original, doubled)
    assert counts["tiles exact"] == counts["tiles that stand whole"] == 4 * len(parts) * (len(parts) + 1)


def test_every_packet_of_a_stranger_at_every_place(original: Original, stranger: Original) -> None:
    parts = pieces(original.data)
    guests = set(pieces(stranger.data))
    spliced = (b"".join([*parts[:at], guest, *parts[at:]]) for guest in guests for at in range(len(parts) + 1))
    counts = assert_holds(original, spliced, stranger)
    # A stranger's HEADER before ours makes the file the stranger's, of which no tile is there.
    assert counts["refused"] == 1
    assert counts["tiles exact"] == 4 * (len(guests) * (len(parts) + 1) - 1)
    # In the places of ours.
    ours = [number for number, part in enumerate(parts) if part[3] == Kind.TILE]
    theirs = [part for part in pieces(stranger.data) if part[3] == Kind.TILE]
    swapped = (b"".join([*parts[:n], guest, *parts[n + 1 :]]) for n in ours for guest in theirs)
    assert assert_holds(original, swapped, stranger)["tiles missing"] == len(ours) * len(theirs)


# --- Streams in other bytes -----------------------------------------------------------------------------------------


def test_cut_out_of_the_middle_of_a_disk_image(original: Original) -> None:
    """Where it begins and ends in the image nobody knows; nor where in the stream the image is cut."""
    random = np.random.default_rng(2)
    text = b"\xb7R\xb7RS not a packet, RS neither " * 40
    for before, after in ((random.bytes(4096), random.bytes(3000)), (bytes(512), text), (text, b"\xb7RS")):
        image = before + original.data + after
        counts = assert_holds(original, [image[:end] for end in range(len(image) - len(after), len(image), 97)])
        assert counts["tiles exact"] == counts["tiles that stand whole"] > 0
        starts = range(0, len(before) + len(original.data) - 100, 97)
        assert assert_holds(original, [image[start:] for start in starts])["tiles exact"] > 0


def test_two_streams_glued(original: Original, stranger: Original) -> None:
    """The first one's headers gone one after the other: then it is the second that is shown."""
    heads = [n for n, part in enumerate(pieces(original.data)) if part[3] == Kind.HEADER]
    for gone in range(len(heads) + 1):
        parts = [part for n, part in enumerate(pieces(original.data)) if n not in heads[:gone]]
        for glued in (b"".join(parts) + stranger.data, stranger.data + b"".join(parts)):
            counts = assert_holds(original, [glued], stranger)
            assert counts["tiles exact"] == 4
            shown = rs.decode(glued, original.model).report
            first = original if gone < len(heads) and glued.startswith(parts[0]) else stranger
            assert shown.stream_id == first.identity.hex()
            assert Rule.FOREIGN in {finding.rule for finding in shown.findings}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_payloads_full_of_forged_syncs(architecture: str) -> None:
    """Intact they are payload and nothing else; where they come to light, nothing in them is taken for ours."""
    small = model(architecture, n=2, m=3)
    plain = rs.encode(picture(64, 128), small, tile=64)
    guest = rs.encode(picture(64, 128, 1), small, tile=64)
    stream = read_stream(plain)
    syncs = b"\xb7RS" * 50 + b"".join(b"\xb7RS" + bytes([kind]) + stream.stream_id for kind in Kind) + guest
    tiles = [stream.tiles[0], stream.tiles[1]]
    data = write_stream(stream.header, tiles, Metadata(icc=syncs * 4))
    original, stranger = Original(data, small), Original(guest, small)
    assert original.whole.report.intact
    notes = [p for p in scan(data) if isinstance(p, Packet) and p.kind == Kind.METADATA]
    last = notes[-1].offset + notes[-1].size
    places = range(notes[0].offset, last, 41)
    hurt = [data[:at] + bytes(b ^ 0x5A for b in data[at : at + 9]) + data[at + 9 :] for at in places]
    counts = assert_holds(original, hurt, stranger)
    assert counts["tiles exact"] == 2 * len(hurt)
    # Everything before it cut off as well: then the stranger's header may come first, and is told by its id.
    assert_holds(original, [data[at:] for at in places], stranger)


# --- Headers --------------------------------------------------------------------------------------------------------


def headers(data: bytes) -> list[tuple[int, int]]:
    return [(p.offset, p.offset + p.size) for p in scan(data) if isinstance(p, Packet) and p.kind == Kind.HEADER]


def without_ends_and_hole(data: bytes, ends: int, hole: int) -> bytes:
    """Some bytes cut off at both ends, and 512 overwritten."""
    return (data[:hole] + b"\x55" * 512 + data[hole + 512 :])[ends:-ends]


def test_both_ends_and_512_bytes_gone() -> None:
    """Of a stream with many headers."""
    data = write_stream(sample_header(), random_tiles(sample_header(), 4000))
    places = {at + near for start, end in headers(data) for at in (start, end) for near in range(-600, 200, 61)}
    for hole in sorted(place for place in {*places, *range(0, len(data), 1999)} if 0 <= place < len(data) - 512):
        assert read_stream(without_ends_and_hole(data, 30, hole)).header == sample_header(), hole


def test_both_ends_and_512_bytes_gone_of_a_short_stream() -> None:
    """All tiles of the first third and of the last, into the headers behind them: a hole cannot reach both."""
    data = write_stream(sample_header(), random_tiles(sample_header(), 300))
    (_, first), (start, end), (other, behind), _ = headers(data)
    assert other - end > 512
    whole = read_stream(data)
    for ends in (30, first + 30, min(start, len(data) - behind)):
        for hole in range(ends, len(data) - ends - 512, 7):
            stream = read_stream(without_ends_and_hole(data, ends, hole))
            assert stream.header == sample_header(), hole
            assert all(tile == whole.tiles[index] for index, tile in stream.tiles.items())


def test_every_header_gone() -> None:
    """Another stream's reads the tiles."""
    data, other = (write_stream(sample_header(), random_tiles(sample_header(), 300, seed)) for seed in (1, 2))
    bare = without_headers(data)
    with pytest.raises(rs.DamagedStream, match="no HEADER"):
        read_stream(bare)
    stream = read_stream(bare, read_stream(other))
    assert stream.header == sample_header()
    assert stream.tiles == read_stream(data).tiles
