"""Which bytes a text-mode transfer took from a packet or changed in it, by the packet's CRC-32C alone.

A CRC is linear over GF(2). A byte that is put in before place a of n changes the sum by what it does to the register
there, moved on by the n - a bytes that follow and by each byte put in behind it; a byte that is changed does so by the
change, moved on likewise. So a set of changes is right where the XOR of what each of them does is the difference to
the residue. Sets are looked for from both ends (meet in the middle): the XORs of the first half of the changes against
those of the second half. What is found is a guess, for the caller to prove.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from robuststream.checksum import crc32c, crc32c_shift

CR, LF = 0x0D, 0x0A
#: CRC-32C of any bytes and their own CRC-32C behind them.
RESIDUE = crc32c(bytes(4))
#: Bytes that may be missing of a packet.
MAX_MISSING = 16
#: Sets of changes among which the CRC-32C is asked to choose: of a wrong one in 16 cases it takes one more.
MAX_WAYS = 1 << 28
#: Halves of sets that are held at a time, and sets that are looked at one by one.
MAX_HALVES, MAX_SETS = 1 << 19, 1 << 8
#: More solutions are not looked for: among so many nothing could be proven.
MAX_SOLUTIONS = 16
#: Of work, in sets: what a call costs, and a place in it (its register, and moving that).
CALL, PLACE = 1 << 10, 20

_Words = npt.NDArray[np.uint32]
_Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Change:
    """What a transfer may have done to each byte of a packet, as its inverse.

    Attributes:
        insert: a byte that is missing in places.
        anywhere: it may be missing everywhere; else a CR before each LF, or an LF behind each CR.
        flip: a byte, each of which may have been the other line end; not where it is part of CRLF.
    """

    insert: int | None = None
    anywhere: bool = False
    flip: int | None = None

    def gaps(self, body: bytes) -> list[int]:
        """Where `insert` may be missing: before these places."""
        if self.insert is None:
            return []
        if self.anywhere:
            return list(range(len(body) + 1))
        if self.insert == CR:
            return [place for place, byte in enumerate(body) if byte == LF]
        return [place + 1 for place, byte in enumerate(body) if byte == CR]

    def flips(self, body: bytes) -> list[int]:
        """Which bytes may have been the other line end."""
        if self.flip == LF:
            return [p for p, byte in enumerate(body) if byte == LF and body[p - 1 : p] != b"\r"]
        if self.flip == CR:
            return [p for p, byte in enumerate(body) if byte == CR and body[p + 1 : p + 2] != b"\n"]
        return []

    def sets(self, gaps: Sequence[int], missing: int) -> Iterator[tuple[int, ...]]:
        """The sets of `missing` gaps, rising; a gap several times where whole runs may be missing."""
        choose = itertools.combinations_with_replacement if self.anywhere else itertools.combinations
        return choose(gaps, missing)

    def ways(self, gaps: int, missing: int) -> int:
        """How many sets there are."""
        return math.comb(gaps + missing - 1, missing) if self.anywhere and gaps else math.comb(gaps, missing)

    def undone(self, body: bytes, gaps: Sequence[int] = (), flips: Sequence[int] = ()) -> bytes:
        """`body` with bytes put in before the places `gaps` (rising) and with those at `flips` changed back."""
        changed = bytearray(body)
        for place in flips:
            changed[place] ^= CR ^ LF
        for place in reversed(gaps):
            changed[place:place] = bytes((self.insert or 0,))
        return bytes(changed)


def cost(body: bytes, missing: int, change: Change, halves: int = MAX_HALVES) -> int | None:
    """The work of `explain`, in sets looked at; None where there are too many for a CRC-32C to tell, or more than
    `halves` would have to be held."""
    gaps, flips = len(change.gaps(body)), len(change.flips(body))
    sets = change.ways(gaps, missing) if 0 <= missing <= MAX_MISSING else 0
    if not sets or sets << min(flips, 64) > MAX_WAYS:
        return None
    if not flips:
        half = change.ways(gaps, (missing + 1) // 2)
        return CALL + half + change.ways(gaps, missing // 2) + PLACE * gaps if half <= min(halves, MAX_HALVES) else None
    return sets * (CALL + (1 << (flips + 1) // 2) + PLACE * flips) if sets <= MAX_SETS else None


def explain(crc: int, body: bytes, missing: int, change: Change) -> list[bytes]:
    """What payload and CRC-32C may have been, so that the CRC holds; at most MAX_SOLUTIONS of them.

    Call it where `cost` is not None.

    Args:
        crc: CRC-32C of what is summed before the payload.
        body: payload and its CRC-32C, as they came.
        missing: bytes that are missing of them.
    """
    gaps, flips = change.gaps(body), change.flips(body)
    solutions: list[bytes] = []
    if not flips:
        solutions = [change.undone(body, found) for found in _insertions(crc, body, gaps, missing, change)]
    else:
        for chosen in change.sets(gaps, missing):
            filled = change.undone(body, chosen)
            solutions += [change.undone(filled, (), found) for found in _flips(crc, filled, change)]
    # Several sets may give the same bytes.
    return list(dict.fromkeys(solutions))[:MAX_SOLUTIONS]


# --- Bytes that are missing -----------------------------------------------------------------------------------------


def _insertions(crc: int, body: bytes, gaps: list[int], missing: int, change: Change) -> list[list[int]]:
    """The sets of gaps, rising, that make the CRC hold when `insert` is put into each."""
    wanted = crc32c(body, crc) ^ RESIDUE
    if not missing:
        return [] if wanted else [[]]
    does, at = [], 0
    for gap in gaps:
        crc, at = crc32c(body[at:gap], crc), gap
        register = crc ^ 0xFFFFFFFF
        does.append(crc32c_shift(register ^ (change.insert or 0), 1) ^ register)
    behind = len(body) - np.array(gaps, np.int64)
    # By how many bytes are put in behind it.
    tables = [_moved(np.array(does, np.uint32), behind + further) for further in range(missing)]
    first, second = (missing + 1) // 2, missing // 2
    left, right = _sets(len(gaps), first, change.anywhere), _sets(len(gaps), second, change.anywhere)
    left_sums = _sum([tables[missing - 1 - place][left[:, place]] for place in range(first)], len(left))
    right_sums = _sum([tables[second - 1 - place][right[:, place]] for place in range(second)], len(right))
    found = []
    for one, other in _matches(left_sums, right_sums, wanted):
        chosen = [*left[one].tolist(), *right[other].tolist()]
        # Each half rises; that the second follows the first is asked here.
        if second == 0 or chosen[first - 1] + (not change.anywhere) <= chosen[first]:
            found.append([gaps[place] for place in chosen])
        if len(found) == MAX_SOLUTIONS:
            break
    return found


def _sets(count: int, size: int, repeated: bool) -> _Places:
    """All sets of `size` of `count` places, a row each, rising; `repeated`: a place several times."""
    sets = np.zeros((1, 0), np.int64)
    least = np.zeros(1, np.int64)
    for _ in range(size):
        more = np.maximum(count - least, 0)
        row = np.repeat(np.arange(len(sets)), more)
        last = np.arange(len(row)) - np.repeat(np.cumsum(more) - more, more) + least[row]
        sets = np.column_stack((sets[row], last))
        least = last + (not repeated)
    return sets


# --- Bytes that were changed ----------------------------------------------------------------------------------------


def _flips(crc: int, body: bytes, change: Change) -> list[list[int]]:
    """The sets of bytes that make the CRC hold when they are changed back."""
    places = change.flips(body)
    wanted = crc32c(body, crc) ^ RESIDUE
    does = _moved(np.full(len(places), CR ^ LF, np.uint32), len(body) - np.array(places, np.int64))
    half = (len(places) + 1) // 2
    found = []
    for one, other in itertools.islice(_matches(_subsets(does[:half]), _subsets(does[half:]), wanted), MAX_SOLUTIONS):
        mask = one | other << half
        found.append([place for bit, place in enumerate(places) if mask >> bit & 1])
    return found


def _subsets(does: _Words) -> _Words:
    """Entry m is the XOR of those for which m has the bit set."""
    sums = np.zeros(1, np.uint32)
    for value in does:
        sums = np.concatenate((sums, sums ^ value))
    return sums


# --- CRCs of many at a time -----------------------------------------------------------------------------------------


def _matches(left: _Words, right: _Words, wanted: int) -> Iterator[tuple[int, int]]:
    """All pairs, of either side one, whose XOR is `wanted`."""
    order = np.argsort(right, kind="stable")
    ranked = right[order]
    sought = left ^ np.uint32(wanted)
    begin = np.searchsorted(ranked, sought)
    for one in np.flatnonzero(ranked[np.minimum(begin, len(ranked) - 1)] == sought).tolist():
        end = np.searchsorted(ranked, sought[one], "right")
        for other in order[begin[one] : end].tolist():
            yield one, other


def _sum(columns: list[_Words], rows: int) -> _Words:
    total = np.zeros(rows, np.uint32)
    for column in columns:
        total ^= column
    return total


def _moved(values: _Words, lengths: _Places) -> _Words:
    """crc32c_shift of each value by its own length."""
    for power in range(int(lengths.max(initial=0)).bit_length()):
        a, b, c, d = _powers(power)
        moved = a[values & 255] ^ b[values >> 8 & 255] ^ c[values >> 16 & 255] ^ d[values >> 24]
        values = np.where(lengths >> power & 1, moved, values)
    return values


@cache
def _powers(power: int) -> Any:
    """Tables, by byte of the CRC, of a move by 2^power bytes."""
    return [
        np.array([crc32c_shift(value << place, 1 << power) for value in range(256)], np.uint32)
        for place in (0, 8, 16, 24)
    ]
