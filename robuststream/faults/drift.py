"""Entropy networks that are a little off, as another machine's kernels compute them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from robuststream.faults.chance import generator

if TYPE_CHECKING:
    from torch import Tensor

    from robuststream.model.frozen import Model
    from robuststream.priors.walk import Runner


def drifted(model: Model, *, relative: float, seed: int) -> Model:
    """The model with native networks that drift: each value v becomes v (1 + relative u), u uniform in [-1, 1).

    It stands for another machine: u depends on the seed, the network and its whole input, so the same input gives the
    same output whenever it comes; other tiles in a batch, or another seed, give other drift. Digests are the model's,
    so that streams of one decode with the other. Exact mode does not drift, nor do the analysis and synthesis
    transforms, nor priors without networks (bmshj2018-factorized). `model` itself is not changed.

    Args:
        relative: the largest drift, as a share of each value; float32 kernels differ by about 1e-6.

    Raises:
        ValueError: a drift that is negative or not finite, or a negative seed.
    """
    if not 0 <= relative < float("inf"):
        raise ValueError(f"a relative drift of {relative} is not possible: give a number from 0 on")
    generator(seed)

    from robuststream.model.frozen import Model

    return Model(model.parts, model.device, Drift(relative, seed))


@dataclass(frozen=True)
class Drift:
    """Puts drift behind a network."""

    relative: float
    seed: int

    def __call__(self, name: str, run: Runner) -> Runner:
        import torch

        def drifting(x: Tensor) -> Tensor:
            values = run(x)
            # No state that calls share: threads may, and what was decoded before does not matter.
            random = np.random.default_rng([self.seed, crc32(x.numpy().tobytes(), crc32(name.encode()))])
            return values * (1 + self.relative * torch.from_numpy(random.uniform(-1, 1, values.shape)))

        return drifting
