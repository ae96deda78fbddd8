"""From entropy parameters to CDF rows and means (spec/format.md, section 15.2).

                                 ┌──────────────────────┐
              ┌───────┐  scales  │ how many thresholds  │
              │       ├────►─────┤ lie below each?      ├──►── rows ──►─┐
    known ──►─┤network│          └──────────────────────┘               ├──►── a step of the walk
              │       ├────►────────────────────────────────── means ──►┘
              └───────┘

A row is the CDF table of one scale. It is chosen by comparing integers, so every machine chooses the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robuststream.networks.fixedpoint import ONE
from robuststream.priors.gain import Gain
from robuststream.priors.quantiser import Quantiser
from robuststream.priors.walk import WHOLE, Runner, Select, Walk

SCALES, MEANS = "scales", "means"
#: The orders in which a network may give its outputs, named as in CompressAI's GaussianConditionalLatentCodec.
CHUNKS = ((SCALES, MEANS), (MEANS, SCALES), (SCALES,))


@dataclass(frozen=True)
class Parameters:
    """What elements are coded with: tensors of one shape. They are coded in the order in which they lie in memory."""

    rows: Tensor
    means: Tensor
    scales: Tensor
    gaussian: Gaussian

    def rearranged(self, move: Callable[[Tensor], Tensor]) -> Parameters:
        return Parameters(move(self.rows), move(self.means), move(self.scales), self.gaussian)

    def code(self, walk: Walk, part: Select) -> Tensor:
        """Take a step of y with these parameters."""

        def doubts(tolerance: float) -> Tensor:
            return self.gaussian.doubtful(self.scales, self.rows, tolerance).reshape(self.rows.shape[0], -1)

        return walk.code("y", part, self.rows, self.means, doubts, self.gaussian.quantiser, by_scale=True)


class Gaussian:
    """Scales pick rows of the Gaussian CDF tables; means shift them.

    Args:
        thresholds: int32 (L - 1,) at 2^-12: row k is for scales in (k-1-th, k-th].
        chunks: one of CHUNKS.
        network: entropy parameters from what is known, or None where what is known is scales and means already.
        gain: of the quality index, in models of variable rate.
    """

    def __init__(
        self, thresholds: Tensor, chunks: Sequence[str], network: Runner | None = None, gain: Gain | None = None
    ) -> None:
        self._thresholds = thresholds.double()
        self._chunks = tuple(chunks)
        self._network = network
        self._gain = gain
        self.quantiser: Quantiser = WHOLE if gain is None else gain.quantiser
        self.rows = len(thresholds) + 1

    def __call__(self, known: Tensor) -> Parameters:
        """(B, P, ...) to the parameters of (B, C, ...)."""
        values = known if self._network is None else self._network(known)
        parts = dict(zip(self._chunks, values.chunk(len(self._chunks), dim=1), strict=True))
        scales, means = parts[SCALES], parts.get(MEANS)
        if self._gain is not None:
            scales = self._gain.scales(scales)
        rows = self.indexes(scales)
        return Parameters(rows, torch.zeros_like(scales) if means is None else means, scales, self)

    def doubtful(self, scales: Tensor, rows: Tensor, tolerance: float) -> Tensor:
        """The other row that an element may have had, where its scale is so near a threshold; elsewhere its own.

        Args:
            tolerance: how near, as a share of the scale, or of 1 / 8 for smaller ones.
        """
        slack = tolerance * scales.abs().clamp(min=ONE / 8)
        below, above = self.indexes(scales - slack), self.indexes(scales + slack)
        return torch.where(below < rows, below, above)

    def indexes(self, scales: Tensor) -> Tensor:
        """How many thresholds lie below each scale: CompressAI's `build_indexes`, on integers."""
        return torch.bucketize(scales.contiguous(), self._thresholds)
