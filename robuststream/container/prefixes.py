"""The CRC-32C of any stretch of a block, compiled, out of the states before each of its bytes (spec/format.md,
section 10).

But for initial value and final XOR a CRC is linear: what bytes add to the state can be summed apart, moved on over the
bytes that follow them, and XORed in.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from robuststream.checksum import crc32c_shift
from robuststream.kernels import kernel

_Words = npt.NDArray[np.uint32]


def _sums_of(columns: list[int]) -> _Words:
    """Entry v is the XOR of those `columns` for which v has the bit set."""
    table = np.zeros(1, np.uint32)
    for column in columns:
        table = np.concatenate((table, table ^ np.uint32(column)))
    return table


#: Row n: what a byte adds to the state n bytes behind it.
_SLICES = np.stack([_sums_of([crc32c_shift(1 << bit, 1 + behind) for bit in range(8)]) for behind in range(4)])


@kernel
def sum_up(data, at, states):  # type: ignore[no-untyped-def]
    """The states from `at` on: that before byte `at` is there, those behind it and each further byte are added.

    Four bytes at a time, by tables (Kounavis and Berry, "A systematic approach to building high performance
    software-based CRC generators", 2005).

    Args:
        data: uint8 (n,).
        states: uint32 (n + 1,) or more.
    """
    a, b, c, d = _SLICES
    state = states[at]
    whole = len(data) - 3
    while at < whole:
        one = (state ^ data[at]) & 255
        two = (state >> 8 ^ data[at + 1]) & 255
        three = (state >> 16 ^ data[at + 2]) & 255
        four = (state >> 24 ^ data[at + 3]) & 255
        states[at + 1] = a[one] ^ state >> 8
        states[at + 2] = b[one] ^ a[two] ^ state >> 16
        states[at + 3] = c[one] ^ b[two] ^ a[three] ^ state >> 24
        state = d[one] ^ c[two] ^ b[three] ^ a[four]
        states[at + 4] = state
        at += 4
    while at < len(data):
        state = a[(state ^ data[at]) & 255] ^ state >> 8
        states[at + 1] = state
        at += 1


@kernel
def moved(state, length, shifts):  # type: ignore[no-untyped-def]
    """crc32c_shift, by a length below 2^21; `shifts` are SHIFTS."""
    for digit in range(3):
        value = length >> 7 * digit & 127
        if value:
            row = value << 10
            low = shifts[digit, row | state & 255] ^ shifts[digit, row | 256 | state >> 8 & 255]
            state = low ^ shifts[digit, row | 512 | state >> 16 & 255] ^ shifts[digit, row | 768 | state >> 24]
    return state


def _shift_table(step: int) -> _Words:
    """Entry [n << 10 | k << 8 | v]: what v as byte k of a CRC-32C becomes when n * `step` bytes follow; n < 128."""
    columns = [1 << bit for bit in range(32)]
    tables = []
    for _ in range(128):
        tables += [_sums_of(columns[bit : bit + 8]) for bit in range(0, 32, 8)]
        columns = [crc32c_shift(column, step) for column in columns]
    return np.concatenate(tables)


#: Lengths take three digits of 7 bits: enough for MAX_PAYLOAD.
SHIFTS = np.stack([_shift_table(1 << 7 * digit) for digit in range(3)])
