"""The tree and the bytes at findings, as people read them."""

from __future__ import annotations

from itertools import pairwise

from robuststream.transfers.reading import read_stream
from robuststream.views.hexdump import FINDINGS, ROWS, hexdump
from robuststream.views.tree import tree
from tests.helpers import sample_header, sample_stream


def hurt() -> bytes:
    data = sample_stream(sample_header(checkpoints=1), words=90)[2]
    tile = read_stream(data).report.tiles[2]
    at = tile.offset + tile.size - 60
    return data[:at] + bytes(byte ^ 0x55 for byte in data[at : at + 7]) + data[at + 7 :] + b"some junk"


def test_the_tree_gives_place_size_and_name_of_all() -> None:
    data = hurt()
    lines = list(tree(data, read_stream(data)))
    rows = [text.split() for text, _ in lines]
    tile = read_stream(data).report.tiles[2]
    assert [str(tile.offset), str(tile.size), "TILE", "2,", "DAMAGED"] in rows
    assert ["0", "3", "sync", "b7", "52", "53"] in rows
    assert [str(len(data) - 9), "9", "gap:", "bytes", "of", "no", "packet"] in rows
    assert [text for text, damage in lines if damage and "ROBS-TILE-CRC, tile 2" in text]
    assert [text for text, damage in lines if damage and "<- computed" in text]


def test_an_intact_stream_has_nothing_marked() -> None:
    data = sample_stream()[2]
    stream = read_stream(data)
    assert not any(damage for _, damage in tree(data, stream))
    assert list(hexdump(data, stream)) == []


def test_rows_hold_the_bytes_and_carets_stand_below_what_is_wrong() -> None:
    data = hurt()
    lines = [text for text, _ in hexdump(data, read_stream(data))]
    tile = read_stream(data).report.tiles[2]
    assert lines[0].startswith("ROBS-TILE-CRC, tile 2")
    place, first = lines[1].split(None, 1)
    assert int(place) == tile.offset
    assert first.startswith(data[tile.offset : tile.offset + 16].hex(" "))
    marker = next(number for number, text in enumerate(lines) if "CRC-32C: computed" in text)
    stored = data[tile.offset + tile.size - 4 : tile.offset + tile.size].hex(" ")
    column = lines[marker].index("^^")
    assert lines[marker - 1][column : column + 11] == stored
    assert lines[marker][column : column + 11] == "^^ ^^ ^^ ^^"


def test_a_flipped_bit_is_marked() -> None:
    data = sample_stream(words=90)[2]
    at = read_stream(data).report.tiles[3].offset + 100
    data = data[:at] + bytes((data[at] ^ 8,)) + data[at + 1 :]
    lines = [text for text, _ in hexdump(data, read_stream(data))]
    marker = next(number for number, text in enumerate(lines) if text.endswith("flipped bit"))
    column = lines[marker].index("^^")
    assert lines[marker - 1][column : column + 2] == f"{data[at]:02x}"
    assert lines[marker].count("^^") == 1


def test_long_lists_are_cut() -> None:
    data = b"".join([sample_stream()[2][:200] + b"j" * 3000] * (FINDINGS + 5)) + sample_stream()[2]
    stream = read_stream(data)
    lines = list(hexdump(data, stream))
    heads = [number for number, (_, head) in enumerate(lines) if head]
    assert len(heads) == FINDINGS
    rows = [sum(text.lstrip()[:1].isdigit() for text, _ in lines[start:end]) for start, end in pairwise(heads)]
    assert max(rows) <= ROWS
    assert lines[-1][0].endswith("more findings (--json lists them)")
