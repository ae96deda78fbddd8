"""Which one or two bits of a packet a CRC-32C's syndrome names. (correction.py imports this where one has to be asked,
because it imports NumPy.)

A bit at a distance from the packet's end changes the syndrome by x^distance modulo the polynomial.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from robuststream.checksum import CRC32C_POLYNOMIAL, crc32c_shift

#: Pairs are not looked for in longer payloads (CRC-32C included): 16 KiB, in which a random syndrome is explained by
#: 2^33 pairs over 2^31 syndromes of even parity, 4 on average.
MAX_PAIR_BITS = 1 << 17
#: x has the order 2^31 - 1, so this many bytes behind a CRC divide it by x^MAX_PAIR_BITS.
BACK = (1 << 31) - 1 - MAX_PAIR_BITS // 8
#: Bits of a syndrome that say whether it may be in the table of powers.
FILTER_BITS = 20

_Flags = npt.NDArray[np.bool_]
_Words = npt.NDArray[np.uint32]
_Places = npt.NDArray[np.int64]


def bit_of(syndrome: int, bits: int) -> int | None:
    """The distance of the one bit, among the last `bits`, that has this syndrome; None if there is none.

    Divides by a large power of x until it meets one of the powers below (Shanks, "Class number, a theory of
    factorization, and genera", 1971: baby steps, giant steps).
    """
    _, order, rising, _ = _powers()
    a, b, c, d = _divided()
    for begin in range(0, bits, MAX_PAIR_BITS):
        place = np.searchsorted(rising, np.uint32(syndrome))
        if place < len(rising) and rising[place] == syndrome:
            distance = begin + int(order[place])
            return distance if distance < bits else None
        syndrome = a[syndrome & 255] ^ b[syndrome >> 8 & 255] ^ c[syndrome >> 16 & 255] ^ d[syndrome >> 24]
    return None


def pairs_of(syndrome: int, bits: int) -> list[tuple[int, int]]:
    """All (one, two) whose syndromes sum up to this one, bits > one > two."""
    values, order, rising, filters = _powers()
    wanted = values[:bits] ^ np.uint32(syndrome)
    ones = np.arange(len(wanted))
    for shift, there in filters:
        hits = there[wanted >> np.uint32(shift) & np.uint32((1 << FILTER_BITS) - 1)]
        ones, wanted = ones[hits], wanted[hits]
    places = np.minimum(np.searchsorted(rising, wanted), len(rising) - 1)
    twos = order[places]
    hits = (rising[places] == wanted) & (twos < ones)
    return list(zip(ones[hits].tolist(), twos[hits].tolist(), strict=True))


@cache
def _powers() -> tuple[_Words, _Places, _Words, list[tuple[int, _Flags]]]:
    """Syndromes by distance; what sorts them; sorted; and for some of their bits, which values these take."""
    values = np.empty(MAX_PAIR_BITS, np.uint32)
    value = 1 << 31  # reflected: the highest bit is x^0
    for distance in range(MAX_PAIR_BITS):
        values[distance] = value
        value = value >> 1 ^ (CRC32C_POLYNOMIAL if value & 1 else 0)
    order = np.argsort(values)
    filters = []
    for shift in (0, 32 - FILTER_BITS):
        there = np.zeros(1 << FILTER_BITS, bool)
        there[values >> np.uint32(shift) & np.uint32((1 << FILTER_BITS) - 1)] = True
        filters.append((shift, there))
    return values, order, values[order], filters


@cache
def _divided() -> list[list[int]]:
    """By byte, what a syndrome is, divided by x^MAX_PAIR_BITS."""
    return [[crc32c_shift(value << place, BACK) for value in range(256)] for place in (0, 8, 16, 24)]
