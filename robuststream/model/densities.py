"""CDF tables from what CompressAI's entropy models learnt, as its `update` builds them, but the same on every machine
(spec/model.md, section 9).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robuststream.entropy.tables import MAX_OFFSET, PRECISION, CdfTables
from robuststream.errors import UnsupportedModel
from robuststream.model import reals
from robuststream.model.reals import BITS, LN2, ONE, Reals
from robuststream.networks.fixedpoint import FRACTION_BITS

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

#: CompressAI's scale table: so many scales, evenly from 0.11 to 256 on a logarithmic axis.
SCALES = 64


def scale_table(levels: int = SCALES) -> Tensor:
    """CompressAI's `get_scale_table`, float32 (levels,)."""
    ratio = 12 * LN2 - reals.log(reals.quotient(np.array([176], object), np.array([100], object)))  # ln(256 / 0.11)
    steps = np.arange(levels - 1, -1, -1).astype(object)
    return torch.from_numpy(reals.nearest_float(256 * reals.decay(ratio * steps // (levels - 1))))


# --- Gaussians -----------------------------------------------------------------------------------------------------


def gaussian_tables(scales: Tensor, tail_mass: float) -> CdfTables:
    """A row for each scale of a GaussianConditional.

    Args:
        scales: float32 (L,), above 0.
        tail_mass: what a row leaves to the escape, about.

    Raises:
        UnsupportedModel: a row would be longer than tables may be.
    """
    return _gaussian_tables(scales.numpy().tobytes(), tail_mass)


@lru_cache(maxsize=4)  # most models have the same
def _gaussian_tables(scale_bytes: bytes, tail_mass: float) -> CdfTables:
    scales = np.frombuffer(scale_bytes, np.float32)
    centres = np.ceil(scales * _reach(tail_mass)).astype(np.int64)
    if centres.max() > MAX_OFFSET:
        raise UnsupportedModel(f"a scale of {scales.max():g} needs a row of more than {MAX_OFFSET} values")
    # Up to the upper edge of each value from 0 to the row's centre; those below 0 mirror them.
    sizes = centres + 1
    edges = ((2 * _counted(sizes).astype(object) + 1) << 2 * BITS - 1) // np.repeat(reals.fixed(scales), sizes)
    rows = []
    for up_to in _cut(reals.normal(edges), sizes):
        upper = np.diff(up_to)
        rows.append(np.concatenate((upper[::-1], [2 * up_to[0]], upper, [ONE - 2 * up_to[-1]])))
    return _tables(rows, -centres)


def _reach(tail_mass: float) -> np.float32:
    """How many times its scale a Gaussian row reaches: where no more than the tail's mass lies farther out."""
    allowed = int(reals.fixed(tail_mass)[()])
    low, high = 0, reals.FARTHEST
    while low < high:
        middle = (low + high) // 2
        if ONE - 2 * int(reals.normal(np.array([middle], object))[0]) <= allowed:
            high = middle
        else:
            low = middle + 1
    return np.float32(high / ONE)


# --- The entropy bottleneck ----------------------------------------------------------------------------------------


def bottleneck_tables(bottleneck: Any, step: int = 1 << FRACTION_BITS) -> CdfTables:
    """A row for each channel.

    Args:
        bottleneck: CompressAI's EntropyBottleneck or EntropyBottleneckVbr; its parameters are finite, and its quantiles
            at most 2^13 steps from its medians.
        step: the quantisation step, at 2^-12.

    Raises:
        UnsupportedModel: a row has no probability at all.
    """
    quantiles = _floats(bottleneck.quantiles)[:, 0]
    medians, size = quantiles[:, 1], np.float32(step / (1 << FRACTION_BITS))
    minima, maxima = (
        np.maximum(np.ceil(distances / size).astype(np.int64), 0)
        for distances in (medians - quantiles[:, 0], quantiles[:, 2] - medians)
    )
    lengths = minima + maxima + 1
    # The lower edge of each value, the upper edge of the last; and that of the longest row, where CompressAI lets the
    # upper tail of each row begin.
    sizes = lengths + 2
    channels, positions = np.repeat(np.arange(len(sizes)), sizes), _counted(sizes)
    positions[np.cumsum(sizes) - 1] = lengths.max()
    halves = (2 * (positions - minima[channels]) - 1).astype(object)
    edges = reals.fixed(medians)[channels] + halves * (step << BITS - FRACTION_BITS - 1)
    rows = []
    for below in _cut(reals.sigmoid(_logits(bottleneck, channels, edges)), sizes):
        rows.append(np.append(np.diff(below[:-1]), below[0] + ONE - below[-1]))
    return _tables(rows, -minima)


def _logits(bottleneck: Any, channels: Integers, x: Reals) -> Reals:
    """The cumulative's logits, as EntropyBottleneck has them: J. Ballé, D. Minnen, S. Singh, S. J. Hwang, N. Johnston,
    "Variational image compression with a scale hyperprior", arXiv:1802.01436, appendix 6.1.
    """
    layers = len(bottleneck.filters) + 1
    values = x[:, None, None]
    for layer in range(layers):
        weights = reals.softplus(_parameter(bottleneck, "matrices", "matrix", layer))
        biases = _parameter(bottleneck, "biases", "bias", layer)
        values = (weights[channels] @ values >> BITS) + biases[channels]
        if layer < layers - 1:
            factors = reals.tanh(_parameter(bottleneck, "factors", "factor", layer))
            values = values + reals.product(factors[channels], reals.tanh(values))
    return values[:, 0, 0]


def _parameter(bottleneck: Any, plural: str, singular: str, layer: int) -> Reals:
    """Releases of CompressAI name them differently, and so do its classes."""
    parameters = dict(bottleneck.named_parameters())
    for name in (f"{plural}.{layer}", f"_{singular}{layer}"):
        if name in parameters:
            return reals.fixed(_floats(parameters[name]))
    raise UnsupportedModel(f"a {type(bottleneck).__name__} without {plural} cannot be given tables")


def _floats(tensor: Tensor) -> Floats:
    floats: Floats = tensor.detach().numpy()
    return floats


# --- Rows ----------------------------------------------------------------------------------------------------------


def _counted(sizes: Integers) -> Integers:
    """0 to n - 1 for each n of `sizes`, one after the other."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _cut(values: Reals, sizes: Integers) -> list[Reals]:
    return np.split(values, np.cumsum(sizes)[:-1])


def _tables(rows: Iterable[Reals], offsets: Integers) -> CdfTables:
    """From each row's probabilities, the escape's last."""
    cdfs = [np.append(0, np.cumsum(_frequencies(row))) for row in rows]
    lengths = np.array([len(cdf) for cdf in cdfs], np.int32)
    return CdfTables(np.concatenate(cdfs).astype(np.int32), lengths, offsets.astype(np.int32))


def _frequencies(probabilities: Reals) -> Integers:
    """int64, at least 1 each, that sum to 2^16: as CompressAI's `pmf_to_quantized_cdf` (after F. Giesen's ryg_rans)."""
    half = 1 << BITS - PRECISION - 1
    counts = (np.maximum(probabilities, 0) + half >> BITS - PRECISION).astype(np.int64)
    if not counts.any():
        raise UnsupportedModel("a row's values have no probability")
    frequencies: Integers = (counts << PRECISION) // counts.sum()
    frequencies[-1] += (1 << PRECISION) - frequencies.sum()
    for value in np.flatnonzero(frequencies == 0):
        # From the rarest of those that have more than one to give.
        giver = np.argmin(np.where(frequencies > 1, frequencies, 2 << PRECISION))
        frequencies[giver] -= 1
        frequencies[value] += 1
    return frequencies
