"""From entropy parameters to CDF rows and means (spec/format.md, section 15.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robuststream.networks.fixedpoint import ONE

#: An exact network, or a native one: integers (or real numbers) in units of 2^-12 to the same, float64.
Runner = Callable[[Tensor], Tensor]

#: Given a tolerance, the CDF rows that elements might have had at the encoder (priors/repair.py).
Doubts = Callable[[float], Tensor]

SCALES, MEANS = "scales", "means"
#: The orders in which a network may give its outputs, named as in CompressAI's GaussianConditionalLatentCodec.
CHUNKS = ((SCALES, MEANS), (MEANS, SCALES), (SCALES,))


class Gaussian:
    """Scales pick rows of the Gaussian CDF tables; means shift them.

    Args:
        thresholds: int32 (L - 1,) at 2^-12: row k is for scales in (k-1-th, k-th].
        chunks: one of CHUNKS.
        network: entropy parameters from what is known, or None where that is already all.
    """

    def __init__(self, thresholds: Tensor, chunks: Sequence[str], network: Runner | None = None) -> None:
        self._thresholds = thresholds.double()
        self._chunks = tuple(chunks)
        self._network = network
        self.rows = len(thresholds) + 1

    def __call__(self, known: Tensor) -> tuple[Tensor, Tensor, Doubts]:
        """(B, P, ...) to rows and means, both (B, C, ...), and what else the rows may be."""
        values = known if self._network is None else self._network(known)
        parts = dict(zip(self._chunks, values.chunk(len(self._chunks), dim=1), strict=True))
        scales, means = parts[SCALES], parts.get(MEANS, torch.zeros((), dtype=torch.float64))
        rows = self.indexes(scales)
        return rows, means, lambda tolerance: self._doubtful(scales, rows, tolerance)

    def _doubtful(self, scales: Tensor, rows: Tensor, tolerance: float) -> Tensor:
        """The other row of each element whose scale is that near a threshold, relative to it or to 1; else its own."""
        slack = tolerance * scales.abs().clamp(min=ONE)
        below, above = self.indexes(scales - slack), self.indexes(scales + slack)
        return torch.where(below < rows, below, above)

    def indexes(self, scales: Tensor) -> Tensor:
        """How many thresholds lie below each scale: CompressAI's `build_indexes`, on integers."""
        return torch.bucketize(scales.contiguous(), self._thresholds)
