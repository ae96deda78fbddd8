"""Parts and fields: they cover the file, and say what the tests' own builder wrote."""

from __future__ import annotations

import struct
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream.container.packets import Kind, Metadata, Mode, Tile
from robuststream.container.stream import Stream
from robuststream.container.tiles import build_tile
from robuststream.container.writer import write_stream
from robuststream.errors import RobustStreamError
from robuststream.transfers.reading import read_stream
from robuststream.views import fields as fields_module
from robuststream.views.fields import MAX_FIELDS, Field, dissect, dissect_all
from robuststream.views.parts import MAX_PARTS, Part, list_parts
from tests.helpers import packet, random_tiles, sample_header, sample_stream, slow_crc16, slow_crc32c, varint

METADATA = Metadata(icc=b"profile", xmp=b"<x/>")


def stream_of(**changes: object) -> tuple[bytes, Stream]:
    data = sample_stream(sample_header(**changes), metadata=METADATA)[2]
    return data, read_stream(data)


def fields_of(data: bytes, part: Part, stream: Stream) -> dict[str, Field]:
    return {field.name: field for field in dissect(data, part, stream.header, stream.stream_id)}


def parity_stream() -> bytes:
    return sample_stream(sample_header(parity=300), words=60)[2]


def native_stream() -> bytes:
    header = sample_header(mode=Mode.NATIVE)
    tiles = [Tile(tile.index, tile.words, 5, tile.z_words, (6, 7)) for tile in random_tiles(header)]
    return write_stream(header, tiles)


def streams() -> list[bytes]:
    plain = [
        stream_of(**changes)[0] for changes in ({}, {"checkpoints": 3}, {"z_checkpoint": False}, {"model_name": "m"})
    ]
    return [*plain, native_stream(), *([parity_stream()] if find_spec("raptorq") else [])]


STREAMS = streams()


@given(st.sampled_from(STREAMS), st.data())
def test_parts_cover_the_file_and_fields_their_packets_whatever_happened(data: bytes, draw: st.DataObject) -> None:
    hurt = bytearray(data)
    for at in draw.draw(st.lists(st.integers(0, len(data) - 1), max_size=6)):
        hurt[at] = draw.draw(st.integers(0, 255))
    start = draw.draw(st.integers(0, len(hurt)))
    del hurt[start : start + draw.draw(st.sampled_from([0, 0, 1, 30]))]
    found = bytes(hurt)
    try:
        stream = read_stream(found)
    except RobustStreamError:
        return
    at = 0
    for part in list_parts(found)[0]:
        assert part.start == at < part.end
        fields = dissect(found, part, stream.header, stream.stream_id)
        inner = at
        for field in fields:
            assert field.start == inner <= field.end
            inner = field.end
        at = part.end
        if part.kind is not None:
            assert inner == at
            assert (part.state == "damaged") == any(field.fault for field in fields)
    assert at == len(found)


def test_the_fields_of_a_header() -> None:
    data, stream = stream_of(model_name="a\x1bb", checkpoints=2, quality=3)
    fields = fields_of(data, list_parts(data)[0][0], stream)
    values = {name: field.value for name, field in fields.items()}
    assert values["sync"] == "b7 52 53"
    assert values["kind"] == "0x48 (HEADER)"
    assert values["stream id"] == stream.stream_id.hex()
    assert values["version"] == "1.0"
    assert (values["guard"], fields["guard"].fault) == ("0d 0a 1a 0a 0d", "")
    assert values["tag 1, picture size"] == "96 x 64 pixels"
    assert values["tag 2, model name"] == "a?b"
    assert values["tag 3, tile"] == "32 pixels"
    assert values["tag 4, metadata packets"] == "2"
    assert values["tag 5, parameters digest"] == bytes(range(16)).hex()
    assert values["tag 15, quality"] == "3"
    assert values["tag 23, checkpoints in y"] == "2"


