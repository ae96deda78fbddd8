"""Every damage to a small stream of several tiles: always told, never a foreign exception, no tile lost beside it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream.container import layout, remains
from robuststream.container.collect import Found
from robuststream.container.correction import Corrected
from robuststream.container.judge import guess
from robuststream.container.leftovers import sort_out
from robuststream.container.packets import Candidate, Gap, Kind, Metadata, Packet, Tile
from robuststream.container.remains import Search
from robuststream.container.report import Rule, TileState
from robuststream.container.scanner import scan
from robuststream.container.stream import Stream
from robuststream.container.tiles import build_tile
from robuststream.container.writer import write_stream
from robuststream.errors import DamagedStream, NotARobustStream, StreamNotFound, UnsupportedVersion
from robuststream.transfers.reading import read_stream, read_streams
from tests.helpers import packet, random_tiles, sample_header, sample_stream

METADATA = Metadata(xmp=b"<x/>")
HEADER, TILES, DATA = sample_stream(sample_header(64, 64), words=6, metadata=METADATA)
PACKETS = [event for event in scan(DATA) if isinstance(event, Packet)]
PIECES = [DATA[item.offset : item.offset + item.size] for item in PACKETS]
IDENTITY = PACKETS[0].stream_id


def rules(stream: Stream) -> set[Rule]:
    return {finding.rule for finding in stream.report.findings}


def read_damaged(data: bytes) -> Stream | None:
    """Read, and see to all that must hold whatever happened; None where nothing can be read, which needs a reason."""
    try:
        stream = read_stream(data)
    except (NotARobustStream, DamagedStream):
        return None
    assert stream.report.findings
    assert not stream.report.intact
    assert stream.header.tiles == HEADER.tiles
    for index, tile in stream.tiles.items():
        assert tile == TILES[index]
    for index, salvage in stream.salvaged.items():
        assert index not in stream.tiles
        assert salvage.words == TILES[index].words[: 4 * TILES[index].z_words]
    for index, candidates in stream.candidates.items():
        assert index not in stream.tiles
        assert candidates
    for item in stream.report.tiles:
        assert item.correctable == (item.index in stream.candidates)
    states = {item.index: item.state for item in stream.report.tiles}
    assert list(states) == list(range(HEADER.tiles))
    assert {index for index, state in states.items() if state is TileState.INTACT} == set(stream.tiles)
    for finding in stream.report.findings:
        assert finding.message
        if finding.start is not None:
            assert 0 <= finding.start < finding.end <= len(data)
    json.dumps(stream.report.to_json())
    return stream


def tiles_beside(start: int, end: int) -> set[int]:
    """Tiles of whose packets no byte lies in [start, end)."""
    return {
        item.number
        for item in PACKETS
        if item.kind == Kind.TILE and (item.offset + item.size <= start or end <= item.offset)
    }


# --- Undamaged ------------------------------------------------------------------------------------------------------


def test_undamaged_stream_comes_back_whole():
    stream = read_stream(DATA)
    report = stream.report
    assert (report.intact, report.findings, report.exact) == (True, (), None)
    assert list(stream.tiles.values()) == TILES
    assert (stream.stream_id, stream.salvaged, stream.metadata) == (IDENTITY, {}, METADATA)
    assert report.packets == {"HEADER": 4, "METADATA": 1, "INDEX": 1, "TILE": 4}
    assert report.file_bytes == len(DATA)
    assert report.entropy_bytes == sum(len(tile.words) for tile in TILES)
    placed = [(item.offset, item.size) for item in PACKETS if item.kind == Kind.TILE]
    assert [(item.offset, item.size) for item in report.tiles] == placed


@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.integers(30, 70),
    st.booleans(),
    st.integers(2, 700),
    st.binary(max_size=40_000) | st.none(),
)
def test_whatever_is_written_is_read(width, height, tile, z_checkpoint, words, icc):
    header = sample_header(width, height, tile, z_checkpoint=z_checkpoint)
    tiles = random_tiles(header, words)
    stream = read_stream(write_stream(header, tiles, Metadata(icc=icc)))
    assert stream.report.findings == ()
    assert list(stream.tiles.values()) == tiles
    assert stream.metadata == Metadata(icc=icc)


# --- Every small damage ---------------------------------------------------------------------------------------------


def test_every_flipped_bit():
    """The tile that is hit is the only candidate, and whole; of METADATA nothing is lost."""
    for bit in range(8 * len(DATA)):
        data = bytearray(DATA)
        data[bit // 8] ^= 1 << bit % 8
        stream = read_damaged(bytes(data))
        assert stream is not None, bit
        assert set(stream.tiles) >= tiles_beside(bit // 8, bit // 8 + 1), bit
        assert len(stream.tiles) + len(stream.candidates) == len(TILES), bit
        for index, candidates in stream.candidates.items():
            assert candidates == (Candidate(TILES[index], (bit,)),), bit
        assert stream.metadata == METADATA, bit
        hit = next(item for item in PACKETS if item.offset <= bit // 8 < item.offset + item.size)
        expected = {Kind.TILE: Rule.TILE_CRC, Kind.METADATA: Rule.CORRECTED, Kind.INDEX: Rule.CORRECTED}
        assert len(stream.report.findings) == 1, bit
        finding = stream.report.findings[0]
        # A copy of the HEADER that is hit is not missed.
        assert finding.rule in (expected.get(hit.kind, Rule.GAP), expected.get(hit.kind, Rule.PACKET_CRC)), bit
        if hit.kind in expected:
            assert (finding.start, finding.end) == (hit.offset, hit.offset + hit.size), bit
            assert f"bit {bit % 8} of byte {bit // 8}" in finding.message, bit


def test_every_truncation():
    for end in range(len(DATA)):
        stream = read_damaged(DATA[:end])
        if end < len(PIECES[0]):
            assert stream is None, end
        else:
            assert set(stream.tiles) == tiles_beside(end, len(DATA)), end


def test_every_lost_beginning():
    for start in range(1, len(DATA)):
        stream = read_damaged(DATA[start:])
        if start > PACKETS[-1].offset:
            assert stream is None, start
        else:
            assert set(stream.tiles) == tiles_beside(0, start), start


def test_every_deleted_byte():
    for at in range(len(DATA)):
        stream = read_damaged(DATA[:at] + DATA[at + 1 :])
        assert set(stream.tiles) >= tiles_beside(at, at + 1), at


@pytest.mark.parametrize("byte", [0x00, 0xB7, 0xFF])
def test_one_byte_inserted_at_every_place(byte):
    for at in range(len(DATA) + 1):
        stream = read_damaged(DATA[:at] + bytes([byte]) + DATA[at:])
        inside = {
            item.number for item in PACKETS if item.kind == Kind.TILE and item.offset < at < item.offset + item.size
        }
        assert set(stream.tiles) >= set(range(len(TILES))) - inside, at


# --- Whole packets --------------------------------------------------------------------------------------------------


def test_every_dropped_packet():
    for gone in range(len(PIECES)):
        stream = read_damaged(b"".join(PIECES[:gone] + PIECES[gone + 1 :]))
        lost = PACKETS[gone].number if PACKETS[gone].kind == Kind.TILE else None
        assert set(stream.tiles) == set(range(len(TILES))) - {lost}, gone
        expected = {Kind.TILE: Rule.TILE_MISSING, Kind.METADATA: Rule.METADATA, Kind.INDEX: Rule.INDEX}
        assert expected.get(PACKETS[gone].kind, Rule.ORDER) in rules(stream), gone


def test_every_duplicated_packet_at_every_place():
    for copied in range(len(PIECES)):
        for place in range(len(PIECES) + 1):
            stream = read_damaged(b"".join([*PIECES[:place], PIECES[copied], *PIECES[place:]]))
            assert list(stream.tiles.values()) == TILES, (copied, place)
            expected = Rule.ORDER if PACKETS[copied].kind == Kind.HEADER else Rule.DUPLICATE
            assert expected in rules(stream), (copied, place)


def test_every_two_packets_swapped():
    for one in range(len(PIECES)):
        for other in range(one):
            pieces = list(PIECES)
            pieces[one], pieces[other] = pieces[other], pieces[one]
            if pieces != PIECES:
                stream = read_damaged(b"".join(pieces))
                assert list(stream.tiles.values()) == TILES, (one, other)
                assert Rule.ORDER in rules(stream), (one, other)


@given(st.binary(max_size=600))
def test_any_bytes_at_all(data):
    with pytest.raises((NotARobustStream, DamagedStream)):
        read_stream(data)


@given(st.lists(st.tuples(st.integers(0, len(DATA) - 1), st.binary(min_size=1, max_size=90)), min_size=1, max_size=5))
def test_any_overwritten_stretches(damages):
    data = bytearray(DATA)
    for at, junk in damages:
        data[at : at + len(junk)] = junk
    if bytes(data) != DATA:
        stream = read_damaged(bytes(data))
        if stream is not None:
            untouched = [tiles_beside(at, max(at + len(junk), at + 1)) for at, junk in damages]
            assert set(stream.tiles) >= set.intersection(*untouched)


# --- Bits put right -------------------------------------------------------------------------------------------------


def hit(*bits_of: tuple[int, ...]) -> bytes:
    """The stream with these bits of its packets flipped, packet by packet; of the last ones none."""
    data = bytearray(DATA)
    for item, bits in zip(PACKETS, bits_of, strict=False):
        for bit in bits:
            data[item.offset + bit // 8] ^= 1 << bit % 8
    return bytes(data)


@pytest.mark.parametrize("bit", [1, 30, 70, 110, 200])
def test_a_flip_in_every_packet_loses_nothing(bit):
    """Sync, kind, number, CRC-16 and payload of all of them, so that no packet is intact."""
    if bit < 24:  # no stream id is known where no packet header is whole
        data = hit(*[(bit,)] * (len(PACKETS) - 1), (110,))
    else:
        data = hit(*[(bit if bit < 112 else min(bit, 8 * item.size - 33),) for item in PACKETS])
    if bit in (30, 70):
        with pytest.raises(NotARobustStream):
            read_stream(data)
        return
    stream = read_stream(data)
    assert {index: candidates[0].tile for index, candidates in stream.candidates.items()} == dict(enumerate(TILES))
    assert (stream.header, stream.metadata) == (read_stream(DATA).header, METADATA)
    assert rules(stream) == {Rule.CORRECTED, Rule.TILE_CRC}
    assert not stream.unproven


def test_one_corrected_header_is_not_proven():
    """Only all tiles together, or a second copy that says the same, can say that it is the one that was written."""
    only = bytearray(PIECES[0])
    only[40] ^= 8
    tiles = [piece for piece, item in zip(PIECES, PACKETS, strict=True) if item.kind == Kind.TILE]
    stream = read_stream(bytes(only) + b"".join(tiles[:3]))
    assert list(stream.unproven) == [0, 1, 2, 3]
    assert stream.header == read_stream(DATA).header
    assert rules(stream) == {Rule.CORRECTED, Rule.TILE_MISSING, Rule.METADATA}
    assert not read_stream(bytes(only) + b"".join(tiles)).unproven
    again = bytearray(PIECES[0])
    again[41] ^= 3
    stream = read_stream(bytes(again + only) + b"".join(tiles[:3]))
    assert not stream.unproven


def test_corrected_headers_that_differ_are_a_conflict():
    other = layout.build_header(sample_header(64, 63, metadata_packets=1))
    one, two = bytearray(PIECES[0]), bytearray(packet(Kind.HEADER, IDENTITY, 0, other))
    one[30] ^= 1
    two[30] ^= 3
    tiles = [piece for piece, item in zip(PIECES, PACKETS, strict=True) if item.kind == Kind.TILE]
    stream = read_stream(bytes(two + one) + b"".join(tiles[:3]))
    assert stream.header == read_stream(DATA).header  # of fewer flips
    assert Rule.HEADER_CONFLICT in rules(stream)
    assert 0 in stream.unproven


def test_metadata_is_put_right_by_one_bit_only():
    place = next(n for n, item in enumerate(PACKETS) if item.kind == Kind.METADATA)
    nothing = [()] * place
    assert read_stream(hit(*nothing, (120,))).metadata == METADATA
    stream = read_stream(hit(*nothing, (120, 130)))
    assert stream.metadata == Metadata()
    assert {Rule.PACKET_CRC, Rule.METADATA} == rules(stream)


def test_a_candidate_is_aguess():
    """Beside a pair stands the tile as it was read, for the decoder to see whether a decode tells them apart."""
    place = next(n for n, item in enumerate(PACKETS) if item.kind == Kind.TILE)
    stream = read_stream(hit(*[()] * place, (150, 260)))
    mended, before = stream.candidates[0]
    first = 8 * PACKETS[place].offset
    assert (mended, before.flips) == (Candidate(TILES[0], (first + 150, first + 260)), ())
    assert before.tile != TILES[0]
    tile = stream.report.tiles[0]
    assert (tile.state, tile.correctable, tile.outcome) == (TileState.DAMAGED, True, None)
    assert 0 not in stream.tiles


def test_pairs_are_counted_where_there_are_several():
    one, two, before = (Candidate(TILES[0], flips) for flips in ((9, 17), (24, 80), ()))
    assert guess([]) == guess([before]) == ""
    assert guess([one, before]) == "; bit 1 of byte 1 and bit 1 of byte 2 would explain it"
    assert guess([one, two, before]) == "; 2 pairs of bits would each explain it"


def test_a_corrected_tile_that_breaks_the_rules_is_none():
    place = next(n for n, item in enumerate(PACKETS) if item.kind == Kind.TILE)
    pieces = list(PIECES)
    pieces[place] = bytearray(packet(Kind.TILE, IDENTITY, 0, b"no tile"))
    pieces[place][15] ^= 1
    stream = read_damaged(b"".join(pieces))
    assert stream.candidates == {}
    assert (set(stream.tiles), rules(stream)) == ({1, 2, 3}, {Rule.TILE_CRC})


def test_a_packet_that_may_be_one_of_two_is_left_alone(monkeypatch):
    """The CRCs explain it by flips that make it tile 0, and by others that make it tile 1."""
    one, two = (item for item in PACKETS if item.kind == Kind.TILE and item.number < 2)
    for explained, candidates in (((one,), {0: (Candidate(TILES[0], (8,)),)}), ((one, two), {})):
        corrected = [Corrected(item, (8,)) for item in explained]
        monkeypatch.setattr(remains, "explanations", lambda data, at, head, found=corrected: found)
        search = Search(
            hit(*[()] * PACKETS.index(one), (150,)), [Gap(one.offset, one.offset + one.size)], IDENTITY, any_of
        )
        left = sort_out(DATA, Found(), HEADER, IDENTITY, search.run())
        assert left.candidates == candidates
        assert left.taken == []


def any_of(kind: int, number: int) -> bool:
    return True


def test_an_intact_copy_is_better_than_a_corrected_one():
    place = next(n for n, item in enumerate(PACKETS) if item.kind == Kind.TILE)
    stream = read_stream(hit(*[()] * place, (150,)) + PIECES[place])
    assert stream.candidates == {}
    assert list(stream.tiles.values()) == TILES


# --- What is wrong, by name -----------------------------------------------------------------------------------------


def test_empty_input_and_other_files_are_not_ours():
    with pytest.raises(NotARobustStream, match="empty"):
        read_stream(b"")
    with pytest.raises(NotARobustStream, match="89 50 4e 47"):
        read_stream(b"\x89PNG\r\n\x1a\n" + bytes(100))


def test_tiles_without_any_header_are_counted():
    with pytest.raises(DamagedStream, match=r"no HEADER.*4 intact tiles"):
        read_stream(b"".join(piece for piece, item in zip(PIECES, PACKETS, strict=True) if item.kind != Kind.HEADER))


def test_header_only_at_the_end_is_enough():
    rest = [piece for piece, item in zip(PIECES, PACKETS, strict=True) if item.kind != Kind.HEADER]
    stream = read_damaged(b"".join([*rest, PIECES[0]]))
    assert list(stream.tiles.values()) == TILES
    assert rules(stream) == {Rule.ORDER}


def test_z_is_salvaged_where_only_y_is_hit():
    target = next(item for item in PACKETS if item.kind == Kind.TILE and item.number == 2)
    data = bytearray(DATA)
    data[target.offset + target.size - 6] ^= 0x10  # inside the last word
    stream = read_damaged(bytes(data))
    assert stream.salvaged[2].words == TILES[2].words[: 4 * TILES[2].z_words]
    assert stream.report.tiles[2].state is TileState.DAMAGED
    assert stream.report.tiles[2].z_salvaged
    finding = stream.report.findings[0]
    assert (finding.rule, finding.tile, finding.start) == (Rule.TILE_CRC, 2, target.offset)
    assert len(stream.report.findings) == 1


def test_z_is_salvaged_from_a_file_that_ends_in_y():
    target = next(item for item in PACKETS if item.kind == Kind.TILE and item.number == 1)
    stream = read_damaged(DATA[: target.offset + target.size - 9])
    assert set(stream.salvaged) == {1}
    assert Rule.TILE_CRC in rules(stream)


def test_parts_of_y_that_are_salvaged_are_counted():
    _, _, data = sample_stream(sample_header(64, 64, checkpoints=3), words=30)
    tile = next(item for item in scan(data) if item.kind == Kind.TILE)
    hurt = bytearray(data)
    for place in range(3):
        hurt[tile.offset + tile.size - 5 - place] ^= 0xFF
    stream = read_stream(bytes(hurt))
    assert stream.salvaged[0].pieces == stream.report.tiles[0].y_salvaged == 3
    assert "a CRC fails; salvaged: its z and 3 of 4 parts of y" in [item.message for item in stream.report.findings]


def test_no_z_is_salvaged_without_checkpoints():
    header = sample_header(64, 64, z_checkpoint=False)
    data = bytearray(write_stream(header, random_tiles(header)))
    target = next(item for item in scan(bytes(data)) if item.kind == Kind.TILE)
    data[target.offset + target.size - 6] ^= 1
    assert read_stream(bytes(data)).salvaged == {}


def test_an_intact_copy_stands_in_for_a_damaged_tile():
    target = next(n for n, item in enumerate(PACKETS) if item.kind == Kind.TILE)
    broken = PIECES[target][:-1] + bytes([PIECES[target][-1] ^ 1])
    stream = read_damaged(b"".join([*PIECES[:target], broken, *PIECES[target:]]))
    assert list(stream.tiles.values()) == TILES
    assert stream.salvaged == {}


def test_two_streams_in_one_file():
    _, other_tiles, other = sample_stream(HEADER, seed=2, words=6)
    stream = read_damaged(DATA + other)
    assert list(stream.tiles.values()) == TILES
    assert Rule.FOREIGN in rules(stream)
    assert stream.report.other_streams == (read_stream(other).stream_id.hex(),)
    reverse = read_stream(other + DATA)
    assert list(reverse.tiles.values()) == other_tiles
    assert reverse.report.other_streams == (IDENTITY.hex(),)


def test_tile_of_another_stream_is_not_taken():
    """The same picture coded twice: a tile of the one, in the place of the other's."""
    other = sample_stream(HEADER, seed=2, words=6)[2]
    foreign = next(item for item in scan(other) if item.kind == Kind.TILE and item.number == 0)
    place = next(n for n, item in enumerate(PACKETS) if item.kind == Kind.TILE and item.number == 0)
    stream = read_damaged(
        b"".join([*PIECES[:place], other[foreign.offset : foreign.offset + foreign.size], *PIECES[place + 1 :]])
    )
    assert 0 not in stream.tiles
    assert {Rule.FOREIGN, Rule.TILE_MISSING} <= rules(stream)


