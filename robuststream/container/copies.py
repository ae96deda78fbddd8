"""One damaged copy of a stream, for restoring: where its packets stand (spec/format.md, section 19)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

from robuststream.container.collect import Collected
from robuststream.container.packets import Buffer, DamagedPacket, Key, Kind, Packet
from robuststream.container.remains import Remains, Search

#: At how many positions of a file a packet is looked for.
MAX_PLACES = 16
#: Where no header says how many tiles there are, a file is taken to have at most one for each 16 bytes: what claims a
#: higher number is not kept.
FEWEST_BYTES = 16


def key_of(kind: int, number: int) -> Key:
    """Of a HEADER or an INDEX the number is not interpreted (section 4): it is 0 here."""
    return kind, 0 if kind in (Kind.HEADER, Kind.INDEX) else number


class Copy:
    """Where a stream's packets stand in one file.

    Attributes:
        data: the file.
        view: the same, of which parts are had without a copy.
        remains: what is left of damaged packets.
        intact: raw packets, the first of each key.
        starts: file positions at which packets begin, damaged ones too.
        parity: payloads of PARITY packets that are damaged, by number: as they may have been, and as they stand.
    """

    def __init__(self, collected: Collected, remains: Iterable[Remains]) -> None:
        self.data = collected.data
        self.remains = tuple(remains)
        self.intact: dict[Key, Buffer] = {}
        self.starts: dict[Key, list[int]] = {}
        self.parity: dict[int, list[Buffer]] = {}
        self.view = memoryview(self.data)
        for packet in (*collected.found.order, *collected.found.repeated):
            raw = self.view[packet.offset : packet.offset + packet.size]
            self.intact.setdefault(key_of(packet.kind, packet.number), raw)
            self._begins(packet)
        for item in self.remains:
            self._begins(item.damaged)
            if item.damaged.kind == Kind.PARITY:
                payloads = self.parity.setdefault(item.damaged.number, [])
                payloads += [other.packet.payload for other in item.explanations]
                payloads.append(self.view[item.damaged.payload_start : item.damaged.payload_end])

    def _begins(self, packet: Packet | DamagedPacket) -> None:
        places = self.starts.setdefault(key_of(packet.kind, packet.number), [])
        if len(places) < MAX_PLACES:
            places.append(packet.offset)

    def places(self, canonical: Mapping[Key, list[int]], length: int) -> dict[Key, list[int]]:
        """Where each packet may begin: where its header stands, or as far from a neighbour as in the whole file.

        Args:
            canonical: where packets begin in the undamaged file, of `length` bytes.
        """
        anchors = sorted(
            (at, start - at)
            for key, starts in self.starts.items()
            for at in canonical.get(key, ())[:1]
            for start in starts
            if key[0] != Kind.HEADER
        )
        ends = [0, len(self.data) - length]
        found = {}
        for key, positions in canonical.items():
            places = list(self.starts.get(key, ()))
            for at in positions:
                here = bisect_left(anchors, (at,))
                moved = [shift for _, shift in anchors[max(0, here - 2) : here + 2]]
                places += [at + shift for shift in (*moved, *ends)]
            found[key] = list(dict.fromkeys(places))[:MAX_PLACES]
        return found


def remains_of(collected: Collected, tiles: int | None = None) -> Iterator[Remains]:
    """What is left of the stream's damaged packets, but for tiles that are intact elsewhere, in file order.

    Args:
        tiles: how many there are; None where no header says it.
    """
    assert collected.identity is not None
    limit = len(collected.data) // FEWEST_BYTES if tiles is None else tiles
    explained: set[int] = set()

    def wanted(kind: int, number: int) -> bool:
        if kind == Kind.TILE:
            return number < limit and number not in collected.found.tiles and number not in explained
        return True

    for remains in Search(collected.data, collected.gaps, collected.identity, wanted).run():
        if remains.explanations and remains.damaged.kind == Kind.TILE:
            explained.add(remains.damaged.number)
        yield remains
