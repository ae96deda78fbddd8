"""In which order the symbols of a step are coded (spec/format.md, section 15)."""

from __future__ import annotations

import numpy as np

from robuststream.kernels import kernel


@kernel
def arrange(rows, by_scale, counts, order):  # type: ignore[no-untyped-def]
    """Element numbers in coding order, tile by tile.

    Args:
        rows: uint16 (T, n), below R.
        by_scale: the largest rows, which are those of the largest scales, first, equal ones in element order: a
            counting sort. Else all in element order.
        counts: int32 (R,), overwritten.
        order: int32 (T, n), the result.
    """
    tiles, elements = rows.shape
    for tile in range(tiles):
        if not by_scale:
            for element in range(elements):
                order[tile, element] = element
            continue
        counts[:] = 0
        for element in range(elements):
            counts[rows[tile, element]] += 1
        place = np.int32(0)
        for row in range(len(counts) - 1, -1, -1):
            behind = place + counts[row]
            counts[row] = place
            place = behind
        for element in range(elements):
            row = rows[tile, element]
            order[tile, counts[row]] = element
            counts[row] += 1


@kernel
def lay(rows, symbols, order, at, laid_rows, laid_symbols):  # type: ignore[no-untyped-def]
    """Put a step's rows, uint16, and symbols, int32, (T, n), in coding order into columns `at` and on."""
    tiles, elements = rows.shape
    for tile in range(tiles):
        for place in range(elements):
            element = order[tile, place]
            laid_rows[tile, at + place] = rows[tile, element]
            laid_symbols[tile, at + place] = symbols[tile, element]
