"""How many thresholds lie below a scale: CompressAI's `build_indexes`, by a kernel (spec/format.md, section 15.2).

            ┌────────────┐       ┌────────────────┐
scales ──►──┤leading bits├───►───┤ the next few   ├──►── rows
            │say about   │       │ thresholds say │
            │where       │       │ exactly        │
            └────────────┘       └────────────────┘
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from robuststream.kernels import kernel
from robuststream.workers import at_once, shares

#: A search begins by the leading bits of a float64: its exponent, and so many bits of its mantissa.
MANTISSA_BITS = 4
DROPPED = 52 - MANTISSA_BITS
#: Numbers from 1 to 2^24 differ in these; others begin with the nearest of them.
FIRST, LAST = (int(np.float64(x).view(np.int64)) >> DROPPED for x in (1, 1 << 24))
#: Scales that are worth a thread.
LEAST = 1 << 16


class Thresholds:
    """Ascending numbers.

    Args:
        thresholds: int32 (L - 1,).
    """

    def __init__(self, thresholds: Tensor) -> None:
        self._ascending = thresholds.double()
        ascending = self._ascending.numpy()
        begins = (np.arange(FIRST, LAST + 1, dtype=np.int64) << DROPPED).view(np.float64)
        #: Of each pattern of leading bits, how many thresholds lie below all numbers that begin so.
        self._counts = np.searchsorted(ascending, begins).astype(np.int32)
        # What is below 1 begins as 1 does, and may be below all thresholds.
        self._counts[0] = 0
        #: How many thresholds one pattern has at most: with CompressAI's scale table 1.
        self._steps = int(np.diff(self._counts, append=len(ascending)).max())
        #: A step behind the last threshold counts nothing.
        self._values = np.append(ascending, np.inf)

    def below(self, scales: Tensor) -> Tensor:
        """How many are less than each scale, int32 in the scales' shape. As torch.bucketize counts them, of which this
        is a sixth of the time."""
        if scales.device.type != "cpu":
            return torch.bucketize(scales.contiguous(), self._ascending.to(scales.device), out_int32=True)
        values = scales.double().contiguous().reshape(-1).numpy()
        counts = np.empty(values.shape, np.int32)

        def count(share: slice) -> None:
            part = values[share]
            _count(part, part.view(np.int64), self._values, self._counts, self._steps, counts[share])

        at_once(count, shares(len(values), len(values), LEAST))
        return torch.from_numpy(counts).reshape(scales.shape)


@kernel
def _count(values, bits, thresholds, begin, steps, counts):  # type: ignore[no-untyped-def]
    """float64 (n,), the same as int64, float64 (L,), int32 by leading bits, how often to look: fills int32 (n,)."""
    for i in range(len(values)):
        count = begin[min(max((bits[i] >> DROPPED) - FIRST, 0), len(begin) - 1)]
        # Always as often, since no processor foresees which scale needs it.
        for _ in range(steps):
            count += thresholds[count] < values[i]
        counts[i] = count
