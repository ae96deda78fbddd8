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
from tests.helpers import METADATA, packet, sample_header, slow_crc16, slow_crc32c, varint

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


# --- INDEX, METADATA ------------------------------------------------------------------------------------------------


def test_index_written_out():
    assert layout.INDEX.build([0, 300, 5]) == b"\x00\xac\x02\x05"
    assert list(layout.INDEX.parse(b"\x00\xac\x02\x05")) == [0, 300, 5]


def test_metadata_written_out():
    assert layout.build_metadata(layout.MetadataPart(1, 2, 300, b"icc")) == b"\x01\x02\xac\x02icc"


def test_parity_of_four_is_the_most():
    assert layout.parse_header(PLAIN + b"\x08\x02\xa0\x1f") == sample_header(parity=4000)


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