def forge(kind: int, number: int, payload: bytes, place: int = len(PIECES)) -> bytes:
    """The stream with a valid packet put in."""
    return b"".join([*PIECES[:place], packet(kind, IDENTITY, number, payload), *PIECES[place:]])


def test_second_tile_that_differs_is_a_conflict_and_the_first_counts():
    changed = Tile(3, TILES[0].words, TILES[0].digest, TILES[0].z_words)
    stream = read_damaged(forge(Kind.TILE, 3, build_tile(HEADER, IDENTITY, changed)))
    assert list(stream.tiles.values()) == TILES
    assert Rule.TILE_CONFLICT in rules(stream)


def test_second_header_that_differs_is_a_conflict_and_the_first_counts():
    payload = layout.build_header(sample_header(32, 32))
    assert Rule.HEADER_CONFLICT in rules(read_damaged(forge(Kind.HEADER, 0, payload)))


def test_tile_with_valid_crc_but_broken_payload_is_told():
    place = next(n for n, item in enumerate(PACKETS) if item.kind == Kind.TILE)
    pieces = list(PIECES)
    pieces[place] = packet(Kind.TILE, IDENTITY, 0, b"\x02")
    stream = read_damaged(b"".join(pieces))
    assert set(stream.tiles) == {1, 2, 3}
    assert Rule.TILE_FORMAT in rules(stream)


