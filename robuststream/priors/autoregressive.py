"""Raster-scan context: mbt2018, cheng2020-anchor, cheng2020-attn (spec/format.md, section 15.3).

D. Minnen, J. Ballé, G. Toderici, arXiv:1809.02736; Z. Cheng, H. Sun, M. Takeuchi, J. Katto, arXiv:2001.01568.

A place is predicted from those before it in the scan, as far as the kernel reaches. With a kernel of 5 x 5:

    ■ ■ ■ ■ ■
    ■ ■ ■ ■ ■         ■  seen
    ■ ■ ◌ □ □         ◌  the place
    □ □ □ □ □         □  not decoded yet
    □ □ □ □ □

So its row must be decoded up to the place, and the row above up to the kernel's reach r beyond it. All places of one
column + (r + 1) * row can be coded in one step then, a wavefront. With r = 2, the steps of a tile of 4 x 6 are:

    0  1  2  3  4  5
    3  4  5  6  7  8
    6  7  8  9 10 11
    9 10 11 12 13 14

A tile of 16 x 16 takes 61 steps so, not 256, and each symbol has the context that the raster scan would give it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

from robuststream.priors.context import Order, Places


@lru_cache(maxsize=64)
def wavefronts(height: int, width: int, reach: int) -> Sequence[Places]:
    """Places by column + (reach + 1) * row; inside a step by row."""
    slope = reach + 1
    steps = []
    for number in range(width + slope * (height - 1)):
        first, last = max(0, -(-(number - width + 1) // slope)), min(height - 1, number // slope)
        rows = torch.arange(first, last + 1, device="cpu")
        steps.append((rows, number - slope * rows))
    # Steps are empty where a tile is narrower than the slope.
    return [step for step in steps if len(step[0])]


RASTER_SCAN = Order(
    steps=wavefronts,
    sees=lambda down, across: down < 0 or (down == 0 and across < 0),
    first_is_blind=False,
    context_first=False,
)
