"""Fills in what is lost, and says of every pixel how far it can be trusted (spec/format.md, section 11)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from robuststream.container.report import Outcome
from robuststream.networks.graph import Network
from robuststream.picture.grid import Box, Grid
from robuststream.picture.windows import synthesis_reach

#: So many channels are filled at once, to take little memory beside the latents'.
CHANNELS = 32
#: Relaxations on each level. Three times as many bring less than 0.1 dB in a lost tile.
RELAXATIONS = 24


class Mask(IntEnum):
    """What a pixel of `Decoded.mask` says."""

    EXACT = 0  # in native mode: verified
    REPAIRED = 1
    CONCEALED = 2
    MISSING = 3
    TOUCHED = 4  # its own latents are proven, but lost ones reach it through the synthesis transform
    UNPROVEN = 5  # decoded, but header and tiles contradict each other or the stream id


def fill_missing(latents: Tensor, grid: Grid, outcomes: Mapping[int, Outcome]) -> None:
    """Give missing tiles, in place, latents that go on smoothly from those around: channel by channel a membrane,
    stretched over the hole (Laplace's equation; a picture's own border pulls at nothing)."""
    lost = [index for index, outcome in outcomes.items() if outcome == Outcome.MISSING]
    if not lost or len(lost) == grid.tiles:
        return
    known = torch.ones(latents.shape[1:], dtype=torch.bool, device=latents.device)
    for index in lost:
        known[grid.latent_box(index).slices()] = False
    for first in range(0, len(latents), CHANNELS):
        part = latents[first : first + CHANNELS]
        part[:, ~known] = torch.round(membrane(part.float(), known)[:, ~known]).to(latents.dtype)


def membrane(values: Tensor, known: Tensor) -> Tensor:
    """values, float32 (C, h, w), where `known`, bool (h, w), of which one at least is true; elsewhere about the mean of
    the four neighbours.

    Coarse to fine, in time linear in the size: what a hole looks like at half the resolution, then a few relaxations
    (the pull-push of S. J. Gortler et al., "The Lumigraph", 1996, with Jacobi's steps on every level).
    """
    height, width = known.shape
    if bool(known.all()):
        return values
    filled = F.pad(values * known, (0, width % 2, 0, height % 2))
    weights = F.pad(known.float(), (0, width % 2, 0, height % 2))[None]
    sums, counts = (F.avg_pool2d(part, 2) for part in (filled, weights))
    coarse = membrane(sums / counts.clamp(min=0.25), counts[0] > 0)
    guess = F.interpolate(coarse[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    values = torch.where(known, values, guess[:, :height, :width])
    for _ in range(RELAXATIONS):
        wide = F.pad(values[None], (1, 1, 1, 1), mode="replicate")[0]
        mean = (wide[:, 1:-1, 2:] + wide[:, 1:-1, :-2] + wide[:, 2:, 1:-1] + wide[:, :-2, 1:-1]) / 4
        values = torch.where(known, values, mean)
    return values


def pixel_mask(
    grid: Grid, outcomes: Mapping[int, Outcome], synthesis: Network, part: Box | None = None
) -> npt.NDArray[np.uint8]:
    """uint8 (H, W) of Mask values, of the picture or a part of its pixels."""
    part = part or grid.pixels
    mask = np.full((part.height, part.width), Mask.EXACT, np.uint8)
    values = {
        Outcome.REPAIRED: Mask.REPAIRED,
        Outcome.UNPROVEN: Mask.UNPROVEN,
        Outcome.CONCEALED: Mask.CONCEALED,
        Outcome.MISSING: Mask.MISSING,
    }
    marked = {index: values[outcome] for index, outcome in outcomes.items() if outcome in values}
    if not marked:
        return mask

    def mark(box: Box, value: Mask) -> None:
        inside = box.clipped(part)
        # A box outside the part is clipped to one of negative sides.
        if inside.height > 0 and inside.width > 0:
            mask[inside.relative_to(part).slices()] = value

    before, after = synthesis_reach(synthesis)
    lost = {index: value for index, value in marked.items() if value != Mask.REPAIRED}
    for index in marked.keys() - lost.keys():
        # As good as undamaged: what it reaches is not touched by a loss, but a loss may reach it.
        mark(grid.pixel_box(index), Mask.REPAIRED)
    for index in lost:
        # The padding's pixels take part: a tile's latents cover them too.
        mark(grid.latent_box(index).scaled(grid.stride).grown(before, after, grid.pixels), Mask.TOUCHED)
    for index, value in lost.items():
        mark(grid.pixel_box(index), value)
    return mask