def test_tile_outside_the_picture_is_told():
    payload = build_tile(HEADER, IDENTITY, TILES[0])
    assert Rule.TILE_FORMAT in rules(read_damaged(forge(Kind.TILE, 9, payload)))


def test_numbers_of_header_and_index_mean_nothing():
    data = b"".join(
        packet(item.kind, IDENTITY, 7, item.payload) if item.kind in (Kind.HEADER, Kind.INDEX) else piece
        for item, piece in zip(PACKETS, PIECES, strict=True)
    )
    stream = read_stream(data)
    assert (stream.report.findings, list(stream.tiles.values())) == ((), TILES)
    # Of one that differs the first counts, whatever the numbers.
    again = packet(Kind.INDEX, IDENTITY, 8, b"\x01\x02\x03\x04")
    assert rules(read_stream(data + again)) == {Rule.DUPLICATE}


def test_header_and_tiles_that_do_not_belong_together_are_told():
    tiles = [Tile(tile.index, tile.words[:-1] + b"!", tile.digest, tile.z_words) for tile in TILES]
    bodies = {tile.index: build_tile(HEADER, IDENTITY, tile) for tile in tiles}
    data = b"".join(
        packet(Kind.TILE, IDENTITY, item.number, bodies[item.number]) if item.kind == Kind.TILE else piece
        for item, piece in zip(PACKETS, PIECES, strict=True)
    )
    assert rules(read_stream(data)) == {Rule.STREAM_ID}