def test_a_header_field_nobody_knows_and_one_that_breaks_the_rules() -> None:
    header = sample_header()
    payload = b"\1\0\r\n\x1a\n\r" + b"\1\2\x60\x40" + b"\3\1\x20" + b"\5\x10" + header.parameters_digest
    payload += b"\7\x10" + header.synthesis_digest + varint(100) + b"\1\xaa"
    broken = b"\1\0\r\n\x1a\n\n" + b"\1\1\x60"
    stream = read_stream(packet(Kind.HEADER, b"abcd", 0, payload))
    data = packet(Kind.HEADER, b"abcd", 0, payload) + packet(Kind.HEADER, b"abcd", 0, broken)
    first, second = (fields_of(data, part, stream) for part in list_parts(data)[0])
    assert first["tag 100, unknown, may be skipped"].value == "aa"
    assert second["guard"].fault == "breaks the format's rules"
    assert second["tag 1, picture size"].fault == "breaks the format's rules"


def test_the_fields_of_a_tile_are_where_they_were_written() -> None:
    data, stream = stream_of(checkpoints=1)
    part = next(part for part in list_parts(data)[0] if part.title == "TILE 2")
    fields = fields_of(data, part, stream)
    tile = stream.tiles[2]
    payload = build_tile(stream.header, stream.stream_id, tile)
    assert fields["checkpoint: seam"].value == f"{tile.z_words} words, with the state's 2"
    assert fields["context digest"].value == f"{tile.digest:#010x}"
    # 9 words, 3 up to the seam; then two pieces of 3.
    z, first, last = (fields[name] for name in ("z words", "y words, part 1 of 2", "y words, part 2 of 2"))
    assert data[z.start : z.end] == tile.words[8:12]
    assert data[first.start : first.end] + data[last.start : last.end] == tile.words[12:]
    raw = bytes([Kind.TILE]) + stream.stream_id + b"\2" + varint(len(payload))
    assert fields["CRC-16"].value == f"{slow_crc16(raw):#06x}"
    assert fields["CRC-32C"].value == f"{slow_crc32c(payload, slow_crc32c(raw)):#010x}"


def test_damage_is_told_where_the_sums_show_it() -> None:
    data, stream = stream_of(checkpoints=3)
    part = next(part for part in list_parts(data)[0] if part.title == "TILE 1")
    whole = fields_of(data, part, stream)
    expected = {
        "z words": {"checkpoint: CRC", "state words", "z words", "CRC-32C"},
        "y words, part 2 of 4": {"sum of y, part 2", "y words, part 2 of 4", "CRC-32C"},
        "y words, part 4 of 4": set(),
        "CRC-32C": {"CRC-32C"},
    }
    for name, wrong in expected.items():
        at = whole[name].start
        if whole[name].end == at:  # 6 words in pieces of 2: the last has none
            continue
        hurt = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        fields = fields_of(hurt, next(p for p in list_parts(hurt)[0] if p.start == part.start), stream)
        assert {field.name for field in fields.values() if field.fault} == wrong
    assert not any(field.fault for field in whole.values())


def test_index_metadata_and_digests_of_native_mode() -> None:
    data, stream = stream_of()
    parts = {part.title: part for part in list_parts(data)[0]}
    index = fields_of(data, parts["INDEX"], stream)
    for number in range(6):
        place = parts[f"TILE {number}"].start
        assert index[f"distance to tile {number}"].value.endswith(f"(byte {place})")
    assert fields_of(data, parts["METADATA 1"], stream)["type"].value == "3 (XMP)"
    assert fields_of(data, parts["METADATA 1"], stream)["data"].value == b"<x/>".hex(" ")
    data = native_stream()
    stream = read_stream(data)
    tile = next(part for part in list_parts(data)[0] if part.title == "TILE 0")
    fields = fields_of(data, tile, stream)
    assert [fields[name].value for name in ("earlier digests", "digest of group 0", "digest of group 1")] == [
        "2",
        "0x00000006",
        "0x00000007",
    ]


