"""What parity gives back of a stream (spec/format.md, section 19).

Symbols inside damaged packets are found where the packets around them say that they must be, and proven by their
CRC-16; packets that were solved for are proven by their CRC-32C.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from robuststream.container import layout, parity
from robuststream.container.copies import Copy
from robuststream.container.packets import Buffer, Key, Kind
from robuststream.container.parity import Block
from robuststream.container.symbols import Effort, Places, SymbolSearch
from robuststream.container.writer import ORDER, arrange

log = logging.getLogger(__name__)

#: From how many damaged PARITY packets of a block the source symbols' sums are taken.
MAX_HEARD = 64
#: Where a block cannot be solved though enough symbols are there, one with the right CRC-16 must be wrong nevertheless.
#: How many are left out in turn.
MAX_SUSPECTS = 256


def restored(copy: Copy, identity: bytes) -> Restoration | None:
    """What parity gives back of one file; None, with a warning, where the package for it is missing."""
    restoration = Restoration(identity, [copy])
    try:
        restoration.solve()
    except ImportError as error:
        log.warning("the stream has parity that cannot be used: %s", error)
        return None
    return restoration


class Restoration:
    """Solves for the packets that no copy has intact.

    Attributes:
        known: raw packets, those of the copies and, where they have none, those that were solved for.
        solved: which were solved for.
        header: the HEADER packet that parity is over, where that was solved for; a copy may have another.
        needed: how many more repair symbols it would have taken, over all blocks.
    """

    def __init__(self, identity: bytes, copies: Sequence[Copy]) -> None:
        self.identity = identity
        self.known: dict[Key, Buffer] = {}
        for copy in copies:
            self.known = {**copy.intact, **self.known}
        self.solved: set[Key] = set()
        self.header: Buffer | None = None
        self.needed = 0
        self._copies = copies
        self._size = sum(len(copy.data) for copy in copies)
        self._effort = Effort(self._size)

    def solve(self) -> None:
        """Add to what is known what parity gives back. Raises ImportError where the package for it is needed."""
        payloads = self._parity_payloads()
        blocks = self._blocks(payloads)
        wanting = [block for block in blocks if any(key not in self.known for key, _, _ in block.spans())]
        places = self._places(blocks) if wanting else []
        for block in wanting:
            self._solve(block, payloads, places)

    def _parity_payloads(self) -> dict[int, list[tuple[Buffer, bool]]]:
        """Payloads of PARITY packets by number, the intact ones first, and whether they are intact."""
        found: dict[int, list[tuple[Buffer, bool]]] = {}
        for (kind, number), raw in self.known.items():
            if kind == Kind.PARITY:
                found.setdefault(number, []).append((layout.payload_of(raw), True))
        for copy in self._copies:
            for number, payloads in copy.parity.items():
                found.setdefault(number, []).extend((payload, False) for payload in payloads)
        return found

    def _blocks(self, payloads: dict[int, list[tuple[Buffer, bool]]]) -> list[Block]:
        """The blocks that PARITY packets, damaged ones too, describe; of each block the first description counts."""
        blocks: dict[int, Block] = {}
        block = None
        for payload in (payload for versions in payloads.values() for payload, _ in versions):
            block = parity.parse_description(payload, block)
            if block is None or block.first in blocks:
                continue
            # Blocks of which hardly anything arrived cannot be solved, and must not cost time.
            cost = block.symbols + block.packets
            if cost <= self._effort.symbols and block.length <= 16 * self._size:
                blocks[block.first] = block
                self._effort.symbols -= cost
        return [blocks[first] for first in sorted(blocks)]

    def _places(self, blocks: Sequence[Block]) -> Places:
        """For each copy, where each packet may begin."""
        sizes = {key: len(raw) for key, raw in self.known.items()}
        for block in blocks:
            sizes |= {key: end - start for key, start, end in block.spans()}
            sizes |= {(int(Kind.PARITY), n): layout.packet_size(n, size) for n, size in parity.payload_sizes(block)}
        sizes.setdefault((Kind.HEADER, 0), 0)
        canonical: dict[Key, list[int]] = {}
        at = 0
        for key in arrange({key: size for key, size in sizes.items() if key[0] in (Kind.HEADER, *ORDER)}):
            canonical.setdefault(key, []).append(at)
            at += sizes[key]
        return [copy.places(canonical, at) for copy in self._copies]

    # --- One block --------------------------------------------------------------------------------------------------

    def _solve(self, block: Block, payloads: dict[int, list[tuple[Buffer, bool]]], places: Places) -> None:
        """Add the packets of a block to those known, if enough of its symbols arrived."""
        repair: dict[int, bytes] = {}
        sums: list[set[int]] = [set() for _ in range(block.symbols)]
        in_place = self._payloads_in_place(block, payloads, places)
        sure, heard = False, 0
        for number, payload, intact in sorted(in_place, key=lambda item: not item[2]):
            if self._effort.looked <= 0:
                break
            self._effort.looked -= len(payload)
            for index, symbol in parity.repair_symbols(block, number, payload):
                repair.setdefault(index, symbol)
            # Of damaged packets many sums count: a symbol that has any of them is right nearly for sure.
            if intact or (not sure and heard < MAX_HEARD):
                for values, value in zip(sums, parity.source_sums(block, payload), strict=False):
                    values.add(value)
                heard += 1
            sure |= intact
        fitting = {
            key: self.known[key] for key, start, end in block.spans() if len(self.known.get(key, b"")) == end - start
        }
        search = SymbolSearch(block, self._copies, places, sums, fitting, self._effort)
        source = search.in_place()
        solved = self._try(block, source, repair)
        # The further from its place a symbol is looked for, the likelier it is that another is taken for it.
        for together in (2, 1):
            if solved is None:
                source |= search.beside(source, together)
                solved = self._try(block, source, repair)
        if solved is None:
            self.needed += max(1, block.symbols - len(source) - len(repair))
        else:
            self.solved |= solved.keys() - self.known.keys()
            self.header = solved.get((Kind.HEADER, 0), self.header)
            self.known = {**solved, **self.known}

    def _payloads_in_place(
        self, block: Block, payloads: dict[int, list[tuple[Buffer, bool]]], places: Places
    ) -> Iterator[tuple[int, Buffer, bool]]:
        """Number and payload of the block's PARITY packets, and whether they are intact. Of lost ones: what stands in
        their places."""
        for number, size in parity.payload_sizes(block):
            listed = payloads.get(number, ())
            yield from ((number, *item) for item in listed)
            if any(intact for _, intact in listed):
                continue
            head = layout.packet_size(number, size) - layout.PAYLOAD_CRC_BYTES - size
            for copy, where in zip(self._copies, places, strict=True):
                for start in where.get((Kind.PARITY, number), ()):
                    yield number, copy.view[max(0, start + head) : max(0, start + head + size)], False

    def _try(self, block: Block, source: dict[int, bytes], repair: dict[int, bytes]) -> dict[Key, bytes] | None:
        solved = self._checked(block, parity.solve(block, source, repair))
        if solved is not None or len(source) + len(repair) < block.symbols:
            return solved
        # One of 65,536 wrong symbols has the right CRC-16: do without each in turn, those found last first.
        for suspect in list(reversed(source))[:MAX_SUSPECTS]:
            if self._effort.solved < 0:
                break
            self._effort.solved -= block.length
            rest = {index: symbol for index, symbol in source.items() if index != suspect}
            solved = self._checked(block, parity.solve(block, rest, repair))
            if solved is not None:
                return solved
        return None

    def _checked(self, block: Block, data: bytes | None) -> dict[Key, bytes] | None:
        """The packets of a block, if the CRCs of all hold, and their kinds, stream ids and numbers are right."""
        if data is None:
            return None
        packets = {}
        for key, start, end in block.spans():
            raw = data[start:end]
            fields = layout.whole_packet(raw)
            if fields is None or (fields.stream_id, fields.kind, fields.number) != (self.identity, *key):
                return None
            packets[key] = raw
        return packets
