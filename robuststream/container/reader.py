"""Bytes to values, whatever happened to them: what is intact, what can be salvaged, what is wrong and where."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import construct as c

from robuststream.container import layout
from robuststream.container.borrowing import Loan, lend
from robuststream.container.correction import describe
from robuststream.container.found import Damage, Found
from robuststream.container.mending import Mender
from robuststream.container.packets import (
    MAJOR,
    MINOR,
    Candidate,
    DamagedPacket,
    Gap,
    Header,
    Kind,
    Metadata,
    MetadataType,
    Packet,
    Salvage,
    Tile,
    is_critical,
    kind_name,
)
from robuststream.container.parity import parse_description
from robuststream.container.report import MAX_FINDINGS, Finding, Findings, Rule, StreamReport, TileReport, TileState
from robuststream.container.scanner import scan_batches
from robuststream.container.writer import arrange, distances
from robuststream.errors import DamagedStream, NotARobustStream, RobustStreamError, UnsupportedVersion

if TYPE_CHECKING:
    from robuststream.container.transfer import Transfer

#: Tiles never seen are listed one by one only where the file has this many bytes a tile; a packet has 25 at least.
LISTED = 16
#: Payloads of damaged tiles are looked at for a salvage up to so many times the file's size, together. Those of true
#: packets do not overlap: they never are more than the file.
SALVAGE = 2
#: Findings of a damaged packet: its bytes are no gap's.
OWN_BYTES = (Rule.TILE_CRC, Rule.PACKET_CRC, Rule.CORRECTED)


@dataclass(frozen=True)
class Stream:
    """A stream as found: `tiles` are whole and checked, `salvaged` hold z only; all others are lost.

    `corrected` holds, for damaged tiles, what they may be with one or two bits put right: exactly one of a tile's
    candidates has to pass a decode. They may have a salvaged z as well.
    `unproven` are tiles whose copies, or the header's, contradict each other or the stream id, or all of them where the
    header itself was put right or borrowed and nothing confirms it. With all tiles at hand `owns` decides.
    `restored` are tiles that parity gave back.
    """

    header: Header
    header_payload: bytes
    stream_id: bytes
    tiles: Mapping[int, Tile]
    corrected: Mapping[int, tuple[Candidate, ...]]
    salvaged: Mapping[int, Salvage]
    unproven: Collection[int]
    metadata: Metadata
    report: StreamReport
    restored: Collection[int] = ()

    def owns(self, tiles: Mapping[int, Tile]) -> bool:
        """Whether the header and these, all the picture's tiles, hash to the stream id."""
        return layout.stream_id(self.header_payload, (tiles[index] for index in sorted(tiles))) == self.stream_id


def read_stream(data: bytes, lender: Stream | None = None) -> Stream:
    """Find the stream in `data`, damaged or not.

    Args:
        lender: another stream of the same series; where no HEADER is left in `data`, its header is borrowed.

    Raises:
        NotARobustStream: no packet is in it.
        DamagedStream: packets are in it, but no header; or the lender's does not fit.
        UnsupportedVersion: a newer format.
    """
    return _Reader(data, lender).read()


