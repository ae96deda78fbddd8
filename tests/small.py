"""Small models and pictures: the real architectures with few channels, random weights that spread over the tables."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from compressai import models

import robuststream as rs
from robuststream.freezing import ARCHITECTURES

SAMPLE = "robuststream/samples/dog.png"


@lru_cache
def net(architecture: str, n: int = 8, m: int = 12) -> Any:
    torch.manual_seed(5)
    made = getattr(models, ARCHITECTURES[architecture][0])(n, m).eval()
    with torch.no_grad():
        made.g_a[-1].weight *= 30
        if architecture in ("bmshj2018-hyperprior", "mbt2018-mean"):
            made.h_a[-1].weight *= 20
            last = made.h_s[-1] if architecture == "mbt2018-mean" else made.h_s[-2]
            last.weight *= 10
        medians = made.entropy_bottleneck.quantiles
        medians += torch.rand(medians.shape[0], 1, 1) - 0.5
    made.update()
    return made


@lru_cache
def model(architecture: str = "mbt2018-mean", n: int = 8, m: int = 12) -> rs.Model:
    return rs.freeze(net(architecture, n, m))


def picture(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Smooth colours with some noise: latents with energy in them."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / 40.0
    waves = [np.sin(rows * random.uniform(0.5, 3) + columns * random.uniform(0.5, 3) + c) for c in range(3)]
    noise = random.normal(0, 12, (height, width, 3))
    return (128 + 90 * np.stack(waves, axis=-1) + noise).clip(0, 255).astype(np.uint8)