def test_index_that_points_elsewhere_is_told():
    data = b"".join(
        packet(Kind.INDEX, IDENTITY, 0, item.payload[:-1] + bytes([item.payload[-1] ^ 1]))
        if item.kind == Kind.INDEX
        else piece
        for item, piece in zip(PACKETS, PIECES, strict=True)
    )
    assert rules(read_stream(data)) == {Rule.INDEX}


def test_unknown_critical_packet_is_refused_by_name():
    with pytest.raises(UnsupportedVersion, match="0x58"):
        read_stream(forge(ord("X"), 0, b"new"))


def test_a_unit_alone_is_called_by_its_name():
    with pytest.raises(DamagedStream, match=r"packed CompressAI unit .*robuststream.compressai.unpack"):
        read_stream(packet(Kind.UNIT, IDENTITY, 0, b"packed"))


def test_unit_in_a_stream_is_refused():
    with pytest.raises(UnsupportedVersion, match="UNIT packet at byte"):
        read_stream(forge(Kind.UNIT, 0, b"packed"))


def test_unknown_ancillary_packet_is_skipped():
    stream = read_stream(forge(ord("x"), 0, b"new", place=3))
    assert list(stream.tiles.values()) == TILES
    assert stream.report.findings == ()


def test_metadata_of_numbers_that_the_header_has_not_is_told():
    """As many as it says, and not from 0 on."""
    header = sample_header()
    data = write_stream(header, random_tiles(header), Metadata(icc=b"icc", xmp=b"<x/>"))
    last = [event for event in scan(data) if isinstance(event, Packet) and event.kind == Kind.METADATA][-1]
    moved = packet(Kind.METADATA, last.stream_id, 7, last.payload)
    report = read_stream(data[: last.offset] + moved + data[last.offset + last.size :]).report
    assert [finding.message for finding in report.findings] == ["METADATA packets have numbers that the header has not"]
    assert not report.intact


