"""How a picture is cut into tiles (spec/format.md, section 17)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from robuststream.container.packets import Header, TileLayout


@dataclass(frozen=True)
class Box:
    """Rows [top, bottom), columns [left, right)."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def area(self) -> int:
        return self.height * self.width

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def scaled(self, up: int) -> Box:
        return Box(self.top * up, self.left * up, self.bottom * up, self.right * up)

    def grown(self, before: int, after: int, within: Box) -> Box:
        return Box(self.top - before, self.left - before, self.bottom + after, self.right + after).clipped(within)

    def clipped(self, within: Box) -> Box:
        return Box(
            max(self.top, within.top),
            max(self.left, within.left),
            min(self.bottom, within.bottom),
            min(self.right, within.right),
        )

    def relative_to(self, other: Box) -> Box:
        """The same box, counted from the other's corner."""
        top, left = other.top, other.left
        return Box(self.top - top, self.left - left, self.bottom - top, self.right - left)


@dataclass(frozen=True)
class Grid(TileLayout):
    """The tiles of one picture.

    Attributes:
        width, height: of the picture, in pixels.
        tile: side of a tile in pixels, a multiple of `factor`.
        stride: pixels per latent of y.
        factor: pixels per latent of the deepest level; the padded picture is a multiple of it.
    """

    stride: int
    factor: int

    @classmethod
    def of(cls, header: Header, stride: int, factor: int) -> Grid:
        return cls(header.width, header.height, header.tile, stride, factor)

    @property
    def pixels(self) -> Box:
        """The picture, without padding."""
        return Box(0, 0, self.height, self.width)

    @property
    def latents(self) -> Box:
        """All latents of y: the padded picture."""
        padded = [-(-size // self.factor) * self.factor // self.stride for size in (self.height, self.width)]
        return Box(0, 0, padded[0], padded[1])

    def latent_box(self, index: int) -> Box:
        """The latents of a tile. Tiles at the right and lower edge are smaller."""
        side = self.tile // self.stride
        row, column = divmod(index, self.columns)
        box = Box(row * side, column * side, (row + 1) * side, (column + 1) * side)
        return box.clipped(self.latents)

    def pixel_box(self, index: int) -> Box:
        """The pixels of a tile, without padding."""
        return self.latent_box(index).scaled(self.stride).clipped(self.pixels)

    def tiles_of(self, latents: Box) -> list[int]:
        """The tiles that have some of these latents, rising."""
        side = self.tile // self.stride
        rows = range(latents.top // side, -(-latents.bottom // side))
        columns = range(latents.left // side, -(-latents.right // side))
        return [row * self.columns + column for row in rows for column in columns]


Key = TypeVar("Key")


def by_shape(boxes: Mapping[Key, Box], at_most: int) -> list[tuple[Box, list[Key]]]:
    """Tiles that can be coded together: of one shape, with `at_most` latents a channel in all, or a single tile.

    The box is that of the first.
    """
    groups: dict[tuple[int, int], list[Key]] = {}
    for key, box in boxes.items():
        groups.setdefault((box.height, box.width), []).append(key)
    batches = []
    for (height, width), group in groups.items():
        size = max(1, at_most // (height * width))
        batches += [group[start : start + size] for start in range(0, len(group), size)]
    return [(boxes[batch[0]], batch) for batch in batches]
