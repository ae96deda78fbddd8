"""What a scan found of one stream id, sorted by kind."""

from __future__ import annotations

from dataclasses import dataclass, field

from robuststream.container.packets import DamagedPacket, Kind, Packet, kind_name


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
