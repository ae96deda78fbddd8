"""What a scan found: of one stream id, sorted by kind; and damaged packets, of all of them together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from robuststream.container.packets import DamagedPacket, DamagedPackets, Kind, Packet, kind_name


@dataclass
class Found:
    """The first packet of each kind and number counts. Those that a search for flipped bits put right are among
    `headers`, `notes` and `index`, and not in `order`."""

    headers: list[Packet] = field(default_factory=list)
    tiles: dict[int, Packet] = field(default_factory=dict)
    notes: dict[int, Packet] = field(default_factory=dict)
    parity: dict[int, Packet] = field(default_factory=dict)
    index: Packet | None = None
    order: list[Packet] = field(default_factory=list)
    repeated: list[Packet] = field(default_factory=list)
    unknown: list[Packet] = field(default_factory=list)
    damaged: dict[tuple[int, int], DamagedPacket] = field(default_factory=dict)

    def add(self, packet: Packet) -> None:
        places: dict[int, dict[int, Packet]] = {
            Kind.TILE: self.tiles,
            Kind.METADATA: self.notes,
            Kind.PARITY: self.parity,
        }
        self.order.append(packet)
        if packet.kind == Kind.HEADER:
            self.headers.append(packet)
        elif packet.kind == Kind.INDEX and self.index is None:
            self.index = packet
        elif packet.kind in places and packet.number not in places[packet.kind]:
            places[packet.kind][packet.number] = packet
        elif packet.kind in places or packet.kind == Kind.INDEX:
            self.repeated.append(packet)
            self.order.pop()
        else:
            self.unknown.append(packet)
            self.order.pop()

    def count(self) -> dict[str, int]:
        """Intact packets by kind."""
        counts: dict[str, int] = {}
        for packet in [*self.order, *self.repeated, *self.unknown]:
            counts[kind_name(packet.kind)] = counts.get(kind_name(packet.kind), 0) + 1
        return counts


#: Stream ids of damaged packets that are counted at a time.
MAX_IDS = 1 << 12


class Damage:
    """Damaged packets in file order, as few bytes each as the scanner gives them: a hostile file has one in each 12."""

    def __init__(self) -> None:
        self._events: list[DamagedPacket | DamagedPackets] = []

    def add(self, event: DamagedPacket | DamagedPackets) -> None:
        """Only the first of a kind and number counts."""
        self._events.append(event.firsts() if isinstance(event, DamagedPackets) else event)

    def counts(self) -> Counter[bytes]:
        """How many there are of each stream id, seldom ones left out where there are very many."""
        counts: Counter[bytes] = Counter()
        for event in self._events:
            counts.update(event.counts() if isinstance(event, DamagedPackets) else (event.stream_id,))
            if len(counts) > 2 * MAX_IDS:
                counts = Counter(dict(counts.most_common(MAX_IDS)))
        return counts

    def of(self, identity: bytes, tiles: int, others: int) -> dict[tuple[int, int], DamagedPacket]:
        """The first of each kind and number in a stream: TILEs below `tiles`, and at most `others` of other kinds."""
        found: dict[tuple[int, int], DamagedPacket] = {}
        for event in self._events:
            if isinstance(event, DamagedPackets):
                damages = event.of(identity, tiles, others > 0)
            else:
                useful = event.stream_id == identity and (event.kind != Kind.TILE or event.number < tiles)
                damages = iter((event,) if useful else ())
            for damage in damages:
                name = damage.kind, damage.number
                if name not in found and (damage.kind == Kind.TILE or others > 0):
                    found[name] = damage
                    others -= damage.kind != Kind.TILE
        return found
