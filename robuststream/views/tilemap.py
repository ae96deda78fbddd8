"""The picture's tile grid, each tile coloured by its state: `robuststream inspect --map`, from the container alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from robuststream.container.packets import TileLayout
from robuststream.container.report import StreamReport, TileReport, TileState
from robuststream.errors import ImageError
from robuststream.views.text import one_line

#: A picture of 2^28 pixels in tiles of 64 has as many.
MAX_TILES = 1 << 16
#: Pixels: a tile should be as wide as its text, and no side of the map longer.
TILE_SIDE, LONGEST = 128, 4096
MARGIN, LINE = 16, 26


@dataclass(frozen=True)
class Look:
    """How tiles of a state are called and drawn; colours are told apart without red and green (Okabe and Ito, 2008)."""

    name: str
    fill: str
    ink: str


INTACT = Look("intact", "#d5e8f0", "#123")
CORRECTABLE = Look("correctable", "#f0e442", "#221")
SALVAGED = Look("partly salvaged", "#e69f00", "#210")
DAMAGED = Look("damaged", "#d55e00", "#fff")
MISSING = Look("missing", "#3b3b42", "#fff")
LOOKS = (INTACT, CORRECTABLE, SALVAGED, DAMAGED, MISSING)


def look(tile: TileReport) -> Look:
    if tile.state == TileState.INTACT:
        return INTACT
    if tile.state == TileState.MISSING:
        return MISSING
    if tile.correctable:
        return CORRECTABLE
    return SALVAGED if tile.z_salvaged or tile.y_salvaged else DAMAGED


def refuse_many(tiles: int) -> None:
    """Raises ImageError where there are too many tiles to be seen in a picture."""
    if tiles > MAX_TILES:
        raise ImageError(f"{tiles} tiles are too many to draw (at most {MAX_TILES}): --json lists them")


def box(layout: TileLayout, index: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a tile in the picture, in pixels."""
    row, column = divmod(index, layout.columns)
    left, top = column * layout.tile, row * layout.tile
    return left, top, min(left + layout.tile, layout.width), min(top + layout.tile, layout.height)


def draw_map(report: StreamReport, title: str) -> Image.Image:
    """The map, RGB. Tiles show their index and bytes where there is room.

    Raises:
        ImageError: more than MAX_TILES tiles.
    """
    header = report.header
    refuse_many(header.tiles)
    scale = min(max(1.0, TILE_SIDE / header.tile), LONGEST / max(header.width, header.height))
    size = (max(1, round(header.width * scale)), max(1, round(header.height * scale)))
    top = 2 * MARGIN + 2 * LINE
    width = max(size[0], 480)
    picture = Image.new("RGB", (width + 2 * MARGIN, size[1] + top + MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    known = {tile.index: tile for tile in report.tiles}
    tiles = [known.get(index) or TileReport(index, TileState.MISSING) for index in range(header.tiles)]
    _legend(draw, tiles, f"{title}: {header.width} x {header.height}, {report.file_bytes} bytes", width)
    for tile in tiles:
        left, upper, right, lower = (round(side * scale) for side in box(header, tile.index))
        place = (MARGIN + left, top + upper, MARGIN + right, top + lower)
        _tile(draw, tile, place)
    return picture


def _tile(draw: ImageDraw.ImageDraw, tile: TileReport, place: tuple[int, int, int, int]) -> None:
    kind = look(tile)
    left, top, right, bottom = place
    # A line between tiles needs room of its own.
    outline = "white" if min(right - left, bottom - top) >= 6 else None
    draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), kind.fill, outline)
    texts = [str(tile.index), "no bytes" if tile.size is None else f"{tile.size:,} B"]
    if kind is not INTACT:
        texts.append(kind.name)
    font = ImageFont.load_default(size=15)
    room = (right - left - 10, (bottom - top - 6) // 18)
    lines = [text for text in texts if font.getlength(text) <= room[0]][: max(0, room[1])]
    for number, text in enumerate(lines):
        draw.text((left + 6, top + 4 + 18 * number), text, fill=kind.ink, font=font)


def _legend(draw: ImageDraw.ImageDraw, tiles: list[TileReport], title: str, width: int) -> None:
    font = ImageFont.load_default(size=18)
    title = one_line(title)
    while font.getlength(title) > width and len(title) > 1:
        title = title[:-2] + "…"
    draw.text((MARGIN, MARGIN), title, fill="#111", font=font)
    counts = Counter(look(tile) for tile in tiles)
    small = ImageFont.load_default(size=15)
    at = MARGIN
    for kind in LOOKS:
        if counts[kind]:
            text = f"{counts[kind]} {kind.name}"
            draw.rectangle((at, MARGIN + LINE + 4, at + 14, MARGIN + LINE + 18), kind.fill, "#888")
            draw.text((at + 20, MARGIN + LINE + 2), text, fill="#333", font=small)
            at += 36 + round(small.getlength(text))
