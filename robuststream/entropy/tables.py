"""CDF tables: the probabilities the rANS coder works with (spec/format.md, section 12)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from robuststream.errors import UnsupportedModel

Int32Array = npt.NDArray[np.int32]

PRECISION = 16
#: The quickest way into a row: the symbol at which the search begins, for the top 8 bits of the slot.
LOOKUP_BITS = 8
MAX_ROWS = 1 << 16
MAX_OFFSET = 1 << 13


@dataclass(frozen=True, eq=False)
class CdfTables:
    """Rows of cumulative frequencies, one after another.

    A row of length n holds n values from 0 to 2^16, strictly increasing: n - 2 regular symbols, then the escape symbol
    after which a value is coded in bypass digits. Row r's symbol s stands for the value s + offsets[r].

    Attributes:
        cdf: int32 (sum of lengths,), the rows joined.
        lengths: int32 (R,).
        offsets: int32 (R,).
    """

    cdf: Int32Array
    lengths: Int32Array
    offsets: Int32Array

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise UnsupportedModel(f"the CDF tables are not valid: {problem}")

    def _problem(self) -> str | None:
        for name in ("cdf", "lengths", "offsets"):
            array = getattr(self, name)
            if array.dtype != np.int32 or array.ndim != 1:
                return f"{name}: {array.dtype} with {array.ndim} dimensions, where int32 with one dimension is needed"
        if not 0 < len(self.lengths) == len(self.offsets) <= MAX_ROWS:
            return f"{len(self.lengths)} lengths, {len(self.offsets)} offsets"
        if self.lengths.min() < 3 or int(self.lengths.sum(dtype=np.int64)) != len(self.cdf):
            return "lengths below 3, or their sum is not the number of values"
        if np.abs(self.offsets.astype(np.int64)).max() > MAX_OFFSET:
            return f"an offset beyond {MAX_OFFSET}"
        ends = self.starts + self.lengths - 1
        if self.cdf[self.starts].any() or (self.cdf[ends] != 1 << PRECISION).any():
            return "a row does not go from 0 to 2^16"
        # Not by a difference, which can overflow.
        rises = self.cdf[1:] > self.cdf[:-1]
        rises[ends[:-1]] = True
        if not rises.all():
            return "a row does not rise at every step"
        return None

    @classmethod
    def from_padded(cls, cdf: Int32Array, lengths: Int32Array, offsets: Int32Array) -> CdfTables:
        """From CompressAI's form: cdf (R, L), of which row r uses the first lengths[r] values."""
        rows = [row[:length] for row, length in zip(cdf, lengths, strict=True)]
        return cls(np.concatenate(rows).astype(np.int32), lengths.astype(np.int32), offsets.astype(np.int32))

    def joined(self, other: CdfTables) -> CdfTables:
        """These rows, then `other`'s."""
        pairs = ((self.cdf, other.cdf), (self.lengths, other.lengths), (self.offsets, other.offsets))
        return CdfTables(*(np.concatenate(pair) for pair in pairs))

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """int64 (R,): where each row begins in `cdf`."""
        return np.concatenate(([0], np.cumsum(self.lengths, dtype=np.int64)[:-1]))

    @cached_property
    def lookup(self) -> npt.NDArray[np.uint16]:
        """uint16 (R, 256): the symbol whose interval holds slot v << 8."""
        slots = np.arange(1 << LOOKUP_BITS) << PRECISION - LOOKUP_BITS
        rows = [self.cdf[start : start + length] for start, length in zip(self.starts, self.lengths, strict=True)]
        found: npt.NDArray[np.int64] = np.stack([np.searchsorted(row, slots, side="right") - 1 for row in rows])
        return found.astype(np.uint16)

    @cached_property
    def reciprocals(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """For each value of `cdf` that begins an interval of frequency f > 1: r and s, both uint64, such that
        x // f == (x * r >> 64) >> s for every x below 2^63.

        R. Alverson, "Integer division using reciprocals", ARITH 1991: with 2^(s+1) the first power of two not below f,
        r = ceil(2^(s+64) / f).
        """
        reciprocals = np.zeros(len(self.cdf), np.uint64)
        shifts = np.zeros(len(self.cdf), np.uint64)
        for entry, frequency in enumerate(np.diff(self.cdf).tolist()):
            if frequency > 1:
                shift = (frequency - 1).bit_length() - 1
                reciprocals[entry] = -(-(1 << shift + 64) // frequency)
                shifts[entry] = shift
        return reciprocals, shifts
