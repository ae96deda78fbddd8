"""Pixels to latents and back, in windows, and pixels to bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robuststream.kernels import kernel
from robuststream.model.frozen import Model
from robuststream.networks.fixedpoint import ONE
from robuststream.picture.grid import Grid
from robuststream.picture.windows import analysis_halo, synthesis_halo, windows
from robuststream.workers import at_once, shares

#: Values of pixels that are worth a thread.
LEAST = 1 << 18


def analyse(pixels: Tensor, model: Model, grid: Grid) -> Tensor:
    """The latents y, float32 (M, h, w), of pixels (3, H, W), padded by repeating the last row and column."""
    latents = grid.latents
    y = torch.empty((model.channels, latents.height, latents.width), dtype=torch.float32, device="cpu")
    halo = analysis_halo(model.analysis.network)
    for window in windows(latents):
        wide = window.grown(halo, halo, latents)
        box = wide.scaled(grid.stride)
        rows = torch.arange(box.top, box.bottom, device=pixels.device).clamp(max=grid.height - 1)
        columns = torch.arange(box.left, box.right, device=pixels.device).clamp(max=grid.width - 1)
        piece = pixels[:, rows][:, :, columns].unsqueeze(0)
        piece = piece.float() / 255 if piece.dtype == torch.uint8 else piece.float()
        y[(slice(None), *window.slices())] = model.analysis(piece)[0][
            (slice(None), *window.relative_to(wide).slices())
        ].cpu()
    return y


def synthesise(latents: Tensor, model: Model, grid: Grid) -> Tensor:
    """Pixels, float32 (3, H, W) in [0, 1] on the model's device, of latents, int32 (M, h, w) at 2^-12; the padding is
    cut off."""
    tensor = torch.empty((3, grid.height, grid.width), dtype=torch.float32, device=model.device)
    halo = synthesis_halo(model.synthesis.network)
    for window in windows(grid.latents):
        target = window.scaled(grid.stride).clipped(grid.pixels)
        wide = window.grown(halo, halo, grid.latents)
        piece = latents[(slice(None), *wide.slices())].to(model.device).float() / ONE
        pixels = model.synthesis(piece.unsqueeze(0))[0]
        source = target.relative_to(wide.scaled(grid.stride))
        tensor[(slice(None), *target.slices())] = pixels[(slice(None), *source.slices())].clamp(0, 1)
    return tensor


def to_bytes(tensor: Tensor) -> npt.NDArray[np.uint8]:
    """float (3, H, W) in [0, 1] to uint8 (H, W, 3)."""
    planes = tensor.float().cpu().contiguous().numpy()
    pixels = np.empty((*planes.shape[1:], 3), np.uint8)

    def round_rows(share: slice) -> None:
        _round(planes, share.start, share.stop, pixels)

    at_once(round_rows, shares(len(pixels), planes.size, LEAST))
    return pixels


@kernel
def _round(planes, top, bottom, pixels):  # type: ignore[no-untyped-def]
    """Some rows of float32 (3, H, W) in [0, 1] to uint8 (H, W, 3), halves to the even number, as torch rounds."""
    for row in range(top, bottom):
        for column in range(planes.shape[2]):
            for channel in range(3):  # a constant, so that a processor's wide registers are used
                value = np.rint(planes[channel, row, column] * np.float32(255))
                pixels[row, column, channel] = np.uint8(value)
