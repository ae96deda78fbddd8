"""What correction.py looks for, in NumPy: for files that make it look at very much."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt

from robuststream.checksum import CRC32C_POLYNOMIAL
from robuststream.container.correction import BEFORE_IDENTITY, KNOWN, MAX_FLIPS, MAX_PAIR_BITS
from robuststream.container.layout import SYNC

#: Bytes searched at once.
BLOCK = 1 << 16
#: Bits of a syndrome that say whether it may be in the table.
FILTER_BITS = 20

_Flags = npt.NDArray[np.bool_]
_Words = npt.NDArray[np.uint32]
_FLIPS = np.array([value.bit_count() for value in range(256)], np.uint8)


def near_places(data: bytes, start: int, end: int, identity: bytes) -> Iterator[int]:
    """As correction.near_places."""
    for at in range(start, end - KNOWN + 1, BLOCK):
        size = min(BLOCK, end - KNOWN + 1 - at)
        raw = np.frombuffer(data, np.uint8, size + KNOWN - 1, at)
        sync = _whole(raw, SYNC, 0, size)
        whole = _whole(raw, identity, BEFORE_IDENTITY, size)
        places = np.flatnonzero(sync | whole)
        flips = np.zeros(len(places), np.uint8)
        for pattern, before in ((SYNC, 0), (identity, BEFORE_IDENTITY)):
            for place, byte in enumerate(pattern, before):
                flips += _FLIPS[raw[places + place] ^ byte]
        yield from (places[flips <= MAX_FLIPS] + at).tolist()


def _whole(raw: npt.NDArray[np.uint8], pattern: bytes, before: int, size: int) -> _Flags:
    """At which of the first `size` places `pattern` stands `before` bytes behind."""
    found = np.ones(size, bool)
    for place, byte in enumerate(pattern, before):
        found &= raw[place : place + size] == byte
    return found


def pairs(syndrome: int, bits: int) -> list[tuple[int, ...]]:
    """As Corrector._pairs: all (one, two) whose syndromes sum up to this one, bits > one > two."""
    values, order, rising, filters = _powers()
    wanted = values[:bits] ^ np.uint32(syndrome)
    ones = np.arange(bits)
    for shift, there in filters:
        hits = there[wanted >> np.uint32(shift) & np.uint32((1 << FILTER_BITS) - 1)]
        ones, wanted = ones[hits], wanted[hits]
    places = np.minimum(np.searchsorted(rising, wanted), len(rising) - 1)
    twos = order[places]
    hits = (rising[places] == wanted) & (twos < ones)
    return list(zip(ones[hits].tolist(), twos[hits].tolist(), strict=True))


@cache
def _powers() -> tuple[_Words, npt.NDArray[np.int64], _Words, list[tuple[int, _Flags]]]:
    """Syndromes by distance; what sorts them; sorted; and for some of their bits, which values these take."""
    values = np.empty(MAX_PAIR_BITS, np.uint32)
    value = 1 << 31
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
