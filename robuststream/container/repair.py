"""Put a damaged stream, or several damaged copies of it, together again (spec/format.md, section 19).

What is intact in any copy is taken; the rest is solved for by parity. Symbols inside damaged packets are found where
the packets around them say that they must be, and proven by their CRC-16; packets that were solved for are proven by
their CRC-32C; the whole by its stream id.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, permutations

from robuststream.container import layout, parity
from robuststream.container.packets import DamagedPacket, Event, Header, Kind, Packet, Tile, kind_name
from robuststream.container.parity import Block
from robuststream.container.reader import Stream, read_stream
from robuststream.container.report import Finding, Rule
from robuststream.container.scanner import scan
from robuststream.container.symbols import MAX_PLACES, Copy, Effort, Key, Places, Search
from robuststream.container.transfer import as_sent
from robuststream.container.writer import ORDER, arrange, distances
from robuststream.errors import DamagedStream, RobustStreamError

log = logging.getLogger(__name__)

#: Symbols taken out in turn, where one with the right CRC-16 must be wrong nevertheless.
MAX_SUSPECTS = 256
#: Damaged descriptions that are put together of each other, their bytes that are looked at, and how many come of it.
MAX_MIXED, MIXED_BYTES, MAX_MIXTURES = 6, 512, 1 << 11


@dataclass(frozen=True)
class Restored:
    """A stream put together.

    Attributes:
        data: all that is there, in canonical order.
        whole: nothing is missing, and header and tiles hash to the stream id: `data` is what was written.
        missing: what is not there, in words.
        needed: repair symbols that would have been needed beside those that arrived, over all blocks.
        restored: tiles that parity gave back.
    """

    data: bytes
    whole: bool
    missing: tuple[str, ...]
    needed: int
    restored: tuple[int, ...]


def restore(copies: Sequence[bytes], lender: Stream | None = None) -> Restored:
    """Restore the stream that damaged `copies` hold.

    Args:
        copies: one or more; the first HEADER among them says which stream it is.
        lender: another stream of the same series; where no HEADER is left, its header is tried.

    Raises:
        NotARobustStream: no packet is in them.
        DamagedStream: no HEADER is left, and parity does not give it back; or the lender's is not proven to be the one
            that was lost.
        ImportError: parity is there and needed, and the package `raptorq` is not.
    """
    try:
        return _restoration(copies).result()
    except DamagedStream:
        if lender is None:
            raise
        return _restore_with(copies, lender)


def _restore_with(copies: Sequence[bytes], lender: Stream) -> Restored:
    """A borrowed header is written only where the stream id proves it."""
    stream = read_stream(b"".join(copies), lender)
    header = layout.build_packet(Kind.HEADER, stream.stream_id, 0, stream.header_payload)
    restored = _restoration([*copies, header]).result()
    if not restored.whole:
        raise DamagedStream(
            f"no HEADER packet survived, and nothing proves that of stream {lender.stream_id.hex()} to be the one that "
            "was lost: no stream is made with it; decode with it instead"
        )
    return restored


def read_restored(data: bytes, lender: Stream | None = None) -> Stream:
    """Read a stream, with what its parity gives back, or else with a borrowed header. Raises as `read_stream`."""
    try:
        stream = read_stream(data)
    except DamagedStream as damage:
        restored = _restored(data)
        if restored is None:
            if lender is None:
                raise
            return read_stream(data, lender)
        stream = read_stream(restored.data)
        finding = Finding(Rule.GAP, f"{damage}; parity gave it back", 0, len(data))
        report = replace(stream.report, file_bytes=len(data), findings=(finding, *stream.report.findings))
        return replace(stream, report=report, restored=restored.restored)
    if lender is not None:
        log.warning("stream %s has a HEADER of its own: none is borrowed", stream.stream_id.hex())
    if not stream.header.parity or len(stream.tiles) == stream.header.tiles:
        return stream
    # Whoever decodes needs no PARITY packets.
    restored = _restored(data, parity=False)
    if restored is None:
        return stream
    better = read_stream(restored.data)
    if better.header_payload != stream.header_payload:
        # Its tiles are cut by another header than the one that counts.
        return stream
    tiles = {index: better.tiles[index] for index in restored.restored if index in better.tiles}
    every = {**tiles, **stream.tiles}
    unproven = stream.unproven
    if len(every) == stream.header.tiles:
        # A packet's CRCs do not say that it belongs to this header; the stream id does.
        unproven = () if stream.owns(every) else every.keys()
    return replace(
        stream,
        tiles=every,
        unproven=unproven,
        salvaged={index: item for index, item in stream.salvaged.items() if index not in tiles},
        corrected={index: item for index, item in stream.corrected.items() if index not in tiles},
        metadata=better.metadata,
        restored=tiles.keys(),
    )


def _restored(data: bytes, parity: bool = True) -> Restored | None:
    try:
        return _restoration([data]).result(parity)
    except ImportError as error:
        log.warning("the stream has parity that cannot be used: %s", error)
    except RobustStreamError:
        pass
    return None


def _restoration(copies: Sequence[bytes]) -> _Restoration:
    copies = [as_sent(data) for data in copies]
    events = [list(scan(data)) for data in copies]
    identity = _choose(copies, events)
    return _Restoration(identity, [Copy(*pair, identity) for pair in zip(copies, events, strict=True)])


def _choose(copies: Sequence[bytes], events: Sequence[Sequence[Event]]) -> bytes:
    """The stream of the first HEADER; without one, that of most packets."""
    packets = [event for listed in events for event in listed if isinstance(event, Packet)]
    for packet in packets:
        if packet.kind == Kind.HEADER:
            return packet.stream_id
    damaged = [event for listed in events for event in listed if isinstance(event, DamagedPacket)]
    ids = [packet.stream_id for packet in packets or damaged]
    if not ids:
        read_stream(copies[0])  # says why it cannot be read
    return max(ids, key=ids.count)


class _Restoration:
    def __init__(self, identity: bytes, copies: Sequence[Copy]) -> None:
        self.identity = identity
        self.copies = copies
        self.size = sum(len(copy.data) for copy in copies)
        self.effort = Effort(self.size)
        self.known: dict[Key, bytes] = {}
        for copy in copies:
            self.known = {**copy.intact, **self.known}
        self.found = set(self.known)
        self.payloads = self._parity_payloads()
        self.blocks = self._blocks()
        self.places = self._places()
        self.needed = 0

    def result(self, parity: bool = True) -> Restored:
        """All that can be restored; without `parity` lost PARITY packets are neither made again nor missed."""
        for block in self.blocks:
            if any(key not in self.known for key, _, _ in block.spans()):
                self._solve(block)
        if (Kind.HEADER, 0) not in self.known:
            more = f": {self.needed} more repair symbols are needed" if self.needed else ""
            raise DamagedStream(f"no HEADER packet survived, and parity does not give it back{more}")
        header = self._header()
        wanted = _wanted(header, self.size)
        if all(key in self.known for key in wanted if key[0] != Kind.INDEX):
            self._add_index(wanted)
            if parity:
                self._add_parity(header, wanted)
        every = set(wanted)
        missing = [key for key in wanted if key not in self.known]
        whole = not missing and self._is_the_streams(header, wanted)
        packets = [self._packet(key) for key in self.known if key in every or key[0] == Kind.PARITY]
        first, *others = sorted(packets, key=lambda packet: packet.kind != Kind.HEADER)
        tiles = tuple(number for kind, number in self.known if kind == Kind.TILE and (kind, number) not in self.found)
        return Restored(
            data=b"".join(packet.payload for packet in arrange(first, others)),
            whole=whole,
            missing=tuple(f"{kind_name(kind)} {number}" for kind, number in missing),
            needed=self.needed,
            restored=tuple(sorted(tiles)),
        )

    # --- Solving ----------------------------------------------------------------------------------------------------

    def _blocks(self) -> list[Block]:
        """As PARITY packets describe them, damaged ones too; the first description counts."""
        blocks: dict[int, Block] = {}
        # Blocks of which hardly anything arrived cannot be solved, and must not cost time.
        left = 16 * self.size
        payloads = [payload for listed in self.payloads.values() for payload, _ in listed]
        for payload in payloads + _mixtures(payloads[:MAX_MIXED]):
            block = parity.parse_description(payload)
            if block is not None and block.first not in blocks and block.length <= left:
                blocks[block.first] = block
                left -= block.length
        return [blocks[first] for first in sorted(blocks)]

    def _parity_payloads(self) -> dict[int, list[tuple[bytes, bool]]]:
        """Payloads of PARITY packets by number, the intact ones first, and whether they are intact."""
        found: dict[int, list[tuple[bytes, bool]]] = {}
        for (kind, number), raw in self.known.items():
            if kind == Kind.PARITY:
                found.setdefault(number, []).append((_payload(raw), True))
        for copy in self.copies:
            for event in copy.damaged:
                if event.kind == Kind.PARITY and len(found.setdefault(event.number, [])) < MAX_PLACES:
                    found[event.number].append((copy.data[event.payload_start : event.payload_end], False))
        return found

    def _payloads_in_place(self, block: Block) -> Iterator[tuple[int, bytes, bool]]:
        """Number and payload of the block's PARITY packets, and whether they are intact; lost ones by their places."""
        for number, size in parity.payload_sizes(block):
            listed = self.payloads.get(number, ())
            yield from ((number, *item) for item in listed)
            if any(intact for _, intact in listed):
                continue
            head = layout.packet_size(number, size) - layout.PAYLOAD_CRC_BYTES - size
            for copy, where in zip(self.copies, self.places, strict=True):
                for start in where.get((Kind.PARITY, number), ()):
                    yield number, copy.data[max(0, start + head) : max(0, start + head + size)], False

    def _solve(self, block: Block) -> None:
        """Add the packets of a block to those known, if enough of its symbols arrived."""
        repair: dict[int, bytes] = {}
        sums: list[set[int]] = [set() for _ in range(block.symbols)]
        sure = False
        for number, payload, intact in sorted(self._payloads_in_place(block), key=lambda item: not item[2]):
            repair = {**dict(parity.repair_symbols(block, number, payload)), **repair}
            # Of damaged packets every sum counts: a symbol that has any of them is right nearly for sure.
            if intact or not sure:
                for values, value in zip(sums, parity.source_sums(block, payload), strict=False):
                    values.add(value)
            sure |= intact
        fitting = {
            key: self.known[key] for key, start, end in block.spans() if len(self.known.get(key, b"")) == end - start
        }
        search = Search(block, self.copies, self.places, sums, fitting, self.effort)
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
            self.known |= solved

    def _try(self, block: Block, source: dict[int, bytes], repair: dict[int, bytes]) -> dict[Key, bytes] | None:
        solved = self._checked(block, parity.solve(block, source, repair))
        if solved is not None or len(source) + len(repair) < block.symbols:
            return solved
        # One of 65,536 wrong symbols has the right CRC-16: do without each in turn, those found last first.
        for suspect in list(reversed(source))[:MAX_SUSPECTS]:
            if self.effort.solved < 0:
                break
            self.effort.solved -= block.symbols
            rest = {index: symbol for index, symbol in source.items() if index != suspect}
            solved = self._checked(block, parity.solve(block, rest, repair))
            if solved is not None:
                return solved
        return None

    def _checked(self, block: Block, data: bytes | None) -> dict[Key, bytes] | None:
        """The packets of a block, if every one's CRCs hold."""
        if data is None:
            return None
        packets = {}
        for key, start, end in block.spans():
            raw = data[start:end]
            if not _is_packet(raw, self.identity, key):
                return None
            packets[key] = raw
        return packets

    def _places(self) -> Places:
        """For each copy, where each packet may begin."""
        sizes = {key: len(raw) for key, raw in self.known.items()}
        for block in self.blocks:
            sizes |= {key: end - start for key, start, end in block.spans()}
            sizes |= {(int(Kind.PARITY), n): layout.packet_size(n, size) for n, size in parity.payload_sizes(block)}
        packets = [Packet(kind, self.identity, number, b"", size=size) for (kind, number), size in sizes.items()]
        header = next((packet for packet in packets if packet.kind == Kind.HEADER), Packet(Kind.HEADER, b"", 0, b""))
        canonical: dict[Key, list[int]] = {}
        at = 0
        for packet in arrange(header, [packet for packet in packets if packet.kind in ORDER]):
            canonical.setdefault((packet.kind, packet.number), []).append(at)
            at += packet.size
        return [copy.places(canonical, at) for copy in self.copies]

    # --- What is there ----------------------------------------------------------------------------------------------

    def _header(self) -> Header:
        return layout.parse_header(_payload(self.known[Kind.HEADER, 0]))

    def _packet(self, key: Key) -> Packet:
        raw = self.known[key]
        return Packet(key[0], self.identity, key[1], raw, size=len(raw))

    def _add_index(self, wanted: Sequence[Key]) -> None:
        """INDEX follows from all else."""
        key = Kind.INDEX, 0
        if key in self.known:
            return
        self.known[key] = layout.build_packet(Kind.INDEX, self.identity, 0, b"")
        header, *others = [self._packet(key) for key in wanted]
        payload = layout.INDEX.build(distances(arrange(header, others)))
        self.known[key] = layout.build_packet(Kind.INDEX, self.identity, 0, payload)

    def _add_parity(self, header: Header, wanted: list[Key]) -> None:
        """PARITY follows from the packets it covers."""
        if not header.parity:
            return
        raw = [self.known[key] for key in wanted]
        blocks = parity.plan([len(item) for item in raw], header.metadata_packets, header.parity)
        numbers = [(int(Kind.PARITY), n) for block in blocks for n in block.parity_numbers()]
        wanted += numbers
        if all(key in self.known for key in numbers):
            return
        for packet in parity.parity_packets(blocks, raw, self.identity):
            self.known[packet.kind, packet.number] = bytes(packet.payload)

    def _is_the_streams(self, header: Header, wanted: Sequence[Key]) -> bool:
        tiles: list[Tile] = []
        for key in wanted:
            if key[0] == Kind.TILE:
                tile = layout.parse_tile(header, self.identity, key[1], _payload(self.known[key]))
                if tile is None:
                    return False
                tiles.append(tile)
        return layout.stream_id(_payload(self.known[Kind.HEADER, 0]), tiles) == self.identity


