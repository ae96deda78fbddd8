"""The map: every tile in its place and colour."""

from __future__ import annotations

import pytest
from PIL import ImageColor

from robuststream.container.report import TileState
from robuststream.errors import ImageError
from robuststream.faults import drop_tiles
from robuststream.transfers.reading import read_stream
from robuststream.views.tilemap import INTACT, MARGIN, MISSING, SALVAGED, box, draw_map, look
from tests.helpers import sample_header, sample_stream


def test_tiles_are_coloured_by_state() -> None:
    data = drop_tiles(sample_stream(words=90)[2], tiles=[4])
    tile = read_stream(data).report.tiles[1]
    at = tile.offset + tile.size - 80
    data = data[:at] + bytes(byte ^ 0x55 for byte in data[at : at + 9]) + data[at + 9 :]
    report = read_stream(data).report
    looks = [look(tile) for tile in report.tiles]
    assert looks == [INTACT, SALVAGED, INTACT, INTACT, MISSING, INTACT]
    picture = draw_map(report, "a name\x1b\n" * 40)
    # 96 x 64 pixels at 4 to one; the tiles' lower right corners hold no text.
    top = picture.height - 64 * 4 - MARGIN
    for index, kind in enumerate(looks):
        _, _, right, bottom = box(report.header, index)
        place = (MARGIN + 4 * right - 8, top + 4 * bottom - 8)
        assert picture.getpixel(place) == ImageColor.getrgb(kind.fill)


def test_the_last_tiles_are_as_small_as_the_picture_leaves_them() -> None:
    header = sample_header(100, 70, 64)
    assert [box(header, index) for index in range(4)] == [
        (0, 0, 64, 64),
        (64, 0, 100, 64),
        (0, 64, 64, 70),
        (64, 64, 100, 70),
    ]


def test_a_picture_of_very_thin_tiles_and_one_of_too_many() -> None:
    header = sample_header(40_000, 1, 1)
    report = read_stream(sample_stream(sample_header(1000, 1, 1), words=3)[2]).report
    assert draw_map(report, "thin").width > 1000
    with pytest.raises(ImageError, match="1600000000 tiles are too many to draw"):
        draw_map(type(report)(**{**report.__dict__, "header": sample_header(40_000, 40_000, 1)}), "many")
    assert header.tiles == 40_000
    assert all(tile.state == TileState.INTACT for tile in report.tiles)
