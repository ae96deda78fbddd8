"""Small models and pictures: the real architectures with few channels, random weights that spread over the tables."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from compressai import models

import robuststream as rs
from robuststream.architectures import ARCHITECTURES, dissect

SAMPLE = "robuststream/samples/dog.png"


#: Architectures whose g_s reaches so far that small pictures are one neighbourhood.
WIDE = (
    "cheng2020-anchor",
    "cheng2020-attn",
    "cheng2020-anchor-checkerboard",
    "elic2022-official",
    "elic2022-chandelier",
)
GROUPS = [2, 2, 3, 5]


@lru_cache
def net(architecture: str, n: int = 8, m: int = 12) -> Any:
    torch.manual_seed(5)
    cls = getattr(models, ARCHITECTURES[architecture][0])
    if architecture.startswith("elic"):
        made = cls(n, m, [*GROUPS[:-1], m - sum(GROUPS[:-1])]).eval()
    else:
        more = {"vr_entbttlnck": True} if architecture == "mbt2018-mean-vbr" else {}
        made = (cls(n) if architecture.startswith("cheng") else cls(n, m, **more)).eval()
    anatomy = dissect(made)
    with torch.no_grad():
        _last(made.g_a).weight *= 30
        if anatomy.hyper is not None:
            _last(anatomy.hyper[0]).weight *= 20
            last = _last(anatomy.hyper[1])
            last.weight *= 10
            # Random entropy parameters of many layers are near 0: spread them over the tables.
            for name, module in anatomy.networks.items():
                _last(module).weight *= 12 if name.endswith("entropy_parameters") else 4
                if name.endswith("entropy_parameters"):
                    _last(module).bias += 2 * torch.rand(len(_last(module).bias))
        if hasattr(made, "Gain"):
            made.QuantABCD[-1].weight *= 0.5
            made.QuantABCD[-1].bias += 0.1
            if hasattr(made, "gayn2zqstep"):
                made.gayn2zqstep[-2].bias += 1
        medians = anatomy.bottleneck.quantiles
        medians += torch.rand(medians.shape[0], 1, 1) - 0.5
    made.update()
    return made


def _last(module: Any) -> Any:
    return [layer for layer in module.modules() if isinstance(layer, (torch.nn.Conv2d, torch.nn.ConvTranspose2d))][-1]


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