def newer(payload: bytes) -> bytes:
    return packet(Kind.HEADER, IDENTITY, 0, payload)


def test_newer_versions():
    payload = PACKETS[0].payload
    with pytest.raises(UnsupportedVersion, match="version 2"):
        read_stream(newer(b"\x02" + payload[1:]))
    with pytest.raises(UnsupportedVersion, match="field 101"):
        read_stream(newer(payload + b"\x65\x00"))
    assert read_stream(newer(b"\x01\x09" + payload[2:])).header.version == (1, 9)


@pytest.mark.parametrize("minor", [0, 9])
def test_order_of_a_newer_version_is_not_judged(minor):
    """It may have packets of its own between those known here."""
    payload = bytes([layout.MAJOR, minor]) + layout.build_header(HEADER)[2:]
    identity = layout.stream_id(payload, TILES)
    pieces = [packet(Kind.HEADER, identity, 0, payload), packet(Kind.INDEX, identity, 0, bytes(4))]
    pieces += [packet(Kind.TILE, identity, t.index, build_tile(HEADER, identity, t)) for t in TILES[::-1]]
    stream = read_stream(b"".join(pieces))
    assert list(stream.tiles.values()) == TILES
    assert stream.report.intact == (minor > 0)
    assert rules(stream) == (set() if minor else {Rule.ORDER})