def _wanted(header: Header, size: int) -> list[Key]:
    """All packets of a stream but PARITY, by ordinal; of so many bytes' worth of copies.

    Raises:
        DamagedStream: the header declares more packets than there can be; nothing is allocated by them.
    """
    if header.tiles + header.metadata_packets > size:
        raise DamagedStream(f"the header declares {header.tiles} tiles, more than there are bytes: nothing to restore")
    return [parity.packet_key(n, header.metadata_packets) for n in range(header.tiles + header.metadata_packets + 2)]


def _mixtures(payloads: Sequence[bytes]) -> list[bytes]:
    """What two damaged descriptions may have been: the beginning of one, the rest of the other."""
    if any(parity.parse_description(payload) is not None for payload in payloads):
        return []
    cuts = range(1, MIXED_BYTES)
    # Where both have the same byte, a cut behind it gives what a cut before it gave.
    mixtures = (
        one[:cut] + two[cut:MIXED_BYTES]
        for one, two in permutations(payloads, 2)
        for cut in cuts
        if one[cut - 1 : cut] != two[cut - 1 : cut]
    )
    return list(islice(mixtures, MAX_MIXTURES))


def _payload(raw: bytes) -> bytes:
    head = layout.parse_packet_header(raw[: layout.MAX_PACKET_HEADER])
    assert head is not None
    return raw[head[2] : head[2] + head[0].length]


def _is_packet(raw: bytes, identity: bytes, key: Key) -> bool:
    """Whether `raw` is one intact packet of this stream, kind and number, and nothing else."""
    first = next(scan(raw), None)
    return (
        isinstance(first, Packet)
        and (first.offset, first.size) == (0, len(raw))
        and (first.stream_id, first.kind, first.number) == (identity, *key)
    )
