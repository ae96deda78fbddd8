"""Small models and pictures: the real architectures with few channels, random weights that spread over the tables."""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from compressai import models
from torch import Tensor

import robuststream as rs
from robuststream.model.anatomy import ARCHITECTURES

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from bars.small import spread

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
    spread(made)
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


@torch.no_grad()
def compressai_latents(original: Any, image: npt.NDArray[np.uint8], **more: Any) -> Tensor:
    """y_hat, float (M, h, w), as CompressAI's own compress and decompress have it."""
    seen: list[Tensor] = []
    hook = original.g_s.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    out = original.compress(x, **more)
    original.decompress(out["strings"], out["shape"], **more)
    hook.remove()
    return seen[-1][0]