def test_metadata_with_a_part_gone_is_left_out_and_told():
    data = sample_stream(metadata=Metadata(icc=bytes(40_000), exif=b"exif"))[2]
    target = [item for item in scan(data) if item.kind == Kind.METADATA][1]
    stream = read_stream(data[: target.offset] + data[target.offset + target.size :])
    assert stream.metadata == Metadata(exif=b"exif")
    assert Rule.METADATA in rules(stream)
    assert len(stream.tiles) == 6


def test_metadata_part_beyond_the_parts_is_told_and_not_used():
    """Section 8: every part from 0 to parts - 1 is there, so the block is."""
    header = sample_header(64, 64, metadata_packets=2)
    identity = layout.stream_id(layout.build_header(header), TILES)
    pieces = [
        packet(Kind.HEADER, identity, 0, layout.build_header(header)),
        packet(Kind.METADATA, identity, 0, b"\x03\x01\x01ab"),
        packet(Kind.METADATA, identity, 1, b"\x03\x00\x01cd"),
    ]
    stream = read_stream(b"".join(pieces))
    assert stream.metadata == Metadata(xmp=b"cd")
    assert Rule.METADATA in rules(stream)


def test_metadata_that_breaks_the_rules_is_told():
    place = next(n for n, item in enumerate(PACKETS) if item.kind == Kind.METADATA)
    pieces = list(PIECES)
    pieces[place] = packet(Kind.METADATA, IDENTITY, 0, b"\x80")
    stream = read_stream(b"".join(pieces))
    assert stream.metadata == Metadata()
    assert Rule.METADATA in rules(stream)


