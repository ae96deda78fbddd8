"""Fills in what is lost, and says of every pixel what it is worth (spec/format.md, section 11)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robuststream.container.report import Outcome
from robuststream.networks.graph import Network
from robuststream.tiling import Grid
from robuststream.windows import synthesis_reach


class Mask(IntEnum):
    """What a pixel of `Decoded.mask` says."""

    EXACT = 0  # in native mode: verified
    REPAIRED = 1
    CONCEALED = 2
    MISSING = 3
    TOUCHED = 4  # its own latents are proven, but lost ones reach it through the synthesis transform
    UNPROVEN = 5  # decoded, but header and tiles contradict each other or the stream id


def fill_missing(latents: Tensor, grid: Grid, outcomes: Mapping[int, Outcome]) -> None:
    """Give missing tiles, in place, the mean of all others' latents, channel by channel: a flat, fitting colour."""
    lost = [index for index, outcome in outcomes.items() if outcome == Outcome.MISSING]
    if not lost or len(lost) == grid.tiles:
        return
    # Missing latents are zeros: they add nothing to the sum.
    alive = grid.latents.height * grid.latents.width
    alive -= sum(box.height * box.width for box in map(grid.latent_box, lost))
    fill = torch.round(latents.sum(dim=(1, 2), dtype=torch.float64) / alive).to(latents.dtype)
    for index in lost:
        latents[(slice(None), *grid.latent_box(index).slices())] = fill[:, None, None]


def pixel_mask(grid: Grid, outcomes: Mapping[int, Outcome], synthesis: Network) -> npt.NDArray[np.uint8]:
    """uint8 (H, W) of Mask values."""
    mask = np.full((grid.height, grid.width), Mask.EXACT, np.uint8)
    values = {
        Outcome.REPAIRED: Mask.REPAIRED,
        Outcome.UNPROVEN: Mask.UNPROVEN,
        Outcome.CONCEALED: Mask.CONCEALED,
        Outcome.MISSING: Mask.MISSING,
    }
    marked = {index: values[outcome] for index, outcome in outcomes.items() if outcome in values}
    if not marked:
        return mask
    before, after = synthesis_reach(synthesis)
    lost = {index: value for index, value in marked.items() if value != Mask.REPAIRED}
    for index in marked.keys() - lost.keys():
        # As good as undamaged: what it reaches is not touched by a loss, but a loss may reach it.
        mask[grid.pixel_box(index).slices()] = Mask.REPAIRED
    for index in lost:
        # The padding's pixels take part: a tile's latents cover them too.
        box = grid.latent_box(index).scaled(grid.stride).grown(before, after, grid.pixels)
        mask[box.slices()] = Mask.TOUCHED
    for index, value in lost.items():
        mask[grid.pixel_box(index).slices()] = value
    return mask
