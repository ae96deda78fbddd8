"""How large a picture may be, asked before anything is allocated for it. Imports no torch."""

from __future__ import annotations

from robuststream.container.packets import MAX_PIXELS
from robuststream.errors import ImageError
from robuststream.picture.grid import Grid


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises ImageError where they are more pixels than `max_pixels`."""
    if width * height > max_pixels:
        raise ImageError(
            f"{width} x {height} pixels are more than the limit of {max_pixels}: "
            "raise it with max_pixels (--max-pixels) if you trust the source"
        )


def check_padded_size(grid: Grid, max_pixels: int) -> None:
    """A picture one pixel high is small until it is padded. Raises ImageError."""
    padded = grid.latents.scaled(grid.stride)
    check_size(padded.width, padded.height, max(max_pixels, MAX_PIXELS))
