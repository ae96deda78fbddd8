"""rANS kernels over many tiles, bounds-checked, byte-compatible with `compressai.ans` (spec/format.md, section 13).

J. Duda, "Asymmetric numeral systems", arXiv:1311.2540; the 64-bit state with 32-bit words is F. Giesen's rans64, the
escape into 4-bit bypass digits CompressAI's. Values below are unsigned 64-bit throughout: in numba, int64 and uint64
mixed become a float.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from robuststream.kernels import kernel

# Status of a tile's decoder; beyond OK it only yields zeros.
OK, ENDED, TRUNCATED, ESCAPE, RANGE, SEAM = 0, 1, 2, 3, 4, 5

#: A decoder refuses symbols beyond this, so that no saturation of section 14 can act.
MAX_SYMBOL = 1 << 13
#: An escaped value has at most this many digits of 4 bits.
MAX_DIGITS = 7

LOWER = np.uint64(1 << 31)
ONE = np.uint64(1)
SLOTS = np.uint64(1 << 16)
SLOT_MASK = np.uint64((1 << 16) - 1)
WORD_MASK = np.uint64((1 << 32) - 1)
PRECISION = np.uint64(16)
WORD_BITS = np.uint64(32)
DIGIT_BITS = np.uint64(4)
DIGIT_MASK = np.uint64(15)
#: State above which pushing a digit (frequency 2^12 of 2^16) needs a word out first.
DIGIT_CEILING = np.uint64(((1 << 31) >> 16 << 32) * (1 << 12))
#: The same for frequency f: f << 47.
CEILING_SHIFT = np.uint64(47)


def high_product(a: Any, b: Any) -> Any:
    """Upper 64 bits of the 128-bit product of two uint64."""
    return np.uint64(int(a) * int(b) >> 64)


@intrinsic
def _high_product(typing, a, b):  # type: ignore[no-untyped-def]
    def code(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(operand, wide) for operand in operands))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), code


@overload(high_product, inline="always")
def _compiled_high_product(a, b):  # type: ignore[no-untyped-def]
    return lambda a, b: _high_product(a, b)  # type: ignore[call-arg]


@kernel
def words_needed(tiles, symbols):  # type: ignore[no-untyped-def]
    """More 32-bit words than `symbols` symbols in `tiles` tiles can take: 48 bits each, 2 words of state, 1 spare."""
    return symbols + (symbols + 1) // 2 + 3 * tiles


@kernel
def encode(symbols, rows, bounds, marks, cdf, reciprocals, shifts, starts, lengths, offsets, words):  # type: ignore[no-untyped-def]
    """Code tiles back to back into the end of `words`, last tile first.

    Args:
        symbols: int32 (n,), tile after tile.
        rows: uint16 (n,), the CDF row of each symbol.
        bounds: int64 (T + 1,), where each tile's symbols begin and end.
        marks: int64 (T, K), symbol counts at which the word position is wanted.
        cdf, reciprocals, shifts, starts, lengths, offsets: of the tables.
        words: uint32, at least `words_needed`.

    Returns:
        int64 (T + 1,), where each tile's words begin and end in `words`; int64 (T, K), the word positions of the marks,
        counted from the tile's first word. Both empty where a value needs more than 7 digits.
    """
    tiles = len(bounds) - 1
    places = np.zeros(tiles + 1, np.int64)
    marked = np.zeros(marks.shape, np.int64)
    at = len(words)
    places[tiles] = at
    for tile in range(tiles - 1, -1, -1):
        state = LOWER
        for i in range(bounds[tile + 1] - 1, bounds[tile] - 1, -1):
            for k in range(marks.shape[1]):
                if marks[tile, k] == i - bounds[tile] + 1:
                    marked[tile, k] = at
            row = rows[i]
            escape = np.int64(lengths[row]) - 2
            value = np.int64(symbols[i]) - np.int64(offsets[row])
            if value < 0 or value >= escape:
                raw = np.uint64(-2 * value - 1) if value < 0 else np.uint64(2 * (value - escape))
                value = escape
                digits = 0
                while raw >> (np.uint64(digits) * DIGIT_BITS) != np.uint64(0):
                    digits += 1
                if digits > MAX_DIGITS:
                    return np.zeros(0, np.int64), np.zeros((0, 0), np.int64)
                # A decoder reads the count first, then the low digits first: push them the other way round.
                for k in range(digits, -1, -1):
                    digit = np.uint64(digits) if k == 0 else raw >> (np.uint64(k - 1) * DIGIT_BITS) & DIGIT_MASK
                    if state >= DIGIT_CEILING:
                        at -= 1
                        words[at] = np.uint32(state & WORD_MASK)
                        state >>= WORD_BITS
                    state = state << DIGIT_BITS | digit
            entry = starts[row] + value
            low = cdf[entry]
            frequency = np.uint64(cdf[entry + 1] - low)
            if state >= frequency << CEILING_SHIFT:
                at -= 1
                words[at] = np.uint32(state & WORD_MASK)
                state >>= WORD_BITS
            # (state // f << 16) + state % f + low, with the division as a product: it is most of the time otherwise.
            quotient = state if frequency == ONE else high_product(state, reciprocals[entry]) >> shifts[entry]
            state = state + np.uint64(low) + quotient * (SLOTS - frequency)
        for k in range(marks.shape[1]):
            if marks[tile, k] == 0:
                marked[tile, k] = at
        at -= 2
        words[at] = np.uint32(state & WORD_MASK)
        words[at + 1] = np.uint32(state >> WORD_BITS)
        places[tile] = at
        for k in range(marks.shape[1]):
            # Words are counted as a reader meets them: the state's two, then those pushed last.
            marked[tile, k] -= at
    return places, marked


@kernel
def start(words, bounds, states, positions, status):  # type: ignore[no-untyped-def]
    """Read each tile's state: words uint32 (n,), bounds int64 (T + 1,); fills uint64, int64, int32 (T,)."""
    for tile in range(len(states)):
        first = bounds[tile]
        if bounds[tile + 1] - first < 2:
            status[tile] = TRUNCATED
        else:
            states[tile] = np.uint64(words[first]) | np.uint64(words[first + 1]) << WORD_BITS
            positions[tile] = first + 2
            if states[tile] < LOWER:
                status[tile] = RANGE