@pytest.mark.parametrize("second", [b"\x03\x00\x01cd", b"\x03\x01\x02cd"])
def test_metadata_that_contradicts_itself_is_told_and_the_first_counts(second):
    """The same part twice, or another number of parts."""
    header = sample_header(64, 64, metadata_packets=2)
    identity = layout.stream_id(layout.build_header(header), TILES)
    pieces = [
        packet(Kind.HEADER, identity, 0, layout.build_header(header)),
        packet(Kind.METADATA, identity, 0, b"\x03\x00\x01ab"),
        packet(Kind.METADATA, identity, 1, second),
    ]
    stream = read_stream(b"".join(pieces))
    assert stream.metadata == Metadata(xmp=b"ab")
    assert [item.message for item in stream.report.findings if item.rule == Rule.METADATA] == [
        "contradicts an earlier part of the same block, which counts"
    ]


# --- Trust does not hang on what is kept for telling ----------------------------------------------------------------


def damaged_note(number: int) -> bytes:
    return packet(Kind.METADATA, IDENTITY, number, b"xxxx")[:-4] + b"yyyy"


@pytest.mark.parametrize("count", [0, 900, 1001, 5000])
def test_a_conflict_is_not_forgotten_among_many_findings(count):
    tiles = [piece for piece, item in zip(PIECES, PACKETS, strict=True) if (item.kind, item.number) != (Kind.TILE, 3)]
    other = packet(Kind.HEADER, IDENTITY, 0, layout.build_header(sample_header(32, 128)))
    changed = Tile(1, TILES[1].words[:-1] + b"!", TILES[1].digest, TILES[1].z_words)
    second = packet(Kind.TILE, IDENTITY, 1, build_tile(HEADER, IDENTITY, changed))
    noise = b"".join(map(damaged_note, range(count)))
    for before, behind in ((b"", noise), (noise, b"")):
        stream = read_stream(before + b"".join(tiles) + other + behind)
        assert set(stream.unproven) == {0, 1, 2, 3}
        assert Rule.HEADER_CONFLICT in rules(stream)
        stream = read_stream(before + b"".join(tiles) + second + behind)
        assert set(stream.unproven) == {1}
        assert Rule.TILE_CONFLICT in rules(stream)


