"""TILE payloads as the format writes them: whole, broken, and what is left of damaged ones."""

from __future__ import annotations

import struct
from dataclasses import replace

import construct
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream.container.packets import Mode, Tile
from robuststream.container.tiles import build_tile, parse_tile, salvage_tile, split_tile
from tests.container.test_layout import DIGEST, IDENTITY, SYNTHESIS
from tests.helpers import TILE, random_tiles, sample_header, slow_crc16, slow_crc32c, varint

WORDS = bytes(range(100, 124))  # six words
#: Over the parameter digest, the stream id, the tile's number as u32 and the first three words.
SEAM_CRC = slow_crc32c(DIGEST + IDENTITY + b"\x04\0\0\0" + WORDS[:12])
PAYLOAD = b"\x03" + struct.pack("<I", SEAM_CRC) + struct.pack("<I", 0xCAFEBABE) + WORDS


def test_tile_with_checkpoint_written_out():
    tile = Tile(4, WORDS, 0xCAFEBABE, z_words=3)
    assert build_tile(sample_header(), IDENTITY, tile) == PAYLOAD
    assert parse_tile(sample_header(), IDENTITY, 4, PAYLOAD) == tile


def test_tile_without_checkpoint_written_out():
    header, tile = sample_header(z_checkpoint=False), Tile(4, WORDS, 0xCAFEBABE)
    assert build_tile(header, IDENTITY, tile) == PAYLOAD[5:]
    assert parse_tile(header, IDENTITY, 4, PAYLOAD[5:]) == tile
    assert salvage_tile(header, IDENTITY, 4, PAYLOAD[5:]) is None


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
    assert parse_tile(sample_header(), IDENTITY, 4, payload) is None


def test_tile_of_another_place_stream_or_model_is_none():
    other_model = sample_header(parameters_digest=SYNTHESIS)
    for parse in (parse_tile, salvage_tile):
        assert parse(sample_header(), IDENTITY, 4, PAYLOAD) is not None
        assert parse(sample_header(), IDENTITY, 5, PAYLOAD) is None
        assert parse(sample_header(), b"\x01\x02\x03\x05", 4, PAYLOAD) is None
        assert parse(other_model, IDENTITY, 4, PAYLOAD) is None
        assert parse(sample_header(32, 32), IDENTITY, 4, PAYLOAD) is None  # a picture of one tile has no tile 4


@given(st.binary(max_size=60), st.integers(0, len(PAYLOAD)))
def test_any_tile_bytes_end_in_the_tile_or_none(junk, keep):
    payload = PAYLOAD[:keep] + junk
    tile = parse_tile(sample_header(), IDENTITY, 4, payload)
    if tile is not None:
        assert build_tile(sample_header(), IDENTITY, tile) == payload
    left = salvage_tile(sample_header(), IDENTITY, 4, payload)
    assert left is None or left.words == WORDS[:12]


def test_salvage_needs_the_bytes_up_to_the_seam_and_no_more():
    needed = 1 + 4 + 4 + 12
    for end in range(len(PAYLOAD) + 1):
        found = salvage_tile(sample_header(), IDENTITY, 4, PAYLOAD[:end])
        assert (found and found.words) == (WORDS[:12] if end >= needed else None), end


def test_salvage_survives_any_flip_behind_the_seam_and_none_before():
    needed = 1 + 4 + 4 + 12
    # The context digest belongs to y: z is proven without it.
    digest = range(8 * 5, 8 * 9)
    for bit in range(8 * len(PAYLOAD)):
        flipped = bytearray(PAYLOAD)
        flipped[bit // 8] ^= 1 << bit % 8
        found = salvage_tile(sample_header(), IDENTITY, 4, bytes(flipped))
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
    assert build_tile(header, IDENTITY, tile) == payload
    assert parse_tile(header, IDENTITY, 4, payload) == tile


def test_what_stands_before_damage_in_y_is_salvaged_up_to_the_last_checkpoint():
    header = sample_header(checkpoints=2)
    payload = build_tile(header, IDENTITY, Tile(4, LONG, 0xCAFEBABE, z_words=3))
    begin = len(payload) - len(LONG)
    for at in range(len(payload)):
        left = salvage_tile(header, IDENTITY, 4, payload[:at] + bytes([payload[at] ^ 0x40]) + payload[at + 1 :])
        if at < 5 or begin <= at < begin + 12:
            assert left is None, at
            continue
        # The digest and the first sum are part of what proves the first piece.
        pieces = 0 if at < begin - 2 else 1 if at < begin else min(2, (at - begin - 12) // 12)
        assert (left.pieces, left.words) == (pieces, LONG[: 12 + 12 * pieces]), at
        assert not pieces or (left.digest, left.z_words, left.earlier) == (0xCAFEBABE, 3, ())


def test_a_tile_cut_short_keeps_the_pieces_that_are_there():
    header = sample_header(checkpoints=2)
    payload = build_tile(header, IDENTITY, Tile(4, LONG, 0xCAFEBABE, z_words=3))
    begin = len(payload) - len(LONG)
    for end in range(begin + 12, len(payload)):
        left = salvage_tile(header, IDENTITY, 4, payload[:end], len(payload))
        assert left.pieces == min(2, (end - begin - 12) // 12), end


def test_the_first_pieces_of_a_tile_without_z_are_salvaged():
    header = sample_header(z_checkpoint=False, checkpoints=2)
    payload = build_tile(header, IDENTITY, Tile(4, LONG, 0xCAFEBABE))
    step = 4 * 4  # 11 words in three parts
    for at in range(len(payload)):
        left = salvage_tile(header, IDENTITY, 4, payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :])
        pieces = 0 if at < 6 else 1 if at < 8 else min(2, (at - 8) // step)
        assert (left and left.words) == (LONG[: pieces * step] if pieces else None), at


def test_a_piece_of_another_place_stream_model_or_quality_is_not_taken():
    header = sample_header(z_checkpoint=False, checkpoints=2)
    payload = build_tile(header, IDENTITY, Tile(4, LONG, 0xCAFEBABE))
    others = {
        "place": (header, IDENTITY, 5),
        "stream": (header, b"\x01\x02\x03\x05", 4),
        "model": (replace(header, parameters_digest=SYNTHESIS), IDENTITY, 4),
        "quality": (replace(header, quality=1), IDENTITY, 4),
    }
    assert salvage_tile(header, IDENTITY, 4, payload).pieces == 2
    for what, (other, identity, index) in others.items():
        assert salvage_tile(other, identity, index, payload) is None, what
    swapped = payload[:8] + payload[24:40] + payload[8:24] + payload[40:]
    assert salvage_tile(header, IDENTITY, 4, swapped) is None


@pytest.mark.parametrize(("earlier", "read"), [(0, True), (11, True), (12, False), (255, False)])
def test_a_tile_has_at_most_11_earlier_digests(earlier, read):
    header = sample_header(mode=Mode.NATIVE)
    tile = replace(random_tiles(header)[0], earlier=tuple(range(earlier)))
    parsed = parse_tile(header, IDENTITY, 0, build_tile(header, IDENTITY, tile))
    assert parsed == (tile if read else None)


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
        assert split_tile(header, payload) is None
        return
    fields, words = split_tile(header, payload)
    assert (fields.earlier, fields.digest, fields.sums) == (
        tuple(expected.earlier or ()),
        expected.digest,
        tuple(expected.sums),
    )
    assert (fields.size, words) == (expected.size, payload[expected.size :])
    if after_z:
        assert (fields.z_words, fields.crc) == (expected.checkpoint.z_words, expected.checkpoint.crc)
    else:
        assert fields.z_words is None
