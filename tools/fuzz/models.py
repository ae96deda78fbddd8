"""The test vectors' tiny models, and streams of pictures of four tiles or six coded with them."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from vectors.models import make

import robuststream as rs
from robuststream.model.frozen import Model

TILE = 8
NAMES = ("mean-scale-hyperprior", "factorized", "channel-groups", "variable-rate")

torch.set_num_threads(1)


@cache
def models() -> tuple[Model, ...]:
    return tuple(map(make, NAMES))


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), np.uint8)


@cache
def coded() -> tuple[tuple[int, bytes], ...]:
    """Streams, and the number of the model of each."""
    made = []
    for number, model in enumerate(models()):
        made.append((number, rs.encode(picture(16, 12, number), model, tile=TILE)))
        made.append((number, rs.encode(picture(9, 20, number), model, tile=TILE, mode="native")))
    made.append((0, rs.encode(picture(16, 16)[:, :, 0], models()[0], tile=TILE)))
    made.append((0, rs.encode(picture(16, 12, 7), models()[0], tile=TILE, parity=1.0)))
    return tuple(made)