def test_of_each_rule_the_first_finding_is_kept():
    """A fault that many others stand before is still told by its name."""
    tiles = b"".join(piece for piece, item in zip(PIECES, PACKETS, strict=True) if item.kind != Kind.METADATA)
    stream = read_stream(tiles + b"".join(map(damaged_note, range(1500))) + sample_stream(seed=9)[2])
    assert {Rule.PACKET_CRC, Rule.METADATA, Rule.FOREIGN} <= rules(stream)
    assert stream.report.findings_left_out > 0


# --- Several streams in one file ------------------------------------------------------------------------------------


def test_each_of_several_streams_can_be_had():
    others = [sample_stream(HEADER, seed=seed, words=6) for seed in (2, 3)]
    bare = b"".join(piece for piece, item in zip(PIECES, PACKETS, strict=True) if item.kind == Kind.TILE)
    data = others[0][2] + bare + others[1][2]
    streams = list(read_streams(data))
    assert [list(stream.tiles.values()) for stream in streams] == [others[0][1], others[1][1]]
    for number, stream in enumerate(streams):
        assert read_stream(data, number=number) == stream
    told = [finding.message for finding in streams[0].report.findings if finding.rule == Rule.FOREIGN]
    assert told == [
        f"4 packets of another stream ({IDENTITY.hex()})",
        f"{len(list(scan(others[1][2])))} packets of another stream ({streams[1].stream_id.hex()}), "
        "which can be had as stream 1",
    ]
    told = [finding.message for finding in streams[1].report.findings if finding.rule == Rule.FOREIGN]
    assert told[0].endswith(f"({streams[0].stream_id.hex()}), which can be had as stream 0")
    with pytest.raises(StreamNotFound, match="there is no stream 2: 2 with a header are here"):
        read_stream(data, number=2)
    # What is damaged in one of them is its own affair.
    hurt = bytearray(data)
    hurt[len(data) - 200] ^= 0xFF
    assert len(list(read_streams(bytes(hurt)))) == 2


def test_many_streams_are_found_in_linear_time():
    """Each costs a scan only when it is asked for."""
    data = b"".join(packet(Kind.HEADER, n.to_bytes(4, "big"), 0, PACKETS[0].payload) for n in range(3000))
    assert read_stream(data, number=2999).stream_id == (2999).to_bytes(4, "big")


def test_a_lender_is_no_help_to_what_is_no_stream():
    """Not one packet is intact: that is said, whoever would lend a header."""
    with pytest.raises(NotARobustStream):
        read_stream(packet(Kind.TILE, IDENTITY, 0, b"xxxx")[:-4] + b"yyyy", read_stream(DATA))


def test_a_header_put_right_before_a_tile_that_breaks_the_rules_is_a_gap():
    place = next(n for n, item in enumerate(PACKETS) if item.kind == Kind.TILE)
    pieces = list(PIECES)
    pieces[place] = bytearray(packet(Kind.TILE, IDENTITY, 0, b"no tile"))
    pieces[place][9] ^= 1  # in its packet header
    stream = read_damaged(b"".join(pieces))
    assert (stream.candidates, set(stream.tiles)) == ({}, {1, 2, 3})
    assert rules(stream) == {Rule.GAP, Rule.TILE_MISSING}
