"""What is left of a stream's packets in the gaps of a file: damaged ones, and how flipped bits explain them
(spec/format.md, sections 4 and 10.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from robuststream.container.correction import MAX_FLIPS, Corrected, Head, explanations, heads
from robuststream.container.layout import MAX_PACKET_HEADER, PAYLOAD_CRC_BYTES, SYNC, parse_packet_header
from robuststream.container.packets import DamagedPacket, Gap, Packet

#: A packet with more explanations is left alone: each would be decoded.
MAX_EXPLANATIONS = 16
#: How many bytes a search may look at without a result: WORK for each byte in a gap, and SPARE more for small files.
WORK, SPARE = 2, 1 << 18
#: What a place without a result costs of that, by the time and memory it takes: one that tells nothing new, and the
#: first damaged packet of a kind and number.
PLACE, NAME = 1 << 11, 1 << 8
#: This many places are looked at one by one. A file that has more is worth importing NumPy, which takes whole blocks.
FEW_PLACES, BLOCK = 1 << 12, 1 << 16

#: A packet begins with sync, kind and stream id; but for the kind these are known.
BEFORE_IDENTITY = len(SYNC) + 1
KNOWN = BEFORE_IDENTITY + 4

Wanted = Callable[[int, int], bool]


@dataclass(frozen=True)
class Remains:
    """What is left of one packet.

    Attributes:
        damaged: its place.
        header_whole: its packet header is whole; else the first explanation puts it right.
        explanations: all packets that it may have been, of two flipped bits at most; none where the damage is heavier,
            or where they do not agree on kind and number.
    """

    damaged: DamagedPacket
    header_whole: bool
    explanations: tuple[Corrected, ...]

    @property
    def single(self) -> Packet | None:
        """The packet, where one flipped bit alone explains it: that is seldom wrong, so its CRCs count as a proof."""
        alone = len(self.explanations) == 1 and len(self.explanations[0].flips) == 1
        return self.explanations[0].packet if alone else None


class Search:
    """Looks for what is left of one stream's packets: all that are explained, and of others the first of each kind and
    number.

    A packet is looked for where its sync or its stream id is whole, where a gap begins, and behind a packet that was
    explained; an explanation must lie inside its gap. The time is linear in the gaps' size, whatever the bytes say:
    what is left when the budget is spent is not looked at. Packets that were explained do not count, for they do not
    overlap.

    Args:
        data: the file.
        gaps: where no intact packet is.
        identity: the packets' stream id.
        wanted: given kind and number, whether such a packet is of any use.
    """

    def __init__(self, data: bytes, gaps: Sequence[Gap], identity: bytes, wanted: Wanted) -> None:
        self._data = data
        self._gaps = gaps
        self._identity = identity
        self._wanted = wanted
        self._named: set[tuple[int, int]] = set()
        #: Bytes the search may still look at without a result.
        self.budget = SPARE + WORK * sum(gap.end - gap.start for gap in gaps)

    def run(self) -> Iterator[Remains]:
        """In file order."""
        for gap in self._gaps:
            at = gap.start
            places = near_places(self._data, at + 1, gap.end, self._identity)
            while at < gap.end and self.budget >= 0:
                remains = self._at(at, gap.end) if _is_near(self._data, at, self._identity) else None
                if remains is not None:
                    yield remains
                if remains is not None and remains.explanations:
                    at = max(item.packet.offset + item.packet.size for item in remains.explanations)
                else:
                    at = next((place for place in places if place > at), gap.end)

    def _at(self, at: int, limit: int) -> Remains | None:
        """What is left of the packet that begins at `at`, before `limit`."""
        budget = self.budget
        damaged, whole = None, False
        found: list[Corrected] = []
        for head in heads(self._data[at : at + MAX_PACKET_HEADER], self._identity):
            fields, flips = head[0][0], head[1]
            if self._wanted(fields.kind, fields.number):
                explained = self._explain(at, limit, head)
                if damaged is None and (explained or not flips):
                    damaged, whole = _damaged(at, head), not flips
                found += explained
        if damaged is None:
            self.budget -= PLACE
            return None
        if len(found) > MAX_EXPLANATIONS or len({(item.packet.kind, item.packet.number) for item in found}) > 1:
            found = []
        name = damaged.kind, damaged.number
        if found:
            self.budget = budget
        elif name in self._named or not whole:
            self.budget -= PLACE
            return None
        else:
            self.budget -= NAME
        self._named.add(name)
        return Remains(damaged, whole, tuple(found))

    def _explain(self, at: int, limit: int, head: Head) -> list[Corrected]:
        fields, _, size = head[0]
        if at + size + fields.length + PAYLOAD_CRC_BYTES > limit:
            return []
        self.budget -= fields.length
        return explanations(self._data, at, head)


def damaged_packets(data: bytes, gap: Gap) -> Iterator[DamagedPacket]:
    """Damaged packets of any stream whose packet headers are whole, in file order."""
    at = data.find(SYNC, gap.start, gap.end)
    while at >= 0:
        head = parse_packet_header(data[at : at + MAX_PACKET_HEADER])
        if head is not None:
            yield _damaged(at, (head, ()))
        at = data.find(SYNC, at + 1, gap.end)


def _damaged(at: int, head: Head) -> DamagedPacket:
    fields, _, size = head[0]
    start = at + size
    return DamagedPacket(fields.kind, fields.stream_id, fields.number, at, start, start + fields.length)


# --- Places ---------------------------------------------------------------------------------------------------------


def near_places(data: bytes, start: int, end: int, identity: bytes) -> Iterator[int]:
    """Places in data[start:end], rising, where a packet may begin: sync or stream id is whole, and no more than
    MAX_FLIPS bits of the two are wrong."""
    sync_end = end - (KNOWN - len(SYNC))
    sync, whole = _find(data, SYNC, 0, start, sync_end), _find(data, identity, BEFORE_IDENTITY, start, end)
    for _ in range(FEW_PLACES):
        place = min(sync, whole)
        if place == len(data):
            return
        if _is_near(data, place, identity):
            yield place
        # Each byte is searched once for each of the two.
        sync = _find(data, SYNC, 0, place + 1, sync_end) if sync == place else sync
        whole = _find(data, identity, BEFORE_IDENTITY, place + 1, end) if whole == place else whole
    yield from _many_places(data, min(sync, whole), end, identity)


def _find(data: bytes, pattern: bytes, before: int, start: int, end: int) -> int:
    """The first place from `start` on that has `pattern` `before` bytes behind it, before `end`; else len(data)."""
    found = data.find(pattern, start + before, max(end, 0))
    return len(data) if found < 0 else found - before


def _is_near(data: bytes, at: int, identity: bytes) -> bool:
    """Whether a packet of few flipped bits may begin there, by its sync and stream id."""
    sync = int.from_bytes(data[at : at + len(SYNC)], "big") ^ int.from_bytes(SYNC, "big")
    other = int.from_bytes(data[at + BEFORE_IDENTITY : at + KNOWN], "big") ^ int.from_bytes(identity, "big")
    return sync.bit_count() + other.bit_count() <= MAX_FLIPS


def _many_places(data: bytes, start: int, end: int, identity: bytes) -> Iterator[int]:
    """As near_places, in NumPy, which is imported only here."""
    import numpy as np

    ones = np.array([value.bit_count() for value in range(256)], np.uint8)
    known = [*enumerate(SYNC), *enumerate(identity, BEFORE_IDENTITY)]
    for at in range(start, end - KNOWN + 1, BLOCK):
        size = min(BLOCK, end - KNOWN + 1 - at)
        raw = np.frombuffer(data, np.uint8, size + KNOWN - 1, at)
        sync, whole = np.ones(size, bool), np.ones(size, bool)
        for place, byte in known:
            part = sync if place < len(SYNC) else whole
            part &= raw[place : place + size] == byte
        places = np.flatnonzero(sync | whole)
        flips = np.zeros(len(places), np.uint8)
        for place, byte in known:
            flips += ones[raw[places + place] ^ byte]
        yield from (places[flips <= MAX_FLIPS] + at).tolist()
