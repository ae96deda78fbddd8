"""Finds a block's source symbols in damaged copies of a stream (spec/format.md, section 19)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product

from robuststream.checksum import crc16
from robuststream.container.copies import Copy
from robuststream.container.packets import Buffer, Key
from robuststream.container.parity import Block

#: For each copy, where each packet may begin; for each source symbol of a block, its CRC-16, or what that may be.
Places = Sequence[Mapping[Key, Sequence[int]]]
Sums = Sequence[Collection[int]]
#: A symbol that lies in several packets is looked for with all combinations of their possible places, up to this many.
MAX_COMBINATIONS = 64
#: Behind inserted or deleted bytes symbols are not in their place: up to this many bytes to either side they are found.
MAX_SHIFT = 1024
SHIFTS = sorted(range(-MAX_SHIFT, MAX_SHIFT + 1), key=abs)
#: What a restoration may cost, whatever descriptions say, for each 256 bytes of the copies, and how much more for small
#: ones: symbols and PARITY packets of all blocks; bytes looked at where symbols may stand; steps beside those places,
#: each of up to STEP bytes of a symbol; and bytes solved for with a symbol left out.
SYMBOLS, SPARE_SYMBOLS = 1, 1 << 13
LOOKED, SPARE_LOOKED = 1 << 14, 1 << 26
STEPS, SPARE_STEPS, STEP = 16, 1 << 18, 1 << 10
SOLVED, SPARE_SOLVED = 1 << 10, 1 << 23


class Effort:
    """What a restoration may still do: linear in the `size` of its copies, in bytes."""

    def __init__(self, size: int) -> None:
        self.symbols = SPARE_SYMBOLS + SYMBOLS * size // 256
        self.looked = SPARE_LOOKED + LOOKED * size // 256
        self.steps = SPARE_STEPS + STEPS * size // 256
        self.solved = SPARE_SOLVED + SOLVED * size // 256


@dataclass(frozen=True)
class SymbolSearch:
    """Looks for the source symbols of one block.

    Attributes:
        block: whose.
        copies: of the stream.
        places: where packets may begin in each copy.
        sums: what the CRC-16 of each symbol may be.
        known: raw packets that are intact or restored.
        effort: what the search may cost; what it does is taken off.
    """

    block: Block
    copies: Sequence[Copy]
    places: Places
    sums: Sums
    known: Mapping[Key, Buffer]
    effort: Effort

    def in_place(self) -> dict[int, bytes]:
        """The symbols, by index, that are in known packets or stand where they must be."""
        block = self.block
        found = {}
        for index in range(block.symbols):
            begin, end = index * block.symbol, min((index + 1) * block.symbol, block.length)
            pieces = list(_pieces(block, begin, end))
            known = all(block.key(ordinal) in self.known for ordinal, _, _ in pieces)
            options = [list(self._candidates(*piece)) for piece in pieces]
            for parts in islice(product(*options), MAX_COMBINATIONS):
                self.effort.looked -= 0 if known else block.symbol
                symbol = b"".join(parts).ljust(block.symbol, b"\0")
                if known or crc16(symbol) in self.sums[index]:
                    found[index] = symbol
                    break
        return found

    def _candidates(self, ordinal: int, begin: int, end: int) -> Iterator[Buffer]:
        """What bytes [begin, end) of a packet may be."""
        key = self.block.key(ordinal)
        if key in self.known:
            yield self.known[key][begin:end]
            return
        for copy, where in zip(self.copies, self.places, strict=True):
            for place in where[key]:
                if place + begin >= 0 and place + end <= len(copy.data) and self.effort.looked > 0:
                    self.effort.looked -= end - begin
                    yield copy.data[place + begin : place + end]

    def beside(self, source: Mapping[int, bytes], together: int) -> dict[int, bytes]:
        """Symbols in packets that bytes were put into or cut out of: `together` in a row, equally far from their
        places."""
        block = self.block
        found: dict[int, bytes] = {}
        for key, start, end in block.spans():
            if key in self.known:
                continue
            inside = range(-(-start // block.symbol), end // block.symbol)
            missing = [index for index in inside if index not in source]
            for copy, where in zip(self.copies, self.places, strict=True):
                for place in where[key][:2]:
                    for shift in SHIFTS:
                        if self.effort.steps < 0:
                            return found
                        found |= self._run(copy.data, place - start + shift, missing, together)
        return found

    def _run(self, data: bytes, offset: int, missing: Sequence[int], together: int) -> dict[int, bytes]:
        """Of the missing symbols those at `offset` from their place in the block, with a neighbour or alone."""
        size = self.block.symbol
        right = {}
        # A description may have any number of symbols: only those inside the copy take a step.
        first, behind = bisect_left(missing, -(offset // size)), bisect_right(missing, (len(data) - offset) // size - 1)
        self.effort.steps -= 1 + max(0, behind - first) * -(-size // STEP)
        for index in missing[first:behind]:
            symbol = data[offset + index * size : offset + (index + 1) * size]
            if crc16(symbol) in self.sums[index]:
                right[index] = symbol
        if together == 1:
            return right
        return {index: symbol for index, symbol in right.items() if index - 1 in right or index + 1 in right}


def _pieces(block: Block, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Bytes [begin, end) of a block: ordinal, and the bytes in that packet."""
    for place in range(bisect_right(block.starts, begin) - 1, bisect_left(block.starts, end)):
        start, stop = block.starts[place], block.starts[place + 1]
        yield block.first + place, max(begin, start) - start, min(end, stop) - start
