"""Models with context: their speed against CompressAI's, their exactness, and what exactness costs them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cross_machine
import numpy as np
import torch
from compressai import models

import robuststream as rs
from bars import small
from bars.common import ROOT, Figure, interleaved, photo_paths, pixels_of
from robuststream.container.packets import Mode
from robuststream.latents import decode_latents, encode_latents
from robuststream.model.anatomy import ARCHITECTURES
from robuststream.picture.grid import Grid
from robuststream.picture.io import read_picture
from robuststream.picture.transforms import analyse, synthesise
from robuststream.transfers.reading import read_stream

SMALL = ROOT / ".training" / "small"
TRAINED = ("mbt2018", "cheng2020-attn", "cheng2020-anchor-checkerboard", "elic2022-official")


@torch.no_grad()
def context_speed(photos: Path) -> list[Figure]:
    """Whole codec at 768x512, tile 256, of the models at their zoo's sizes, random weights."""
    pixels = next(p for p in map(pixels_of, photo_paths(photos)) if p.shape == (512, 768, 3))
    figures = []
    for name, sizes, runs in (
        ("mbt2018", {"N": 192, "M": 192}, 3),
        ("cheng2020-attn", {"N": 192}, 2),
        ("elic2022-official", {"N": 192, "M": 320}, 5),
    ):
        torch.manual_seed(1)
        net: Any = getattr(models, ARCHITECTURES[name][0])(**sizes).eval()
        net.update()
        figures += _times(name, net, pixels, runs)
    return figures


def _times(name: str, net: Any, pixels: np.ndarray, runs: int) -> list[Figure]:
    model = rs.freeze(net)
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    out, data = net.compress(x), rs.encode(pixels, model)
    stream = read_stream(data)
    grid = Grid.of(stream.header, model.latent_stride, model.factor)
    latents = decode_latents(stream, model, grid).latents
    encode, compress, decode, decompress, entropy, synthesis, theirs = interleaved(
        runs,
        lambda: rs.encode(pixels, model),
        lambda: net.compress(x),
        lambda: rs.decode(data, model),
        lambda: net.decompress(out["strings"], out["shape"]),
        lambda: decode_latents(stream, model, grid),
        lambda: synthesise(latents, model, grid),
        lambda: net.g_s(latents[None].float() / 4096),
    )
    stage, whole, coding = (decompress - theirs) / entropy, decompress / decode, compress / encode
    seconds = ", ".join(f"{value:.2f}" for value in (encode, compress, decode, decompress, entropy, synthesis))
    figures = [Figure(f"{name}: seconds: encode, compress, decode, decompress, our entropy stage, our g_s", seconds)]
    if name == "mbt2018":
        figures += [
            Figure(f"{name}: entropy stage of decode", f"{stage:.1f}x", ">= 12x", stage >= 12),
            Figure(f"{name}: whole decode", f"{whole:.1f}x", ">= 4x", whole >= 4),
            Figure(f"{name}: whole encode", f"{coding:.1f}x", ">= 2.5x", coding >= 2.5),
        ]
    elif name == "cheng2020-attn":
        figures.append(Figure(f"{name}: whole decode", f"{whole:.1f}x", ">= 2x", whole >= 2))
    else:
        time = decode / decompress
        figures.append(Figure(f"{name}: whole decode", f"{time:.2f} of its time", "<= 1.25", time <= 1.25))
    return figures


def context_exactness(photos: Path) -> list[Figure]:
    """As `exactness`, for models with context, trained for minutes or random."""
    paths = photo_paths(photos)
    figures = []
    for name in TRAINED:
        small.load(name, SMALL)  # made here, once: its children are other machines
        rows = cross_machine.matrix(paths, ["--small", name, str(SMALL)], beside=("AVX2", "SSE4.1"))
        print(f"{name}\n{cross_machine.table(rows)}", file=sys.stderr)
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
        _, model = small.load(name, SMALL)
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
