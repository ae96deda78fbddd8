"""Each structure against bytes written out by hand, and each rule against bytes that break it."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import construct
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream.container import layout
from robuststream.container.packets import Colour, Kind, Mode, Tile, is_critical, kind_name
from robuststream.errors import DamagedStream, ImageError, UnsupportedVersion
from tests.helpers import METADATA, TILE, packet, random_tiles, sample_header, slow_crc16, slow_crc32c, varint

IDENTITY = b"\x01\x02\x03\x04"
DIGEST, SYNTHESIS = bytes(range(16)), bytes(range(16, 32))
#: Version 1.0 and the guard; 96 x 64 pixels; tiles of 32; the two digests: all that has no default.
FRONT, SIZE, SIDE = b"\x01\x00\r\n\x1a\n\r", b"\x01\x02\x60\x40", b"\x03\x01\x20"
DIGESTS = b"\x05\x10" + DIGEST + b"\x07\x10" + SYNTHESIS
PLAIN = FRONT + SIZE + SIDE + DIGESTS
U32 = st.integers(0, 2**32 - 1)


# --- Integers -------------------------------------------------------------------------------------------------------


@given(U32)
def test_varint_equals_an_independent_encoder(value):
    assert layout.VarInt.build(value) == varint(value)
    assert layout.VarInt.parse(varint(value)) == value


@pytest.mark.parametrize("value", [0, 127, 128, 16383, 16384, 2**32 - 1])
def test_varint_at_its_borders(value):
    assert layout.VarInt.parse(layout.VarInt.build(value)) == value


@given(U32, st.integers(1, 4))
def test_varint_not_in_its_shortest_form_is_refused(value, extra):
    short = varint(value)
    long = short[:-1] + bytes([short[-1] | 0x80]) + b"\x80" * (extra - 1) + b"\x00"
    with pytest.raises(construct.ConstructError):
        layout.VarInt.parse(long)


@pytest.mark.parametrize(
    "data",
    [
        b"",  # nothing
        b"\x80",  # cut off
        b"\xff\xff\xff\xff\x10",  # 2^32
        b"\xff\xff\xff\xff\x7f",  # 35 bits
        b"\x80\x80\x80\x80\x80\x01",  # 6 bytes
    ],
)
def test_varint_too_large_or_cut_off_is_refused(data):
    with pytest.raises(construct.ConstructError):
        layout.VarInt.parse(data)


@pytest.mark.parametrize("value", [-1, 2**32])
def test_varint_refuses_to_write_what_it_would_not_read(value):
    with pytest.raises(construct.ConstructError):
        layout.VarInt.build(value)


# --- Packets --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 255), st.binary(min_size=4, max_size=4), U32, st.binary(max_size=300))
def test_packet_equals_one_built_by_hand(kind, identity, number, payload):
    data = layout.build_packet(kind, identity, number, payload)
    assert data == packet(kind, identity, number, payload)
    fields, crc, size = layout.parse_packet_header(data + b"more")
    assert (fields.kind, fields.stream_id, fields.number, fields.length) == (kind, identity, number, len(payload))
    assert data[size : size + len(payload)] == payload
    assert size <= layout.MAX_PACKET_HEADER
    assert crc == slow_crc32c(data[3 : size - 2])


def test_packet_written_out():
    head = b"\xb7RS" + b"T" + IDENTITY + b"\x05" + b"\x02"
    crc16 = struct.pack("<H", slow_crc16(head[3:]))
    crc32 = struct.pack("<I", slow_crc32c(head[3:] + b"ab"))
    assert layout.build_packet(Kind.TILE, IDENTITY, 5, b"ab") == head + crc16 + b"ab" + crc32


def test_longest_packet_header_is_as_long_as_declared():
    data = layout.build_packet(Kind.TILE, IDENTITY, 2**32 - 1, bytes(layout.MAX_PAYLOAD))
    assert len(data) == layout.MAX_PACKET_HEADER + layout.MAX_PAYLOAD + layout.PAYLOAD_CRC_BYTES


def test_payload_above_the_limit_is_not_written():
    with pytest.raises(ImageError, match=r"1048577 bytes.*smaller tiles"):
        layout.build_packet(Kind.TILE, IDENTITY, 0, bytes(layout.MAX_PAYLOAD + 1))


def test_payload_length_above_the_limit_is_not_believed():
    assert layout.parse_packet_header(packet(Kind.TILE, IDENTITY, 0, b"", length=layout.MAX_PAYLOAD)) is not None
    assert layout.parse_packet_header(packet(Kind.TILE, IDENTITY, 0, b"", length=layout.MAX_PAYLOAD + 1)) is None


def test_packet_header_damaged_in_any_bit_or_cut_anywhere_is_none():
    data = layout.build_packet(Kind.TILE, IDENTITY, 300, b"payload")
    size = len(data) - len(b"payload") - layout.PAYLOAD_CRC_BYTES
    for bit in range(8 * size):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert layout.parse_packet_header(bytes(flipped)) is None, bit
    for end in range(size):
        assert layout.parse_packet_header(data[:end]) is None, end


def test_kinds_say_whether_they_may_be_skipped():
    assert {kind for kind in Kind if is_critical(kind)} == {Kind.HEADER, Kind.TILE, Kind.UNIT}
    assert kind_name(Kind.INDEX) == "INDEX"
    assert kind_name(0x58) == "kind 0x58"


# --- HEADER ---------------------------------------------------------------------------------------------------------


def test_header_at_its_defaults_written_out():
    assert layout.build_header(sample_header()) == PLAIN
    assert layout.parse_header(PLAIN) == sample_header()


def test_header_with_every_field_stands_in_the_order_of_tags():
    header = sample_header(
        colour=Colour.GREY, z_checkpoint=False, metadata_packets=200, model_name="käse", checkpoints=3
    )
    name = "käse".encode()
    expected = (
        (FRONT + SIZE)
        + (b"\x02" + bytes([len(name)]) + name)
        + SIDE
        + b"\x04\x02\xc8\x01"
        + DIGESTS
        + b"\x0b\x01\x01"
        + b"\x0d\x01\x00"
        + b"\x17\x01\x03"
    )
    assert layout.build_header(header) == expected
    assert layout.parse_header(expected) == header


@given(st.integers(1, 2**32 - 1), st.integers(1, 2**32 - 1), st.integers(1, 4096), st.text(max_size=16))
def test_header_comes_back(width, height, tile, name):
    header = sample_header(width, height, tile, model_name=name)
    assert layout.parse_header(layout.build_header(header)) == header


@given(
    st.sampled_from(Mode), st.sampled_from(Colour), st.booleans(), st.integers(0, 9), st.integers(0, 15),
    st.integers(0, 300), st.integers(0, 4000), st.text(max_size=5),
)  # fmt: skip
def test_fields_are_written_in_order_and_none_at_its_default(
    mode, colour, after_z, quality, checkpoints, notes, share, name
):
    header = sample_header(
        mode=mode, colour=colour, z_checkpoint=after_z, quality=quality, checkpoints=checkpoints,
        metadata_packets=notes, parity=share, model_name=name,
    )  # fmt: skip
    written = {2: name.encode(), 4: notes, 8: share, 9: mode, 11: colour, 13: after_z, 15: quality, 23: checkpoints}
    defaults = {2: b"", 4: 0, 8: 0, 9: 0, 11: 0, 13: 1, 15: 0, 23: 0}
    values = {1: varint(96) + varint(64), 3: varint(32), 5: DIGEST, 7: SYNTHESIS}
    values |= {
        tag: value if isinstance(value, bytes) else varint(value)
        for tag, value in written.items()
        if value != defaults[tag]
    }
    fields = [varint(tag) + varint(len(values[tag])) + values[tag] for tag in sorted(values)]
    assert layout.build_header(header) == FRONT + b"".join(fields)


DEFAULTS = (b"\x02\x00", b"\x04\x01\x00", b"\x08\x01\x00", b"\x09\x01\x00", b"\x0b\x01\x00", b"\x0d\x01\x01",
            b"\x0f\x01\x00", b"\x17\x01\x00")  # fmt: skip


@pytest.mark.parametrize("field", DEFAULTS, ids=lambda field: f"tag {field[0]}")
def test_field_at_its_default_is_read(field):
    place = {2: len(FRONT + SIZE), 4: len(FRONT + SIZE + SIDE)}.get(field[0], len(PLAIN))
    assert layout.parse_header(PLAIN[:place] + field + PLAIN[place:]) == sample_header()


def test_long_name_is_cut_at_a_character():
    header = layout.parse_header(layout.build_header(sample_header(model_name="x" + "ä" * 40)))
    assert header.model_name == "x" + "ä" * 31  # 63 bytes; one more would be half a character


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"x" * 64, "x" * 64),
        (b"x" * 65, "x" * 64),
        (b"x" * 63 + "ä".encode(), "x" * 63 + "\ufffd"),
        (b"a\xffb\xc3", "a\ufffdb\ufffd"),
    ],
)
def test_of_a_name_64_bytes_are_read_and_what_is_no_text_is_replaced(raw, name):
    payload = FRONT + SIZE + b"\x02" + varint(len(raw)) + raw + SIDE + DIGESTS
    assert layout.parse_header(payload) == sample_header(model_name=name)


def test_tile_grid_counts_started_tiles():
    header = sample_header(97, 64, 32)
    assert (header.columns, header.rows, header.tiles) == (4, 2, 8)
    assert sample_header(1, 1, 256).tiles == 1


@pytest.mark.parametrize("tag", [10, 22, 100, 2**32 - 2])
def test_unknown_ancillary_field_is_skipped(tag):
    assert layout.parse_header(PLAIN + varint(tag) + b"\x03abc") == sample_header()


@pytest.mark.parametrize("tag", [17, 19, 21, 25, 101, 2**32 - 1])
def test_unknown_critical_field_is_refused_by_its_number(tag):
    with pytest.raises(UnsupportedVersion, match=f"field {tag},"):
        layout.parse_header(PLAIN + varint(tag) + b"\x03abc")


def test_newer_minor_version_is_read():
    assert layout.parse_header(b"\x01\x07" + PLAIN[2:]) == replace(sample_header(), version=(1, 7))


@pytest.mark.parametrize("major", [0, 2, 255])
@pytest.mark.parametrize("rest", [PLAIN[1:], b"", b"\xff\xff\xff"])
def test_another_major_version_is_refused_by_its_number_whatever_follows(rest, major):
    with pytest.raises(UnsupportedVersion, match=rf"is version {major}, this release reads version 1\b"):
        layout.parse_header(bytes([major]) + rest)


@pytest.mark.parametrize(
    ("field", "named"), [(b"\x09\x01\x02", "mode 2"), (b"\x09\x01\x07", "mode 7"), (b"\x0d\x01\x02", "2 checkpoints")]
)
def test_value_of_a_newer_release_is_refused(field, named):
    with pytest.raises(UnsupportedVersion, match=named):
        layout.parse_header(PLAIN + field)


BROKEN_HEADERS = {
    "empty": b"",
    "only a version": b"\x01\x00",
    "no guard": FRONT[:2] + SIZE + SIDE + DIGESTS,
    "guard cut short": FRONT[:-1],
    "guard of a text-mode transfer": PLAIN.replace(b"\n", b"\r\n"),
    "half a field": PLAIN + b"\x0b",
    "value cut short": PLAIN + b"\x0b\x05\x01",
    "repeated field": PLAIN + b"\x07\x10" + SYNTHESIS,
    "fields out of order": FRONT + SIDE + SIZE + DIGESTS,
    "no size": FRONT + SIDE + DIGESTS,
    "no tile size": FRONT + SIZE + DIGESTS,
    "no parameters digest": FRONT + SIZE + SIDE + DIGESTS[18:],
    "no synthesis digest": FRONT + SIZE + SIDE + DIGESTS[:18],
    "digest of 15 bytes": PLAIN[:-18] + b"\x07\x0f" + SYNTHESIS[:15],
    "digest of 17 bytes": PLAIN[:-18] + b"\x07\x11" + SYNTHESIS + b"x",
    "width of zero": FRONT + b"\x01\x02\x00\x40" + SIDE + DIGESTS,
    "height of zero": FRONT + b"\x01\x02\x60\x00" + SIDE + DIGESTS,
    "tile of zero": FRONT + SIZE + b"\x03\x01\x00" + DIGESTS,
    "tile of 4097": FRONT + SIZE + b"\x03\x02\x81\x20" + DIGESTS,
    "parity above four": PLAIN + b"\x08\x02\xa1\x1f",
    "checkpoints in y above fifteen": PLAIN + b"\x17\x01\x10",
    "three sizes": FRONT + b"\x01\x03\x60\x40\x01" + SIDE + DIGESTS,
    "a byte behind a number": PLAIN + b"\x0b\x02\x01\x00",
    "number not in its shortest form": PLAIN + b"\x0b\x02\x81\x00",
}


@pytest.mark.parametrize("payload", BROKEN_HEADERS.values(), ids=BROKEN_HEADERS)
def test_header_that_breaks_the_rules_is_damage(payload):
    with pytest.raises(DamagedStream, match="HEADER"):
        layout.parse_header(payload)


@pytest.mark.parametrize("place", range(len(layout.GUARD)))
def test_a_guard_of_other_bytes_is_damage(place):
    changed = bytearray(PLAIN)
    changed[2 + place] ^= 1
    with pytest.raises(DamagedStream, match="guard"):
        layout.parse_header(bytes(changed))


def test_unknown_colour_is_a_newer_format():
    with pytest.raises(UnsupportedVersion, match="colour 9"):
        layout.parse_header(PLAIN + b"\x0b\x01\x09")


@given(st.binary(max_size=80), st.integers(0, len(PLAIN)))
def test_any_header_bytes_end_in_a_header_or_our_error(junk, keep):
    try:
        header = layout.parse_header(PLAIN[:keep] + junk)
    except (DamagedStream, UnsupportedVersion):
        return
    assert header.width
    assert header.height
    assert header.tile


def test_stream_id_is_the_start_of_sha256():
    tiles = [Tile(0, b"12345678", 1, 2), Tile(1, b"abcdefghijkl", 2, 2)]
    text = PLAIN + b"\x08\0\0\0" + b"12345678" + b"\x0c\0\0\0" + b"abcdefghijkl"
    assert layout.stream_id(PLAIN, tiles) == hashlib.sha256(text).digest()[:4]


# --- TILE -----------------------------------------------------------------------------------------------------------

WORDS = bytes(range(100, 124))  # six words
#: Over the parameter digest, the stream id, the tile's number as u32 and the first three words.
SEAM_CRC = slow_crc32c(DIGEST + IDENTITY + b"\x04\0\0\0" + WORDS[:12])
PAYLOAD = b"\x03" + struct.pack("<I", SEAM_CRC) + struct.pack("<I", 0xCAFEBABE) + WORDS


def test_tile_with_checkpoint_written_out():
    tile = Tile(4, WORDS, 0xCAFEBABE, z_words=3)
    assert layout.build_tile(sample_header(), IDENTITY, tile) == PAYLOAD
    assert layout.parse_tile(sample_header(), IDENTITY, 4, PAYLOAD) == tile


def test_tile_without_checkpoint_written_out():
    header, tile = sample_header(z_checkpoint=False), Tile(4, WORDS, 0xCAFEBABE)
    assert layout.build_tile(header, IDENTITY, tile) == PAYLOAD[5:]
    assert layout.parse_tile(header, IDENTITY, 4, PAYLOAD[5:]) == tile
    assert layout.salvage_tile(header, IDENTITY, 4, PAYLOAD[5:]) is None


def seam(z_words: int, words: bytes = WORDS) -> bytes:
    """A tile payload whose checkpoint is right for `z_words`, sensible or not."""
    crc = slow_crc32c(DIGEST + IDENTITY + b"\x04\0\0\0" + words[: 4 * z_words])
    return varint(z_words) + struct.pack("<II", crc, 0xCAFEBABE) + words


BROKEN_TILES = {
    "empty": b"",
    "no digest": PAYLOAD[:8],
    "no words": PAYLOAD[:9],
    "one word": seam(1, WORDS[:4]),
    "half a word": PAYLOAD + b"ab",
    "seam inside the state": seam(1),
    "seam at nothing": seam(0),
    "seam behind the end": seam(7),
    "seam CRC wrong": PAYLOAD[:1] + b"\0\0\0\0" + PAYLOAD[5:],
    "number not in its shortest form": b"\x83\x00" + PAYLOAD[1:],
}


@pytest.mark.parametrize("payload", BROKEN_TILES.values(), ids=BROKEN_TILES)
def test_tile_that_breaks_the_rules_is_none(payload):
    assert layout.parse_tile(sample_header(), IDENTITY, 4, payload) is None


def test_tile_of_another_place_stream_or_model_is_none():
    other_model = sample_header(parameters_digest=SYNTHESIS)
    for parse in (layout.parse_tile, layout.salvage_tile):
        assert parse(sample_header(), IDENTITY, 4, PAYLOAD) is not None
        assert parse(sample_header(), IDENTITY, 5, PAYLOAD) is None
        assert parse(sample_header(), b"\x01\x02\x03\x05", 4, PAYLOAD) is None
        assert parse(other_model, IDENTITY, 4, PAYLOAD) is None
        assert parse(sample_header(32, 32), IDENTITY, 4, PAYLOAD) is None  # a picture of one tile has no tile 4


@given(st.binary(max_size=60), st.integers(0, len(PAYLOAD)))
def test_any_tile_bytes_end_in_the_tile_or_none(junk, keep):
    payload = PAYLOAD[:keep] + junk
    tile = layout.parse_tile(sample_header(), IDENTITY, 4, payload)
    if tile is not None:
        assert layout.build_tile(sample_header(), IDENTITY, tile) == payload
    left = layout.salvage_tile(sample_header(), IDENTITY, 4, payload)
    assert left is None or left.words == WORDS[:12]


def test_salvage_needs_the_bytes_up_to_the_seam_and_no_more():
    needed = 1 + 4 + 4 + 12
    for end in range(len(PAYLOAD) + 1):
        found = layout.salvage_tile(sample_header(), IDENTITY, 4, PAYLOAD[:end])
        assert (found and found.words) == (WORDS[:12] if end >= needed else None), end


def test_salvage_survives_any_flip_behind_the_seam_and_none_before():
    needed = 1 + 4 + 4 + 12
    # The context digest belongs to y: z is proven without it.
    digest = range(8 * 5, 8 * 9)
    for bit in range(8 * len(PAYLOAD)):
        flipped = bytearray(PAYLOAD)
        flipped[bit // 8] ^= 1 << bit % 8
        found = layout.salvage_tile(sample_header(), IDENTITY, 4, bytes(flipped))
        survives = bit >= 8 * needed or bit in digest
        assert (found and found.words) == (WORDS[:12] if survives else None), bit


# Eight words of y behind a seam of 3, in three parts by two checkpoints: 3, 3 and 2 words.
LONG = WORDS[:12] + bytes(range(100, 132))
PARTS = {2: (LONG[12:24], LONG[24:36]), 15: tuple(LONG[n : n + 4] for n in range(12, 44, 4)) + (b"",) * 7}


def summed(count: int, digests: bytes = struct.pack("<I", 0xCAFEBABE)) -> bytes:
    """The sums of section 6, written out."""
    place = [struct.pack("<II", 4, number) for number in range(count)]
    parts = zip(place, PARTS[count], strict=True)
    return b"".join(struct.pack("<H", slow_crc16(DIGEST + IDENTITY + at + digests + part)) for at, part in parts)


@pytest.mark.parametrize("count", PARTS)
def test_tile_with_checkpoints_in_y_written_out(count):
    header = sample_header(checkpoints=count)
    payload = seam(3, b"")[:9] + summed(count) + LONG
    payload = payload[:1] + struct.pack("<I", SEAM_CRC) + payload[5:]
    tile = Tile(4, LONG, 0xCAFEBABE, z_words=3)
    assert layout.build_tile(header, IDENTITY, tile) == payload
    assert layout.parse_tile(header, IDENTITY, 4, payload) == tile


def test_what_stands_before_damage_in_y_is_salvaged_up_to_the_last_checkpoint():
    header = sample_header(checkpoints=2)
    payload = layout.build_tile(header, IDENTITY, Tile(4, LONG, 0xCAFEBABE, z_words=3))
    begin = len(payload) - len(LONG)
    for at in range(len(payload)):
        left = layout.salvage_tile(header, IDENTITY, 4, payload[:at] + bytes([payload[at] ^ 0x40]) + payload[at + 1 :])
        if at < 5 or begin <= at < begin + 12:
            assert left is None, at
            continue
        # The digest and the first sum are part of what proves the first piece.
        pieces = 0 if at < begin - 2 else 1 if at < begin else min(2, (at - begin - 12) // 12)
        assert (left.pieces, left.words) == (pieces, LONG[: 12 + 12 * pieces]), at
        assert not pieces or (left.digest, left.z_words, left.earlier) == (0xCAFEBABE, 3, ())


def test_a_tile_cut_short_keeps_the_pieces_that_are_there():
    header = sample_header(checkpoints=2)
    payload = layout.build_tile(header, IDENTITY, Tile(4, LONG, 0xCAFEBABE, z_words=3))
    begin = len(payload) - len(LONG)
    for end in range(begin + 12, len(payload)):
        left = layout.salvage_tile(header, IDENTITY, 4, payload[:end], len(payload))
        assert left.pieces == min(2, (end - begin - 12) // 12), end


def test_the_first_pieces_of_a_tile_without_z_are_salvaged():
    header = sample_header(z_checkpoint=False, checkpoints=2)
    payload = layout.build_tile(header, IDENTITY, Tile(4, LONG, 0xCAFEBABE))
    step = 4 * 4  # 11 words in three parts
    for at in range(len(payload)):
        left = layout.salvage_tile(header, IDENTITY, 4, payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :])
        pieces = 0 if at < 6 else 1 if at < 8 else min(2, (at - 8) // step)
        assert (left and left.words) == (LONG[: pieces * step] if pieces else None), at


def test_a_piece_of_another_place_stream_model_or_quality_is_not_taken():
    header = sample_header(z_checkpoint=False, checkpoints=2)
    payload = layout.build_tile(header, IDENTITY, Tile(4, LONG, 0xCAFEBABE))
    others = {
        "place": (header, IDENTITY, 5),
        "stream": (header, b"\x01\x02\x03\x05", 4),
        "model": (replace(header, parameters_digest=SYNTHESIS), IDENTITY, 4),
        "quality": (replace(header, quality=1), IDENTITY, 4),
    }
    assert layout.salvage_tile(header, IDENTITY, 4, payload).pieces == 2
    for what, (other, identity, index) in others.items():
        assert layout.salvage_tile(other, identity, index, payload) is None, what
    swapped = payload[:8] + payload[24:40] + payload[8:24] + payload[40:]
    assert layout.salvage_tile(header, IDENTITY, 4, swapped) is None


# --- INDEX, METADATA ------------------------------------------------------------------------------------------------


def test_index_written_out():
    assert layout.INDEX.build([0, 300, 5]) == b"\x00\xac\x02\x05"
    assert list(layout.INDEX.parse(b"\x00\xac\x02\x05")) == [0, 300, 5]


def test_metadata_written_out():
    assert layout.build_metadata(layout.MetadataPart(1, 2, 300, b"icc")) == b"\x01\x02\xac\x02icc"


@pytest.mark.parametrize(("earlier", "read"), [(0, True), (11, True), (12, False), (255, False)])
def test_a_tile_has_at_most_11_earlier_digests(earlier, read):
    header = sample_header(mode=Mode.NATIVE)
    tile = replace(random_tiles(header)[0], earlier=tuple(range(earlier)))
    parsed = layout.parse_tile(header, IDENTITY, 0, layout.build_tile(header, IDENTITY, tile))
    assert parsed == (tile if read else None)


def test_parity_of_four_is_the_most():
    assert layout.parse_header(PLAIN + b"\x08\x02\xa0\x1f") == sample_header(parity=4000)


# --- By hand, and as the structures say -----------------------------------------------------------------------------


@given(
    st.binary(max_size=60),
    st.booleans(),
    st.sampled_from(list(Mode)),
    st.integers(0, 15),
)
def test_a_tile_is_split_as_its_structure_says(payload, after_z, mode, checkpoints):
    header = sample_header(z_checkpoint=after_z, mode=mode, checkpoints=checkpoints)
    try:
        expected = TILE.parse(payload, **vars(header))
    except construct.ConstructError:
        assert layout.split_tile(header, payload) is None
        return
    fields, words = layout.split_tile(header, payload)
    assert (fields.earlier, fields.digest, fields.sums) == (
        tuple(expected.earlier or ()),
        expected.digest,
        tuple(expected.sums),
    )
    assert (fields.size, words) == (expected.size, payload[expected.size :])
    if after_z:
        assert fields.checkpoint == (expected.checkpoint.z_words, expected.checkpoint.crc)
    else:
        assert fields.checkpoint is None


@given(st.binary(max_size=20))
def test_metadata_is_read_as_its_structure_says(payload):
    try:
        expected = METADATA.parse(payload)
    except construct.ConstructError:
        assert layout.parse_metadata(payload) is None
        return
    if expected.part >= expected.parts:
        assert layout.parse_metadata(payload) is None
    else:
        assert layout.parse_metadata(payload) == (expected.type, expected.part, expected.parts, expected.data)
