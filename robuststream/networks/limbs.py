"""A convolution in int8 limbs on a CPU: what surrounds torch._int_mm, compiled, so that no value is touched twice.

    values ──►── limbs ──►── columns ──►── torch._int_mm ──►── joined, biased, rounded ──►── values
            once a layer    once a band of outputs

The same as engines.Int8 with integers.py around it, which is plainer, runs on every device, and passes over memory
a dozen times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robuststream.kernels import kernel
from robuststream.networks.engines import ENGINES, banded, bands_of
from robuststream.networks.graph import Layer
from robuststream.networks.phases import Phases
from robuststream.workers import at_once, shares

INT8 = ENGINES["int8"]
#: Elements that are worth a thread of their own.
LEAST = 1 << 15
Pair = tuple[int, int]


class LimbConvolution:
    """A convolution of int32 values (B, H, W, C).

    Args:
        phases: of the layer.
        limit: at which outputs saturate.
        slope: of the activation that follows, at 2^-16: 0 for a ReLU, 65536 for none.
    """

    def __init__(self, phases: Phases, layer: Layer, limit: int, slope: int) -> None:
        self._phases = phases
        self._weights = [INT8.prepare(phase.weight, torch.device("cpu")) for phase in phases.phases]
        self._taps = [np.array(phase.taps, np.int64) for phase in phases.phases]
        self._shift = layer.tensors["shift"].numpy().astype(np.int64)
        # With half of what a shift drops: shifted, the sum is rounded.
        self._bias = layer.tensors["bias"].numpy() + (1 << self._shift - 1)
        self._limit, self._slope = limit, slope

    def __call__(self, x: Tensor) -> Tensor:
        phases = self._phases
        batch, height, width, channels = x.shape
        above, below, left, right = phases.margins
        limbs = np.zeros((3, batch, height + above + below, width + left + right, channels), np.int8)
        counts = np.ones(limbs.shape[1:3], np.int8)
        values = x.numpy()
        _in_threads(height, x.numel(), lambda first, last: split(values, limbs, counts, first, last, above, left))
        rows, columns = phases.size(height, width)
        out = np.empty((batch, rows * phases.up, columns * phases.up, len(self._bias)), np.int32)
        for number, phase in enumerate(phases.phases):
            taps = self._taps[number] + np.array((above, left))
            most = self._most(number)
            last = 0
            while last < batch * rows * columns:
                first, (last, count) = last, band(counts, taps, phases.step, rows, columns, last, most)
                self._band(number, limbs, count, taps, (rows, columns), (first, last), (phase.row, phase.column), out)
        return torch.from_numpy(out)

    def _most(self, number: int) -> int:
        """Rows of a phase's products."""
        inner, outputs = self._weights[number].shape
        return bands_of(inner, outputs // 2)[-1]

    def _band(
        self, number: int, limbs: Any, count: int, taps: Any, size: Pair, outputs: Pair, place: Pair, out: Any
    ) -> None:
        """Some outputs of a phase."""
        weight, step, up = self._weights[number], self._phases.step, self._phases.up
        begin, together, most = outputs[0], outputs[1] - outputs[0], self._most(number)
        # What is made up to a band, or to a multiple of 8 columns, meets no output that is kept.
        matrix = torch.zeros((banded(count * together, most), weight.shape[0]), dtype=torch.int8, device="cpu")
        columns = matrix.numpy()
        _in_threads(
            together,
            count * together * len(weight),
            lambda first, last: gather(limbs, count, taps, step, *size, begin, together, first, last, columns),
        )
        product = torch._int_mm(matrix, weight).numpy()
        terms = self._bias, self._shift, self._limit, self._slope
        _in_threads(
            together,
            count * product.size // 4,
            lambda first, last: finish(product, count, *terms, *size, begin, together, first, last, *place, up, out),
        )


def _in_threads(items: int, work: int, call: Callable[[int, int], None]) -> None:
    """Call with the first and last of each share."""
    parts = shares(items, work, LEAST)
    if len(parts) == 1:
        call(0, items)
    else:
        at_once(lambda part: call(part.start, part.stop), parts)


@kernel
def split(x: Any, limbs: Any, counts: Any, first: int, last: int, top: int, left: int) -> None:
    """Limbs of rows `first` to `last` of x (B, H, W, C), the lowest first, into the middle of (3, B, H', W', C); and
    for each row (B, H') how many of them it has that are not zero."""
    for b in range(x.shape[0]):
        for r in range(first, last):
            middles, highs = 0, 0
            for q in range(x.shape[2]):
                for c in range(x.shape[3]):
                    value = x[b, r, q, c]
                    low = ((value + 128) & 255) - 128
                    rest = (value - low) >> 8
                    middle = ((rest + 128) & 255) - 128
                    high = (rest - middle) >> 8
                    limbs[0, b, r + top, q + left, c] = low
                    limbs[1, b, r + top, q + left, c] = middle
                    limbs[2, b, r + top, q + left, c] = high
                    middles |= middle
                    highs |= high
            counts[b, r + top] = 3 if highs else 2 if middles else 1


@kernel
def band(counts: Any, taps: Any, step: int, rows: int, columns: int, first: int, most: int) -> tuple[int, int]:
    """Where a band of outputs from `first` on ends, and how many limbs it needs: as many outputs as have no more than
    `most` rows of limbs together. Few values are large, so most bands need two limbs."""
    lowest, highest = taps[0, 0], taps[0, 0]
    for tap in range(len(taps)):
        lowest, highest = min(lowest, taps[tap, 0]), max(highest, taps[tap, 0])
    needed, last = 1, first
    while last < len(counts) * rows * columns:
        picture, row = divmod(last // columns, rows)
        more = needed
        for place in range(row * step + lowest, row * step + highest + 1):
            more = max(more, counts[picture, place])
        # Up to this row's end, as far as there is room.
        end = min((last // columns + 1) * columns, first + most // more)
        if end <= last or (more > needed and last > first):
            break
        needed, last = more, end
    return last, needed


@kernel
def gather(
    limbs: Any,
    count: int,
    taps: Any,
    step: int,
    rows: int,
    columns: int,
    begin: int,
    together: int,
    first: int,
    last: int,
    matrix: Any,
) -> None:
    """Columns of the outputs `first` to `last` of a band of so many `together` that begins at `begin`: those of all
    lowest limbs, then of the next, one below the other."""
    channels = limbs.shape[4]
    for limb in range(count):
        for place in range(first, last):
            picture, inside = divmod(begin + place, rows * columns)
            row, column = divmod(inside, columns)
            line = matrix[limb * together + place]
            for tap in range(len(taps)):
                seen = limbs[limb, picture, row * step + taps[tap, 0], column * step + taps[tap, 1]]
                start = tap * channels
                for c in range(channels):
                    line[start + c] = seen[c]


@kernel
def finish(
    product: Any,
    count: int,
    bias: Any,
    shift: Any,
    limit: int,
    slope: int,
    rows: int,
    columns: int,
    begin: int,
    together: int,
    first: int,
    last: int,
    phase_row: int,
    phase_column: int,
    up: int,
    out: Any,
) -> None:
    """Joins the products of outputs `first` to `last` of a band, adds the bias, shifts, saturates, applies the
    activation; into out (B, H, W, O)."""
    low = product.shape[1] // 2
    sums = np.empty(len(bias), np.int64)
    for place in range(first, last):
        picture, inside = divmod(begin + place, rows * columns)
        row, column = divmod(inside, columns)
        line = out[picture, row * up + phase_row, column * up + phase_column]
        # One short loop for each operation: so a processor does eight outputs at once.
        sums[:] = bias
        for limb in range(count):
            products = product[limb * together + place]
            for o in range(len(sums)):
                sums[o] += ((np.int64(products[o]) << 7) + products[low + o]) << (8 * limb)
        for o in range(len(sums)):
            line[o] = min(max(sums[o] >> shift[o], -limit), limit)
        if slope != 65536:
            for o in range(len(sums)):
                value = np.int64(line[o])
                line[o] = value if value >= 0 else (value * slope + 32768) >> 16
