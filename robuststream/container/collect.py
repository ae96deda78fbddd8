"""What one scan of a file finds: the packets of one stream, sorted by kind, and where no intact packet is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

from robuststream.container.layout import PAYLOAD_CRC_BYTES
from robuststream.container.packets import Buffer, Gap, Kind, Packet
from robuststream.container.remains import damaged_packets
from robuststream.container.scanner import scan
from robuststream.errors import StreamNotFound

#: Smaller payloads take less memory as bytes than as a view of the file.
VIEWED = 256
#: Where no HEADER is intact: how many streams are tried, and how many damaged packets are counted to find likely ones.
LIKELY_STREAMS, VOTES = 4, 1 << 12
#: How many packets before the first HEADER are kept, how many repeated ones, and how many ids of other streams. An
#: honest stream stays below: it has a HEADER in each 32 KiB, and a packet has 25 bytes. More are only counted, for a
#: hostile file has one in each 15 bytes.
KEPT = 1 << 12


@dataclass
class Found:
    """Intact packets of one stream. The first of each kind and number counts.

    Those that are put right, restored or borrowed are added to `headers`, `notes`, `parity` and `index`, and are not in
    `order`.

    Attributes:
        order: in file order, those that count and every HEADER.
        repeated: the first of those whose place another has; `repeated_more` are not kept.
        conflicts: tiles of which two intact packets differ.
        unknown: the first packet of each kind that this release does not know.
        counts: how many there are of each kind.
    """

    headers: list[Packet] = field(default_factory=list)
    tiles: dict[int, Packet] = field(default_factory=dict)
    notes: dict[int, Packet] = field(default_factory=dict)
    parity: dict[int, Packet] = field(default_factory=dict)
    index: Packet | None = None
    order: list[Packet] = field(default_factory=list)
    repeated: list[Packet] = field(default_factory=list)
    repeated_more: int = 0
    conflicts: set[int] = field(default_factory=set)
    unknown: dict[int, Packet] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)

    def tile_payloads(self) -> dict[int, Buffer]:
        return {index: packet.payload for index, packet in self.tiles.items()}

    def has(self, kind: int, number: int) -> bool:
        """Whether there is a packet of this name, which no second one replaces; an INDEX has no number."""
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
        self.counts[packet.kind] += 1
        if packet.kind not in (Kind.HEADER, Kind.INDEX, *self._places()):
            self.unknown.setdefault(packet.kind, packet)
        elif packet.kind != Kind.HEADER and self.has(packet.kind, packet.number):
            self._repeat(packet)
        else:
            self.put(packet)
            self.order.append(packet)

    def _repeat(self, packet: Packet) -> None:
        conflict = self.is_conflict(packet)
        if conflict:
            self.conflicts.add(packet.number)
        # The first conflict is kept, whatever came before, to be told.
        if len(self.repeated) < KEPT or (conflict and len(self.conflicts) == 1):
            self.repeated.append(packet)
        else:
            self.repeated_more += 1

    def is_conflict(self, packet: Packet) -> bool:
        """Whether a packet is a second one of a tile, and another than the first."""
        return packet.kind == Kind.TILE and self.tiles[packet.number].payload != packet.payload

    def _places(self) -> dict[int, dict[int, Packet]]:
        return {Kind.TILE: self.tiles, Kind.METADATA: self.notes, Kind.PARITY: self.parity}


@dataclass
class Foreign:
    """Intact packets of another stream than the one that is read, and whether a HEADER is among them."""

    count: int
    first: Packet
    header: bool


class Collected:
    """One scan of a file.

    The stream that is read is that of the first intact HEADER, or the one asked for. Its packets are in `found`;
    those of other streams are counted only. Without an intact HEADER, `choose` says which stream it is; where more
    packets came before than are kept, the file is scanned again.

    Attributes:
        data: the file.
        identity: id of the stream; None without an intact HEADER, before a choice.
        found: its packets.
        foreign: streams that are not read, by id, in file order; `foreign_more` packets are of further ones.
        gaps: where no intact packet is.
        intact: how many intact packets there are of each kind, of all streams together.
    """

    def __init__(self, data: bytes, identity: bytes | None = None) -> None:
        self.data = data
        self._scan(identity)

    def _scan(self, identity: bytes | None) -> None:
        self.identity = identity
        self.found = Found()
        self.foreign: dict[bytes, Foreign] = {}
        self.foreign_more = 0
        self.gaps: list[Gap] = []
        self.intact: Counter[int] = Counter()
        self._undecided: list[Packet] = []
        self._forgotten = False  # some that came before a choice
        self._header: bytes | None = None  # of which stream the first intact HEADER is
        self._votes: Counter[bytes] = Counter()
        self._begins: dict[bytes, int] = {}  # where the first packet of each stream stands
        view = memoryview(self.data)
        for event in scan(self.data):
            if isinstance(event, Gap):
                self.gaps.append(event)
                continue
            self.intact[event.kind] += 1
            if event.kind == Kind.HEADER and self._header is None:
                self._header = event.stream_id
            if self.identity is not None:
                self._take(event, view)
            elif event.kind != Kind.HEADER:
                self._wait(event, view)
            elif self._forgotten:
                self._scan(event.stream_id)
                return
            else:
                self.choose(event.stream_id)
                self._take(event, view)

    def choose(self, identity: bytes) -> None:
        """Say which stream is read, where no intact HEADER does."""
        if self._forgotten:
            self._scan(identity)
            return
        self.identity = identity
        undecided, self._undecided = self._undecided, []
        for packet in undecided:
            self._take(packet, memoryview(self.data))

    def _take(self, packet: Packet, view: memoryview) -> None:
        if packet.stream_id == self.identity:
            self.found.add(_in_place(packet, self.identity, view))
        elif packet.stream_id in self.foreign or len(self.foreign) < KEPT:
            foreign = self.foreign.setdefault(packet.stream_id, Foreign(0, packet, header=False))
            foreign.count += 1
            foreign.header |= packet.kind == Kind.HEADER
        else:
            self.foreign_more += 1

    def _wait(self, packet: Packet, view: memoryview) -> None:
        """No HEADER says yet which stream is read."""
        self._votes[packet.stream_id] += 1
        self._begins.setdefault(packet.stream_id, packet.offset)
        if len(self._undecided) < KEPT:
            self._undecided.append(_in_place(packet, packet.stream_id, view))
        else:
            self._forgotten = True
        if len(self._votes) > 2 * KEPT:
            self._votes = Counter(dict(self._votes.most_common(KEPT)))
            self._begins = {identity: self._begins[identity] for identity in self._votes}

    @property
    def begins_as_a_stream(self) -> bool:
        """There is an intact HEADER, and nothing before the first intact packet."""
        return self.identity is not None and not (self.gaps and self.gaps[0].start == 0)

    def streams(self) -> list[bytes]:
        """Ids of the streams that have an intact HEADER: that of the first one, then others by their first packet."""
        begins = {identity: foreign.first.offset for identity, foreign in self.foreign.items() if foreign.header}
        if self.identity is not None and self._header is not None and self.found.order:
            begins[self.identity] = self.found.order[0].offset
        return sorted(begins, key=lambda identity: (identity != self._header, begins[identity]))

    def numbered(self, number: int) -> Collected:
        """What stands in the same file of stream `number` of `streams`. Raises StreamNotFound."""
        if not number:
            return self
        streams = self.streams()
        if not 0 < number < len(streams):
            raise StreamNotFound(f"there is no stream {number}: {len(streams)} with a header are here, counted from 0")
        return Collected(self.data, streams[number])

    def votes(self) -> Counter[bytes]:
        """How many packets there are of each stream before a choice, damaged ones too, in the order of the first."""
        damaged = (packet for gap in self.gaps for packet in damaged_packets(self.data, gap))
        votes, begins = Counter(self._votes), dict(self._begins)
        for packet in islice(damaged, VOTES):
            votes[packet.stream_id] += 1
            begins[packet.stream_id] = min(packet.offset, begins.get(packet.stream_id, packet.offset))
        return Counter({identity: votes[identity] for identity in sorted(votes, key=lambda other: begins[other])})


def likely(*files: Collected) -> list[bytes]:
    """Ids of the streams that files without an intact HEADER may hold, those of most packets first."""
    votes: Counter[bytes] = Counter()
    for file in files:
        votes += file.votes()
    return [identity for identity, _ in votes.most_common(LIKELY_STREAMS)]


def _in_place(packet: Packet, name: bytes, view: memoryview) -> Packet:
    """A packet as it is kept: with one object for all of a stream's ids, and no copy of what is large."""
    payload = packet.payload
    if packet.kind in (Kind.TILE, Kind.PARITY) and len(payload) >= VIEWED:
        end = packet.offset + packet.size - PAYLOAD_CRC_BYTES
        payload = view[end - len(payload) : end]
    return Packet(packet.kind, name, packet.number, payload, packet.offset, packet.size)