@kernel
def decode(words, bounds, states, positions, status, rows, order, cdf, starts, lengths, offsets, lookup, symbols):  # type: ignore[no-untyped-def]
    """Decode one step of every tile whose status is OK; any words at all end in symbols or in a status.

    Args:
        words: uint32 (n,); bounds: int64 (T + 1,).
        states, positions, status: uint64, int64, int32 (T,), as left by the step before; updated.
        rows: uint16 (T, m), the CDF row of each symbol; the caller has checked their range.
        order: int32 (T, m), which symbol comes when.
        cdf, starts, lengths, offsets, lookup: of the tables.
        symbols: int32 (T, m), zeros; filled, in that order, up to where a tile fails.
    """
    for tile in range(len(states)):
        if status[tile] != OK:
            continue
        state = states[tile]
        at = positions[tile]
        end = bounds[tile + 1]
        fault = OK
        for i in range(rows.shape[1]):
            element = order[tile, i]
            row = rows[tile, element]
            begin = starts[row]
            slot = np.int64(state & SLOT_MASK)
            value = np.int64(lookup[row, slot >> 8])
            while cdf[begin + value + 1] <= slot:
                value += 1
            low = np.int64(cdf[begin + value])
            frequency = np.uint64(cdf[begin + value + 1] - low)
            state = frequency * (state >> PRECISION) + np.uint64(slot - low)
            if state < LOWER:
                if at >= end:
                    fault = TRUNCATED
                    break
                state = state << WORD_BITS | np.uint64(words[at])
                at += 1
            escape = np.int64(lengths[row]) - 2
            if value == escape:
                raw = np.uint64(0)
                digits = np.int64(0)
                k = -1
                while k < digits:
                    digit = state & DIGIT_MASK
                    state >>= DIGIT_BITS
                    if state < LOWER:
                        if at >= end:
                            fault = TRUNCATED
                            break
                        state = state << WORD_BITS | np.uint64(words[at])
                        at += 1
                    if k < 0:
                        digits = np.int64(digit)
                        if digits > MAX_DIGITS:
                            fault = ESCAPE
                            break
                    else:
                        raw |= digit << (np.uint64(k) * DIGIT_BITS)
                    k += 1
                if fault != OK:
                    break
                half = np.int64(raw >> np.uint64(1))
                value = -half - 1 if raw & np.uint64(1) else escape + half
            value += np.int64(offsets[row])
            if value > MAX_SYMBOL or value < -MAX_SYMBOL:
                fault = RANGE
                break
            symbols[tile, element] = value
        states[tile] = state
        positions[tile] = at
        status[tile] = fault
