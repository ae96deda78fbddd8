"""Factorized priors: bmshj2018-factorized and -factorized-relu (spec/format.md, section 15.1).

              rows and medians, from the model
                            │
                            ▼
           ┌───┐  symbols   │
    y ──►──┤ Q ├─────►────····────►── y_hat
           └───┘           rANS

J. Ballé, D. Minnen, S. Singh, S. J. Hwang, N. Johnston, "Variational image compression with a scale hyperprior",
arXiv:1802.01436.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from robuststream.priors.walk import Walk, everything, integers


class Factorized:
    """Each channel of y has a CDF row and a median of its own, whatever the picture. There is no z.

    Args:
        medians: int32 (M,) at 2^-12.
    """

    hyper_factor = 1
    has_z = False

    def __init__(self, medians: Tensor) -> None:
        self._medians = medians

    def analyse(self, y: Tensor) -> Mapping[str, Tensor]:
        return {"y": y}

    def walk(self, walk: Walk, height: int, width: int) -> Tensor:
        rows, medians = channel_rows(self._medians, 0, walk.tiles, height, width)
        return integers(walk.code("y", everything, rows, medians))

    def steps(self, height: int, width: int) -> int:
        return 1


def channel_rows(medians: Tensor, first_row: int, tiles: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows and medians of an entropy bottleneck, both (T, C, h, w): channel c uses row first_row + c."""
    shape = (tiles, len(medians), height, width)
    rows = torch.arange(first_row, first_row + len(medians), device="cpu")[None, :, None, None].expand(shape)
    return rows, medians[None, :, None, None].expand(shape)
