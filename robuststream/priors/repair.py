"""Digest-guided repair: which CDF rows did the encoder have? (spec/format.md, section 16)

Float parameters that differ a little give other rows only where a scale lies close to a threshold: few elements, each
with one other row. A CRC is linear over GF(2), so the flips that turn the computed digest into the stored one are the
solution of 32 linear equations, at no cost in rate.

    rows computed here ──►── digest ──►─┐
                                       xor ──►── difference = effect of row 17's flip xor effect of row 90's xor ...
    digest in the tile ─────────────►───┘
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from robuststream.checksum import crc32c, crc32c_shift

Rows = npt.NDArray[np.uint16]

#: More unknowns than this are not solved for: with 32 equations a wrong solution would become likely.
MAX_UNKNOWNS = 20
FIRST_TOLERANCE = 5e-7
#: The fewer unknowns, the surer a solution: tolerances grow slowly.
GROWTH = 1.5
LAST_TOLERANCE = 1e-3
ROW_BYTES = 2


def repaired_rows(
    rows: Rows, before: int, wanted: int, doubts: Callable[[float], npt.NDArray[np.int64]]
) -> Rows | None:
    """The rows whose digest is the stored one.

    Args:
        rows: uint16 (n,), as computed here; their digest is another.
        before: the digest before these rows.
        wanted: the stored digest behind them.
        doubts: given a tolerance, for each element the row it may have had instead (its own where there is no doubt).

    Returns:
        uint16 (n,); None where no flips of few enough elements near thresholds explain the digest, or several do.
    """
    difference = crc32c(rows.astype("<u2").tobytes(), before) ^ wanted
    tolerance, tried = FIRST_TOLERANCE, -1
    while tolerance <= LAST_TOLERANCE:
        others = doubts(tolerance).ravel().astype(np.uint16)
        unknown = np.flatnonzero(others != rows)
        if len(unknown) > MAX_UNKNOWNS:
            return None
        if len(unknown) > tried:
            tried = len(unknown)
            effects = [_effect(int(rows[at] ^ others[at]), len(rows) - 1 - int(at)) for at in unknown]
            flips = solve(effects, difference)
            if flips is not None:
                repaired = rows.copy()
                repaired[unknown[flips]] = others[unknown[flips]]
                assert crc32c(repaired.astype("<u2").tobytes(), before) == wanted
                return repaired
        tolerance *= GROWTH
    return None


def _effect(pattern: int, rows_behind: int) -> int:
    """What a row's changed bits change in the digest."""
    changed = crc32c(pattern.to_bytes(ROW_BYTES, "little")) ^ crc32c(bytes(ROW_BYTES))
    return crc32c_shift(changed, ROW_BYTES * rows_behind)


def solve(columns: list[int], target: int) -> list[int] | None:
    """Which of the columns, vectors over GF(2), add up to `target`; None where none or several choices do."""
    #: By leading bit: a reduced vector, and which columns it is the sum of (one bit each).
    basis: dict[int, tuple[int, int]] = {}
    unique = True
    for number, column in enumerate(columns):
        vector, made_of = _reduce(column, 1 << number, basis)
        if vector:
            basis[vector.bit_length()] = vector, made_of
        else:
            unique = False
    rest, made_of = _reduce(target, 0, basis)
    if rest or not unique:
        return None
    return [number for number in range(len(columns)) if made_of >> number & 1]


def _reduce(vector: int, made_of: int, basis: dict[int, tuple[int, int]]) -> tuple[int, int]:
    while vector and vector.bit_length() in basis:
        other, parts = basis[vector.bit_length()]
        vector, made_of = vector ^ other, made_of ^ parts
    return vector, made_of