class _Reader:
    def __init__(self, data: bytes, lender: Stream | None = None, transfer: Transfer | None = None) -> None:
        self.data = data
        self.lender = lender
        #: What happened to the file on its way: undone in `data`, where that can be tried.
        self.transfer = transfer
        self.findings = Findings()
        self.loan: Loan | None = None

    def read(self) -> Stream:
        streams, gaps, damage = self._collect()
        whole = any(found.headers for found in streams.values()) and not (gaps and gaps[0].start == 0)
        if not whole and self.transfer is None:
            # Here, because it imports NumPy.
            from robuststream.container.transfer import undone

            moved = undone(self.data)
            if moved is not None:
                return self._undone(*moved, streams)
        mender = Mender(self.data, gaps, self.findings)
        identity = self._choose(streams, damage, mender)
        found = streams.pop(identity)
        header = layout.parse_header(found.headers[0].payload)
        found.damaged = damage.of(identity, header.tiles, MAX_FINDINGS)
        self._refuse_unknown(found)
        tiles = self._tiles(header, identity, found)
        corrected = mender.others(header, identity, found)
        damaged = [damage for damage in found.damaged.values() if damage.offset not in mender.taken]
        salvaged = self._salvage(header, identity, damaged, tiles, corrected)
        metadata = self._metadata(header, found)
        self._check_repeats(found)
        self._check_gaps(gaps)
        self._check_others(streams)
        unproven = self._check_identity(header, identity, found, tiles)
        if not mender.header_confirmed and len(tiles) < header.tiles:
            unproven = range(header.tiles)
        reports, missing = self._tile_reports(header, found, tiles, salvaged, corrected)
        self._check_parity(header, found)
        if not self.findings.kept:
            self._check_whole(header, found)
        report = StreamReport(
            file_bytes=len(self.data),
            stream_id=identity.hex(),
            header=header,
            packets=found.count(),
            entropy_bytes=sum(len(tile.words) for tile in tiles.values()),
            metadata_bytes=sum(packet.size for packet in found.notes.values()),
            tiles=reports,
            missing_tiles=missing,
            other_streams=tuple(other.hex() for other in streams),
            findings=self.findings.in_file_order(),
            findings_left_out=self.findings.left_out,
        )
        payload = bytes(found.headers[0].payload)
        return Stream(header, payload, identity, tiles, corrected, salvaged, unproven, metadata, report)

    def _undone(self, data: bytes, transfer: Transfer, streams: Mapping[bytes, Found]) -> Stream:
        """What is read with a transfer undone; of a transfer that only computed CRCs undo, its tiles are restored."""
        try:
            stream = _Reader(data, self.lender, transfer).read()
        except RobustStreamError as error:
            raise type(error)(f"{transfer.message} ({error})") from error
        finding = Finding(Rule.TRANSFER, transfer.message, 0, len(self.data))
        report = replace(stream.report, file_bytes=len(self.data), findings=(finding, *stream.report.findings))
        whole = streams[stream.stream_id].tiles if stream.stream_id in streams else {}
        restored = stream.tiles.keys() - whole.keys() if transfer.guessed else ()
        return replace(stream, report=report, restored=restored)

    def _collect(self) -> tuple[dict[bytes, Found], list[Gap], Damage]:
        streams: dict[bytes, Found] = {}
        gaps: list[Gap] = []
        damage = Damage()
        for event in scan_batches(self.data):
            if isinstance(event, Gap):
                gaps.append(event)
            elif isinstance(event, Packet):
                streams.setdefault(event.stream_id, Found()).add(self._in_place(event))
            else:
                damage.add(event)
        return streams, gaps, damage

    def _in_place(self, packet: Packet) -> Packet:
        """With the payload not copied, where it may be large and there may be many."""
        if packet.kind not in (Kind.TILE, Kind.PARITY):
            return packet
        end = packet.offset + packet.size - layout.PAYLOAD_CRC_BYTES
        return replace(packet, payload=memoryview(self.data)[end - len(packet.payload) : end])

    def _choose(self, streams: dict[bytes, Found], damage: Damage, mender: Mender) -> bytes:
        """The stream whose complete header comes first; without any, one whose header can be corrected or borrowed."""
        headers = [packet for found in streams.values() for packet in found.headers]
        if headers:
            return min(headers, key=lambda packet: packet.offset).stream_id
        corrected = mender.header(streams, damage)
        if corrected is not None:
            return corrected
        if not any(found.order or found.unknown for found in streams.values()):
            begin = f"they begin with {self.data[:8].hex(' ')}" if self.data else "the input is empty"
            raise NotARobustStream(f"no robuststream packet in {len(self.data)} bytes ({begin})")
        if any(packet.kind == Kind.UNIT for found in streams.values() for packet in found.unknown):
            raise DamagedStream(
                "this is a packed CompressAI unit and no stream of tiles: use robuststream.compressai.unpack"
            )
        if self.lender is not None:
            return self._borrow(self.lender, streams, mender)
        tiles = sum(len(found.tiles) for found in streams.values())
        raise DamagedStream(
            f"no HEADER packet survived in {len(self.data)} bytes ({tiles} intact tiles stand without one)"
        )

    def _borrow(self, lender: Stream, streams: Mapping[bytes, Found], mender: Mender) -> bytes:
        self.loan = loan = lend(lender, streams)
        streams[loan.identity].headers.append(Packet(Kind.HEADER, loan.identity, 0, loan.payload))
        mender.header_confirmed = loan.confirmed
        self.findings.add(Rule.HEADER_BORROWED, str(loan), 0, len(self.data))
        return loan.identity

    def _refuse_unknown(self, found: Found) -> None:
        for packet in found.unknown:
            if packet.kind == Kind.UNIT:
                raise UnsupportedVersion(f"a UNIT packet at byte {packet.offset} is no part of a stream of tiles")
            if is_critical(packet.kind):
                raise UnsupportedVersion(
                    f"packet kind {packet.kind:#04x} at byte {packet.offset} must be understood, and this release "
                    "does not know it: use a newer robuststream"
                )

    def _tiles(self, header: Header, identity: bytes, found: Found) -> dict[int, Tile]:
        tiles = {}
        for index, packet in sorted(found.tiles.items()):
            tile = layout.parse_tile(header, identity, index, packet.payload)
            if tile is None:
                self._add(Rule.TILE_FORMAT, "the CRC holds but the payload breaks the format's rules", packet, index)
            else:
                tiles[index] = tile
        return tiles

    def _salvage(
        self,
        header: Header,
        identity: bytes,
        damaged: Iterable[DamagedPacket],
        tiles: Mapping[int, Tile],
        corrected: Mapping[int, Sequence[Candidate]],
    ) -> dict[int, Salvage]:
        salvaged = {}
        left = SALVAGE * len(self.data)
        for damage in damaged:
            kind, number = damage.kind, damage.number
            if kind != Kind.TILE:
                if kind != Kind.HEADER or damage.payload_end <= len(self.data):
                    self._add_damage(Rule.PACKET_CRC, f"a damaged {kind_name(kind)} packet", damage)
            elif number not in tiles and number < header.tiles:
                left -= min(damage.payload_end, len(self.data)) - damage.payload_start
                salvage = None
                if left >= 0:
                    payload = self.data[damage.payload_start : damage.payload_end]
                    length = damage.payload_end - damage.payload_start
                    salvage = layout.salvage_tile(header, identity, number, payload, length)
                if salvage is not None:
                    salvaged[number] = salvage
                cut = damage.payload_end + layout.PAYLOAD_CRC_BYTES > len(self.data)
                what = "the file ends inside the tile" if cut else "a CRC fails"
                kept = _kept(salvage, header)
                guess = _guess(corrected.get(number, ()))
                self._add_damage(Rule.TILE_CRC, what + kept + guess, damage, number)
        return salvaged

    def _metadata(self, header: Header, found: Found) -> Metadata:
        """Join the blocks; one that is not whole is left out, and said."""
        blocks: dict[int, dict[int, bytes]] = {}
        wanted: dict[int, int] = {}
        for packet in found.notes.values():
            try:
                fields = layout.METADATA.parse(packet.payload)
            except c.ConstructError:
                fields = None
            if fields is None or fields.part >= fields.parts:
                self._add(Rule.METADATA, "the payload breaks the format's rules", packet)
                continue
            if fields.part in blocks.get(fields.type, {}) or wanted.get(fields.type, fields.parts) != fields.parts:
                self._add(Rule.METADATA, "contradicts an earlier part of the same block, which counts", packet)
                continue
            blocks.setdefault(fields.type, {})[fields.part] = fields.data
            wanted[fields.type] = fields.parts
        whole = {
            kind: b"".join(parts[part] for part in sorted(parts))
            for kind, parts in blocks.items()
            if len(parts) == wanted[kind]
        }
        for kind in blocks.keys() - whole.keys():
            self.findings.add(Rule.METADATA, f"the block of type {kind} is not whole: it is left out")
        if len(found.notes) != header.metadata_packets:
            count = f"{len(found.notes)} metadata packets, {header.metadata_packets} by the header"
            self.findings.add(Rule.METADATA, count)
        return Metadata(
            icc=whole.get(MetadataType.ICC), exif=whole.get(MetadataType.EXIF), xmp=whole.get(MetadataType.XMP)
        )

    def _check_repeats(self, found: Found) -> None:
        for packet in found.headers[1:]:
            if packet.payload != found.headers[0].payload:
                self._add(Rule.HEADER_CONFLICT, "differs from the first header, which counts", packet)
        for packet in found.repeated:
            first = found.tiles.get(packet.number) if packet.kind == Kind.TILE else None
            if first is not None and first.payload != packet.payload:
                self._add(Rule.TILE_CONFLICT, "differs from the first intact copy, which counts", packet, packet.number)
            else:
                self._add(Rule.DUPLICATE, f"a second {kind_name(packet.kind)} packet of this number", packet)

    def _check_gaps(self, gaps: Iterable[Gap]) -> None:
        """Bytes in no intact packet, less those that a damaged packet's own finding names already."""
        named = sorted((item.start or 0, item.end or 0) for item in self.findings.kept if item.rule in OWN_BYTES)
        behind = 0  # where the named ones end that are passed
        at = 0
        for gap in gaps:
            start = max(gap.start, behind)
            while at < len(named) and named[at][0] < gap.end:
                if start < named[at][0]:
                    self._add_gap(start, named[at][0])
                behind = max(behind, named[at][1])
                start = max(start, behind)
                at += 1
            if start < gap.end:
                self._add_gap(start, gap.end)

    def _check_others(self, others: Mapping[bytes, Found]) -> None:
        for identity, found in others.items():
            packets = [*found.order, *found.repeated, *found.unknown]
            first = min(packets, key=lambda packet: packet.offset)
            self._add(Rule.FOREIGN, f"{len(packets)} packets of another stream ({identity.hex()})", first)

    def _tile_reports(
        self,
        header: Header,
        found: Found,
        tiles: Mapping[int, Tile],
        salvaged: Mapping[int, Salvage],
        corrected: Collection[int],
    ) -> tuple[tuple[TileReport, ...], int]:
        damaged = {number: item for (kind, number), item in found.damaged.items() if kind == Kind.TILE}
        seen = sorted(number for number in {*tiles, *damaged, *found.tiles} if number < header.tiles)
        listed: Iterable[int] = range(header.tiles) if header.tiles * LISTED <= len(self.data) else seen
        reports = []
        for index in listed:
            if index in tiles:
                packet = found.tiles[index]
                reports.append(TileReport(index, TileState.INTACT, packet.offset, packet.size))
            elif index in found.tiles:
                packet = found.tiles[index]
                reports.append(TileReport(index, TileState.DAMAGED, packet.offset, packet.size))
            elif index in damaged:
                size = damaged[index].payload_end + layout.PAYLOAD_CRC_BYTES - damaged[index].offset
                offset = damaged[index].offset
                left = salvaged.get(index)
                reports.append(
                    TileReport(
                        index,
                        TileState.DAMAGED,
                        offset,
                        size,
                        z_salvaged=left is not None and left.z_words is not None,
                        y_salvaged=left.pieces if left else 0,
                        correctable=index in corrected,
                    )
                )
            else:
                reports.append(TileReport(index, TileState.MISSING))
                self.findings.add(Rule.TILE_MISSING, "no packet of this tile was found", tile=index)
        missing = header.tiles - len(seen)
        if missing and len(reports) < header.tiles:
            self.findings.add(Rule.TILE_MISSING, f"{missing} of {header.tiles} tiles were not found")
        return tuple(reports), missing

    def _check_identity(
        self, header: Header, identity: bytes, found: Found, tiles: Mapping[int, Tile]
    ) -> Collection[int]:
        """See that header and tiles belong together; the tiles for which something speaks against it.

        With all tiles at hand the stream id decides, whatever other copies there are.
        """
        if len(tiles) == header.tiles:
            if layout.stream_id(found.headers[0].payload, tiles.values()) == identity:
                return ()
            if self.loan is None or self.loan.confirmed:
                self.findings.add(Rule.STREAM_ID, "header and tiles hash to another stream id: not all belong together")
            return tiles.keys()
        if any(finding.rule == Rule.HEADER_CONFLICT for finding in self.findings.kept):
            return range(header.tiles)
        conflicts = {finding.tile for finding in self.findings.kept if finding.rule == Rule.TILE_CONFLICT}
        return [index for index in tiles if index in conflicts]

    def _check_parity(self, header: Header, found: Found) -> None:
        """PARITY packets say how many there are; whether their symbols are right only a repair can see."""
        wanted: set[int] = set()
        for packet in found.parity.values():
            block = parse_description(packet.payload)
            if block is None or packet.number not in block.parity_numbers():
                self._add(Rule.PARITY, "the CRC holds but the payload breaks the format's rules", packet)
            else:
                wanted.update(block.parity_numbers())
        missing = len(wanted - found.parity.keys())
        if missing:
            self.findings.add(Rule.PARITY, f"{missing} of {len(wanted)} PARITY packets are missing or damaged")
        elif bool(found.parity) != bool(header.parity):
            there = "none is there" if header.parity else "the header says that there is none"
            self.findings.add(Rule.PARITY, f"PARITY packets: {there}")

    def _check_whole(self, header: Header, found: Found) -> None:
        """Nothing is damaged: see that nothing is gone or moved either."""
        if found.index is None:
            self.findings.add(Rule.INDEX, "the INDEX packet is missing")
            return
        # A newer minor version may have an order of its own for packets that are not known here.
        if header.version <= (MAJOR, MINOR):
            expected = arrange(found.headers[0], [p for p in found.order if p.kind != Kind.HEADER])
            if [(p.kind, p.number) for p in expected] != [(p.kind, p.number) for p in found.order]:
                self.findings.add(Rule.ORDER, "packets are moved, or copies of the HEADER are missing")
                return
            if layout.INDEX.build(distances(expected)) != found.index.payload:
                self._add(Rule.INDEX, "does not give the places of the tiles", found.index)

    def _add(self, rule: Rule, message: str, packet: Packet, tile: int | None = None) -> None:
        self.findings.add(rule, message, packet.offset, packet.offset + packet.size, tile)

    def _add_damage(self, rule: Rule, message: str, damage: DamagedPacket, tile: int | None = None) -> None:
        end = min(damage.payload_end + layout.PAYLOAD_CRC_BYTES, len(self.data))
        self.findings.add(rule, message, damage.offset, end, tile)

    def _add_gap(self, start: int, end: int) -> None:
        self.findings.add(Rule.GAP, "bytes of no intact packet", start, end)


def _kept(salvage: Salvage | None, header: Header) -> str:
    if salvage is None:
        return ""
    parts = ["its z"] if salvage.z_words is not None else []
    if salvage.pieces:
        parts.append(f"{salvage.pieces} of {header.y_checkpoints + 1} parts of y")
    return f"; salvaged: {' and '.join(parts)}"


def _guess(candidates: Sequence[Candidate]) -> str:
    ways = [describe(candidate.flips) for candidate in candidates if candidate.flips]
    if len(ways) > 1:
        return f"; {len(ways)} pairs of bits would each explain it"
    return f"; {ways[0]} would explain it" if ways else ""
