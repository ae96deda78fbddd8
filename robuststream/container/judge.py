"""What is wrong with a stream, and where: the findings and the report of section 11 of spec/format.md."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from robuststream.container import layout
from robuststream.container.choosing import Choice
from robuststream.container.collect import Collected
from robuststream.container.correction import Corrected, describe
from robuststream.container.leftovers import Leftovers
from robuststream.container.packets import (
    MAJOR,
    MINOR,
    Candidate,
    DamagedPacket,
    Header,
    Kind,
    Packet,
    Salvage,
    Tile,
    kind_name,
)
from robuststream.container.parity import parse_description
from robuststream.container.proof import HeaderSource, Proof
from robuststream.container.report import Findings, Rule, StreamReport, TileReport, TileState
from robuststream.container.writer import arrange, build_index

#: Tiles never seen are listed one by one only where the file has this many bytes a tile; a packet has 25 at least.
LISTED = 16


@dataclass
class Judge:
    """Judges one stream of a file by what was collected, before anything is restored.

    Attributes:
        collected: its packets, those that were put right and the header included.
        choice: the header that counts.
        header: the same, read.
        left: what is left of damaged packets.
        tiles: those that are intact and allowed.
        salvaged: beginnings of others.
        metadata_faults: what is wrong with its blocks, and the packet where there is one.
    """

    collected: Collected
    choice: Choice
    header: Header
    left: Leftovers
    tiles: Mapping[int, Tile]
    salvaged: Mapping[int, Salvage]
    metadata_faults: Sequence[tuple[Packet | None, str]]
    _findings: Findings = field(default_factory=Findings)
    #: Bytes of damaged packets that have a finding.
    _named: list[tuple[int, int]] = field(default_factory=list)

    def report(self, proof: Proof, unproven: Collection[int]) -> StreamReport:
        """All findings, and a state for each tile.

        Args:
            unproven: `proof.unproven` of the intact tiles.
        """
        self._check_header()
        self._check_tiles()
        self._tell_damage()
        self._check_metadata()
        self._check_repeats()
        self._check_gaps()
        self._check_others()
        self._check_identity(proof, unproven)
        reports, missing = self._tile_reports()
        self._check_parity()
        if not self._findings.kept:
            self._check_whole()
        found = self.collected.found
        return StreamReport(
            file_bytes=len(self.collected.data),
            stream_id=proof.identity.hex(),
            header=self.header,
            packets={kind_name(kind): count for kind, count in found.counts.items()},
            entropy_bytes=sum(len(tile.words) for tile in self.tiles.values()),
            parity_bytes=sum(packet.size for packet in found.parity.values()),
            metadata_bytes=sum(packet.size for packet in found.notes.values()),
            tiles=reports,
            missing_tiles=missing,
            other_streams=tuple(other.hex() for other in self.collected.foreign),
            findings=self._findings.in_file_order(),
            findings_left_out=self._findings.left_out,
        )

    # --- What was lost ----------------------------------------------------------------------------------------------

    def _check_header(self) -> None:
        choice, size = self.choice, len(self.collected.data)
        if choice.loan is not None:
            self._findings.add(Rule.HEADER_BORROWED, str(choice.loan), 0, size)
        elif choice.source is HeaderSource.RESTORED:
            self._findings.add(Rule.GAP, f"{choice.missing}; parity gave it back", 0, size)
        for corrected in (*choice.corrected, *self.left.taken):
            self._add_corrected(corrected)
        for packet in self.collected.found.headers[1:]:
            if packet.payload != choice.payload:
                self._add(Rule.HEADER_CONFLICT, "differs from the first header, which counts", packet)

    def _check_tiles(self) -> None:
        for index, packet in sorted(self.collected.found.tiles.items()):
            if index not in self.tiles:
                self._add(Rule.TILE_FORMAT, "the CRC holds but the payload breaks the format's rules", packet, index)

    def _tell_damage(self) -> None:
        for (kind, number), damaged in self.left.damaged.items():
            if kind == Kind.TILE:
                salvage, candidates = self.salvaged.get(number), self.left.candidates.get(number, ())
                cut = damaged.payload_end + layout.PAYLOAD_CRC_BYTES > len(self.collected.data)
                what = "the file ends inside the tile" if cut else "a CRC fails"
                what += kept(salvage, self.header) + guess(candidates)
                self._add_damaged(Rule.TILE_CRC, what, damaged, number)
            elif kind != Kind.HEADER or damaged.payload_end <= len(self.collected.data):
                self._add_damaged(Rule.PACKET_CRC, f"a damaged {kind_name(kind)} packet", damaged)

    def _check_gaps(self) -> None:
        """Bytes in no intact packet, but for those of damaged packets that have a finding of their own."""
        for start, end in without(((gap.start, gap.end) for gap in self.collected.gaps), self._named):
            self._findings.add(Rule.GAP, "bytes of no intact packet", start, end)

    def _check_others(self) -> None:
        numbers = {identity: number for number, identity in enumerate(self.collected.streams())}
        for identity, foreign in self.collected.foreign.items():
            what = f"{foreign.count} packets of another stream ({identity.hex()})"
            what += f", which can be had as stream {numbers[identity]}" if foreign.header else ""
            self._add(Rule.FOREIGN, what, foreign.first)
        self._findings.left_out += self.collected.foreign_more

    # --- What contradicts itself ------------------------------------------------------------------------------------

    def _check_metadata(self) -> None:
        for packet, what in self.metadata_faults:
            if packet is None:
                self._findings.add(Rule.METADATA, what)
            else:
                self._add(Rule.METADATA, what, packet)
        if len(self.collected.found.notes) != self.header.metadata_packets:
            count = f"{len(self.collected.found.notes)} metadata packets, {self.header.metadata_packets} by the header"
            self._findings.add(Rule.METADATA, count)
        elif any(number >= self.header.metadata_packets for number in self.collected.found.notes):
            self._findings.add(Rule.METADATA, "METADATA packets have numbers that the header has not")

    def _check_repeats(self) -> None:
        for packet in self.collected.found.repeated:
            if self.collected.found.is_conflict(packet):
                self._add(Rule.TILE_CONFLICT, "differs from the first intact copy, which counts", packet, packet.number)
            else:
                self._add(Rule.DUPLICATE, f"a second {kind_name(packet.kind)} packet of this number", packet)
        self._findings.left_out += self.collected.found.repeated_more

    def _check_identity(self, proof: Proof, unproven: Collection[int]) -> None:
        """Where all tiles are there, the stream id shows whether header and tiles belong together."""
        whole = len(self.tiles) == self.header.tiles
        if whole and proof.source is not HeaderSource.BORROWED and unproven:
            what = "header and tiles hash to another stream id: not all belong together"
            self._findings.add(Rule.STREAM_ID, what)

    def _check_parity(self) -> None:
        """PARITY packets say how many there are; whether their symbols are right only a repair can see."""
        found = self.collected.found.parity
        wanted: set[range] = set()
        block = None
        for packet in found.values():
            block = parse_description(packet.payload, block)
            if block is None or packet.number not in block.parity_numbers():
                self._add(Rule.PARITY, "the CRC holds but the payload breaks the format's rules", packet)
            else:
                wanted.add(block.parity_numbers())
        missing, count = absent(wanted, found)
        if missing:
            self._findings.add(Rule.PARITY, f"{missing} of {count} PARITY packets are missing or damaged")
        elif bool(found) != bool(self.header.parity):
            there = "none is there" if self.header.parity else "the header says that there is none"
            self._findings.add(Rule.PARITY, f"PARITY packets: {there}")

    def _check_whole(self) -> None:
        """Nothing is damaged: see that nothing is gone or moved either."""
        found = self.collected.found
        if found.index is None:
            self._findings.add(Rule.INDEX, "the INDEX packet is missing")
            return
        # A newer minor version may have an order of its own for packets that are not known here.
        if self.header.version <= (MAJOR, MINOR):
            first, *others = found.headers[0], *(packet for packet in found.order if packet.kind != Kind.HEADER)
            sizes = {(packet.kind, packet.number): packet.size for packet in (first, *others)}
            if arrange(sizes) != [(packet.kind, packet.number) for packet in found.order]:
                self._findings.add(Rule.ORDER, "packets are moved, or copies of the HEADER are missing")
            elif build_index(sizes) != found.index.payload:
                self._add(Rule.INDEX, "does not give the places of the tiles", found.index)

    # --- Tiles ------------------------------------------------------------------------------------------------------

    def _tile_reports(self) -> tuple[tuple[TileReport, ...], int]:
        header, found = self.header, self.collected.found
        damaged = {number: item for (kind, number), item in self.left.damaged.items() if kind == Kind.TILE}
        seen = sorted(number for number in {*damaged, *found.tiles} if number < header.tiles)
        listed: Iterable[int] = range(header.tiles) if header.tiles * LISTED <= len(self.collected.data) else seen
        reports = []
        for index in listed:
            if index in found.tiles:
                packet = found.tiles[index]
                state = TileState.INTACT if index in self.tiles else TileState.DAMAGED
                reports.append(TileReport(index, state, packet.offset, packet.size))
            elif index in damaged:
                reports.append(self._damaged_tile(index, damaged[index]))
            else:
                reports.append(TileReport(index, TileState.MISSING))
                self._findings.add(Rule.TILE_MISSING, "no packet of this tile was found", tile=index)
        missing = header.tiles - len(seen)
        if missing and len(reports) < header.tiles:
            self._findings.add(Rule.TILE_MISSING, f"{missing} of {header.tiles} tiles were not found")
        return tuple(reports), missing

    def _damaged_tile(self, index: int, damaged: DamagedPacket) -> TileReport:
        salvage = self.salvaged.get(index)
        return TileReport(
            index,
            TileState.DAMAGED,
            damaged.offset,
            damaged.payload_end + layout.PAYLOAD_CRC_BYTES - damaged.offset,
            z_salvaged=salvage is not None and salvage.z_words is not None,
            y_salvaged=salvage.pieces if salvage else 0,
            correctable=index in self.left.candidates,
        )

    # --- Findings ---------------------------------------------------------------------------------------------------

    def _add(self, rule: Rule, message: str, packet: Packet, tile: int | None = None) -> None:
        self._findings.add(rule, message, packet.offset, packet.offset + packet.size, tile)

    def _add_damaged(self, rule: Rule, message: str, damaged: DamagedPacket, tile: int | None = None) -> None:
        end = min(damaged.payload_end + layout.PAYLOAD_CRC_BYTES, len(self.collected.data))
        self._named.append((damaged.offset, end))
        self._findings.add(rule, message, damaged.offset, end, tile)

    def _add_corrected(self, corrected: Corrected) -> None:
        packet = corrected.packet
        self._named.append((packet.offset, packet.offset + packet.size))
        what = f"a damaged {kind_name(packet.kind)} packet is whole with {describe(corrected.flips)} put right"
        self._add(Rule.CORRECTED, what, packet)


def without(stretches: Iterable[tuple[int, int]], named: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The stretches [start, end) of a file, in its order, with the stretches `named` cut out of them."""
    taken = sorted(named)
    left = []
    behind = 0  # where the named ones end that are passed
    at = 0
    for gap_start, gap_end in stretches:
        start = max(gap_start, behind)
        while at < len(taken) and taken[at][0] < gap_end:
            if start < taken[at][0]:
                left.append((start, taken[at][0]))
            behind = max(behind, taken[at][1])
            start = max(start, behind)
            at += 1
        if start < gap_end:
            left.append((start, gap_end))
    return left


def absent(wanted: Iterable[range], there: Iterable[int]) -> tuple[int, int]:
    """How many numbers of the ranges `wanted` are not `there`, and how many the ranges have; each counts once."""
    numbers = sorted(there)
    missing = count = behind = 0
    for run in sorted(wanted, key=lambda run: run.start):
        start = max(run.start, behind)
        behind = max(run.stop, behind)
        count += behind - start
        missing += behind - start - (bisect_left(numbers, behind) - bisect_left(numbers, start))
    return missing, count


def kept(salvage: Salvage | None, header: Header) -> str:
    """The part of a finding that says what is left of a damaged tile."""
    if salvage is None:
        return ""
    parts = ["its z"] if salvage.z_words is not None else []
    if salvage.pieces:
        parts.append(f"{salvage.pieces} of {header.checkpoints + 1} parts of y")
    return f"; salvaged: {' and '.join(parts)}"


def guess(candidates: Sequence[Candidate]) -> str:
    """The part of a finding that says which flipped bits would explain a tile's damage."""
    ways = [describe(candidate.flips) for candidate in candidates if candidate.flips]
    if len(ways) > 1:
        return f"; {len(ways)} pairs of bits would each explain it"
    return f"; {ways[0]} would explain it" if ways else ""
