"""Models with context: their exactness, and what it costs them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from machines import tables

from bars import small
from bars.common import Figure, photo_paths
from robuststream.container.packets import Mode
from robuststream.latents import encode_latents
from robuststream.picture.grid import Grid
from robuststream.picture.io import read_picture
from robuststream.picture.transforms import analyse

TRAINED = ("mbt2018", "cheng2020-attn", "cheng2020-anchor-checkerboard", "elic2022-official")


def context_exactness(photos: Path) -> list[Figure]:
    """As `exactness`, for models with context, trained for minutes or random."""
    paths = photo_paths(photos)
    figures = []
    for name in TRAINED:
        rows = tables.matrix(paths, trained=(name, str(small.FOLDER)), beside=("AVX2", "SSE4.1"))
        print(f"{name}\n{tables.table(rows)}", file=sys.stderr)
        worst = min(row["identical"] for row in rows)
        what = f"{name}: latents identical, worst of {len(rows)} pairs"
        figures.append(Figure(what, f"{worst} of {len(paths)}", "all", worst == len(paths)))
        for key in ("compressai_broken", "native_drifted", "native_silent"):
            most = max(row.get(key, 0) for row in rows)
            holds = None if key != "native_silent" else most == 0
            figures.append(Figure(f"{name}: {key.replace('_', ' ')}, most", f"{most} of {len(paths)}", "", holds))
    return figures


@torch.no_grad()
def context_rate(photos: Path) -> list[Figure]:
    """rANS bytes with exact parameters against the same walk with float32 ones."""
    figures = []
    for name in TRAINED:
        _, model = small.load(name, small.FOLDER)
        sizes: dict[Mode, list[int]] = {mode: [] for mode in Mode}
        for path in photo_paths(photos):
            pixels = read_picture(path).pixels
            grid = Grid(pixels.shape[2], pixels.shape[1], 256, model.latent_stride, model.factor)
            y = analyse(pixels, model, grid)
            for mode in Mode:
                sizes[mode] += [len(tile.words) for tile in encode_latents(y, model, grid, mode=mode)]
        exact, native = (np.array(sizes[mode], float) for mode in (Mode.EXACT, Mode.NATIVE))
        excess = 100 * (exact.sum() / native.sum() - 1)
        # With context one symbol that rounds the other way changes all that follow: tiles differ by chance both ways.
        error = 100 * (exact - native).std() * len(exact) ** 0.5 / native.sum()
        what = f"{name}: exact against float32 bytes"
        figures.append(Figure(what, f"{excess:+.4f} +- {error:.4f} %", "<= +0.05 %", excess <= 0.05))
    return figures
