"""What one scan of a file finds: the packets of one stream, sorted by kind, and where no intact packet is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

from robuststream.container.layout import PAYLOAD_CRC_BYTES
from robuststream.container.packets import DamagedPacket, Gap, Kind, Packet, kind_name
from robuststream.container.remains import damaged_packets
from robuststream.container.scanner import scan

#: Smaller payloads take less memory as bytes than as a view of the file.
VIEWED = 256
#: Where no HEADER is intact, so many streams may be looked at, and so many damaged packets count for them.
LIKELY_STREAMS, VOTES = 4, 1 << 12


@dataclass
class Found:
    """Intact packets of one stream. The first of each kind and number counts.

    Those that are put right, restored or borrowed are added to `headers`, `notes`, `parity` and `index`, and are not in
    `order`.
    """

    headers: list[Packet] = field(default_factory=list)
    tiles: dict[int, Packet] = field(default_factory=dict)
    notes: dict[int, Packet] = field(default_factory=dict)
    parity: dict[int, Packet] = field(default_factory=dict)
    index: Packet | None = None
    order: list[Packet] = field(default_factory=list)
    repeated: list[Packet] = field(default_factory=list)
    unknown: list[Packet] = field(default_factory=list)

    def has(self, kind: int, number: int) -> bool:
        """Whether there is a packet of this name; HEADER and INDEX have no number."""
        if kind == Kind.HEADER:
            return bool(self.headers)
        if kind == Kind.INDEX:
            return self.index is not None
        return number in self._places().get(kind, ())

    def put(self, packet: Packet) -> None:
        """Keep a packet that takes no other's place."""
        if packet.kind == Kind.HEADER:
            self.headers.append(packet)
        elif packet.kind == Kind.INDEX:
            self.index = packet
        else:
            self._places()[packet.kind][packet.number] = packet

    def add(self, packet: Packet) -> None:
        """Take the next intact packet of the file."""
        if packet.kind not in (Kind.HEADER, Kind.INDEX, *self._places()):
            self.unknown.append(packet)
        elif packet.kind != Kind.HEADER and self.has(packet.kind, packet.number):
            self.repeated.append(packet)
        else:
            self.put(packet)
            self.order.append(packet)

    def _places(self) -> dict[int, dict[int, Packet]]:
        return {Kind.TILE: self.tiles, Kind.METADATA: self.notes, Kind.PARITY: self.parity}

    def count(self) -> dict[str, int]:
        """Intact packets by kind."""
        every = (*self.order, *self.repeated, *self.unknown)
        return dict(Counter(kind_name(packet.kind) for packet in every))


@dataclass
class Foreign:
    """Intact packets of another stream than the one that is read, and whether a HEADER is among them."""

    count: int
    first: Packet
    header: bool


class Collected:
    """One scan of a file.

    The stream that is read is that of the first intact HEADER, or the one asked for: of that the packets are `found`,
    of others only how many there are. Without an intact HEADER all are kept, for `choose` to say which are wanted.

    Attributes:
        data: the file.
        identity: id of the stream; None without an intact HEADER, before a choice.
        found: its packets.
        foreign: streams that are not read, by id, in file order.
        gaps: where no intact packet is.
    """

    def __init__(self, data: bytes, identity: bytes | None = None) -> None:
        self.data = data
        self.identity = identity
        self.found = Found()
        self.foreign: dict[bytes, Foreign] = {}
        self.gaps: list[Gap] = []
        self._undecided: list[Packet] = []
        ids: dict[bytes, bytes] = {}
        view = memoryview(data)
        for event in scan(data):
            if isinstance(event, Gap):
                self.gaps.append(event)
                continue
            # One object for each id, and no copy of what is large.
            name = ids.setdefault(event.stream_id, event.stream_id)
            payload = _in_place(event, view)
            packet = Packet(event.kind, name, event.number, payload, event.offset, event.size)
            if self.identity is not None:
                self._take(packet)
            elif packet.kind == Kind.HEADER:
                self.choose(packet.stream_id)
                self._take(packet)
            else:
                self._undecided.append(packet)

    def choose(self, identity: bytes) -> None:
        """Say which stream is read, where no intact HEADER does."""
        self.identity = identity
        undecided, self._undecided = self._undecided, []
        for packet in undecided:
            self._take(packet)

    def _take(self, packet: Packet) -> None:
        if packet.stream_id == self.identity:
            self.found.add(packet)
        else:
            foreign = self.foreign.setdefault(packet.stream_id, Foreign(0, packet, header=False))
            foreign.count += 1
            foreign.header |= packet.kind == Kind.HEADER

    @property
    def begins_as_a_stream(self) -> bool:
        """There is an intact HEADER, and nothing before the first intact packet."""
        return self.identity is not None and not (self.gaps and self.gaps[0].start == 0)

    def streams(self) -> list[bytes]:
        """Ids of the streams that have an intact HEADER: the one that is read, then others by their first packet."""
        others = [identity for identity, foreign in self.foreign.items() if foreign.header]
        return [*filter(None, [self.identity]), *others]

    # --- Without an intact HEADER -----------------------------------------------------------------------------------

    def votes(self) -> Counter[bytes]:
        """How many packets there are of each stream before a choice, damaged ones too, in the order of the first."""
        damaged = (packet for gap in self.gaps for packet in damaged_packets(self.data, gap))
        voters: list[Packet | DamagedPacket] = [*self._undecided, *islice(damaged, VOTES)]
        return Counter(packet.stream_id for packet in sorted(voters, key=lambda packet: packet.offset))

    @property
    def intact(self) -> Mapping[int, int]:
        """How many intact packets there are of each kind, of all streams together, before a choice."""
        return Counter(packet.kind for packet in self._undecided)


def likely(*files: Collected) -> list[bytes]:
    """Ids of the streams that files without an intact HEADER may hold, those of most packets first."""
    votes: Counter[bytes] = Counter()
    for file in files:
        votes += file.votes()
    return [identity for identity, _ in votes.most_common(LIKELY_STREAMS)]


def _in_place(packet: Packet, view: memoryview) -> bytes | memoryview:
    if packet.kind not in (Kind.TILE, Kind.PARITY) or len(packet.payload) < VIEWED:
        return packet.payload
    end = packet.offset + packet.size - PAYLOAD_CRC_BYTES
    return view[end - len(packet.payload) : end]
