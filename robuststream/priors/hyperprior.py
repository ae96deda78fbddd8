"""Hyperpriors: bmshj2018-hyperprior and mbt2018-mean (spec/format.md, section 15.2).

J. Ballé et al., arXiv:1802.01436 (scales); D. Minnen, J. Ballé, G. Toderici, arXiv:1809.02736 (scales and means).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from robuststream.networks.exact import ExactNetwork
from robuststream.networks.floating import FloatingNetwork
from robuststream.priors.factorized import channel_rows
from robuststream.priors.walk import Walk, everything


class Hyperprior:
    """z first, by the entropy bottleneck; then y with a scale, and perhaps a mean, for each element from z.

    Args:
        hyper_analysis: h_a, used by encoders only.
        hyper_synthesis: h_s; its output is scales and then means along the channels, or scales only.
        medians: int32 (N,) at 2^-12, of z.
        thresholds: int32 (L - 1,) at 2^-12: row k of the Gaussian tables is for scales in (k-1-th, k-th].
        means: whether h_s yields means.
    """

    checkpoints = 1

    def __init__(
        self,
        hyper_analysis: FloatingNetwork,
        hyper_synthesis: ExactNetwork,
        medians: Tensor,
        thresholds: Tensor,
        means: bool,
    ) -> None:
        self._hyper_analysis = hyper_analysis
        self._hyper_synthesis = hyper_synthesis
        self._medians = medians
        self._thresholds = thresholds.double()
        self._means = means
        self.hyper_factor = hyper_synthesis.network.scale[0]

    def analyse(self, y: Tensor) -> Mapping[str, Tensor]:
        return {"y": y.cpu(), "z": self._hyper_analysis(y).cpu()}

    def walk(self, walk: Walk, height: int, width: int) -> Tensor:
        gaussian_rows = len(self._thresholds) + 1
        factor = self.hyper_factor
        rows, medians = channel_rows(self._medians, gaussian_rows, walk.tiles, height // factor, width // factor)
        z_hat = walk.code("z", everything, rows, medians)
        walk.checkpoint()
        scales = self._hyper_synthesis(z_hat)
        means = torch.zeros((), dtype=torch.float64)
        if self._means:
            scales, means = scales.chunk(2, dim=1)
        return walk.code("y", everything, self.indexes(scales), means)

    def indexes(self, scales: Tensor) -> Tensor:
        """How many thresholds lie below each scale: CompressAI's `build_indexes`, on integers."""
        return torch.bucketize(scales.contiguous(), self._thresholds)