@pytest.mark.skipif(find_spec("raptorq") is None, reason="the package raptorq is not here")
def test_the_description_of_parity_and_a_symbol_that_is_wrong() -> None:
    data = parity_stream()
    stream = read_stream(data)
    part = next(part for part in list_parts(data)[0] if part.title == "PARITY 1")
    fields = dissect(data, part, stream.header, stream.stream_id)
    values = {field.name: field.value for field in fields}
    sizes = [part.size for part in list_parts(data)[0] if part.name in ("INDEX", "TILE")]
    assert values["packets in block"] == str(len(sizes) + 1)
    assert [values[f"size of packet {number + 1}"] for number in range(len(sizes))] == [f"{n} bytes" for n in sizes]
    symbol = next(field for field in fields if field.name.startswith("repair symbol "))
    hurt = data[: symbol.start] + bytes((data[symbol.start] ^ 1,)) + data[symbol.start + 1 :]
    wrong = [field.name for field in dissect(hurt, part, stream.header, stream.stream_id) if field.fault]
    assert wrong == ["its CRC-16", "CRC-32C"]


def test_a_file_cut_off_inside_a_packet() -> None:
    data, stream = stream_of()
    part = next(part for part in list_parts(data)[0] if part.title == "TILE 3")
    cut = data[: part.end - 9]
    last = list_parts(cut)[0][-1]
    assert (last.state, last.start, last.end) == ("damaged", part.start, len(cut))
    assert (
        dissect(cut, last, stream.header, stream.stream_id)[-1].fault
        == f"{part.size - 9} of {part.size} bytes are there"
    )


def test_a_packet_that_lost_bytes_ends_where_the_next_begins() -> None:
    data, _ = stream_of()
    parts = list_parts(data)[0]
    number = next(number for number, part in enumerate(parts) if part.title == "TILE 1")
    middle = parts[number].end - 20
    cut = data[: middle - 8] + data[middle:]
    again = list_parts(cut)[0]
    assert [part.title for part in again] == [part.title for part in parts]
    assert (again[number].state, again[number].size, again[number].declared) == (
        "damaged",
        parts[number].size - 8,
        parts[number].size,
    )


def test_what_a_hostile_file_lists_has_a_limit() -> None:
    fields = bytes([Kind.TILE]) + b"abcd" + b"\0" + varint(1 << 20)
    forged = b"\xb7RS" + fields + struct.pack("<H", slow_crc16(fields))
    parts, left_out = list_parts(forged * (MAX_PARTS + 500))
    assert len(parts) <= MAX_PARTS + 1
    assert left_out == 500
    intact = packet(Kind.TILE, b"abcd", 0, b"")
    parts, left_out = list_parts((intact + b"-") * (MAX_PARTS + 7))
    assert len(parts) == MAX_PARTS
    assert left_out >= 7


def test_what_a_hostile_file_has_fields_of_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    data, stream = stream_of()
    header = packet(Kind.HEADER, stream.stream_id, 0, b"\1\0" + b"\2\0" * 20_000)
    index = packet(Kind.INDEX, stream.stream_id, 0, bytes(20_000))
    parity = packet(Kind.PARITY, stream.stream_id, 0, b"\0\0" + varint(1 << 31) + b"\1" * 20_000)
    hostile = header + index + parity
    for part in list_parts(hostile)[0]:
        fields = dissect(hostile, part, stream.header, stream.stream_id)
        assert len(fields) <= MAX_FIELDS + 3
        assert fields[-1].end == part.end
    # The payload of each claims all that follow: nothing of it may be read again and again.
    head = bytes([Kind.TILE]) + stream.stream_id + b"\0" + varint(1 << 20)
    forged = (b"\xb7RS" + head + struct.pack("<H", slow_crc16(head))) * 3000
    summed = []
    monkeypatch.setattr(fields_module, "crc32c", lambda data, crc=0: summed.append(len(data)) or 0)
    for part in list_parts(forged)[0]:
        dissect(forged, part, stream.header, stream.stream_id)
    assert sum(summed) <= len(forged)
    monkeypatch.setattr(fields_module, "MAX_TOTAL", 30)
    lists = dissect_all(data, list_parts(data)[0], stream.header, stream.stream_id)
    assert len(lists) == len(list_parts(data)[0])
    assert [bool(found) for found in lists].count(True) == 3


def test_a_tile_of_another_stream_is_not_looked_into() -> None:
    data, stream = stream_of()
    other = packet(Kind.TILE, b"abcd", 0, b"payload")
    part = list_parts(other + data)[0][0]
    assert fields_of(other + data, part, stream)["payload"].value == b"payload".hex(" ")
