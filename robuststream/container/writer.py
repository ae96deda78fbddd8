"""Values to bytes (spec/format.md, section 9: the order of packets)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, TypeVar

from robuststream.container import parity
from robuststream.container.layout import (
    INDEX,
    METADATA_PART,
    MetadataPart,
    build_header,
    build_metadata,
    build_packet,
    build_tile,
    stream_id,
)
from robuststream.container.packets import Buffer, Header, Kind, Metadata, Tile

#: No more than this many bytes of METADATA, TILE and PARITY packets stand between two HEADER packets (unless a single
#: packet is longer).
HEADER_INTERVAL = 32 * 1024
#: Of kinds, between the first HEADER and the last.
ORDER: dict[int, int] = {Kind.METADATA: 0, Kind.INDEX: 1, Kind.TILE: 2, Kind.PARITY: 3}


class Placed(Protocol):
    """What the order of packets hangs on."""

    @property
    def kind(self) -> int: ...
    @property
    def number(self) -> int: ...
    @property
    def size(self) -> int:
        """Of the whole packet, in bytes."""


class Slot(NamedTuple):
    """Where a packet goes."""

    kind: int
    number: int
    size: int


class RawPacket(NamedTuple):
    """A whole packet, from sync to CRC-32C."""

    kind: int
    number: int
    raw: Buffer

    @property
    def size(self) -> int:
        return len(self.raw)


AnyPacket = TypeVar("AnyPacket", bound=Placed)


def write_stream(header: Header, tiles: Sequence[Tile], metadata: Metadata | None = None) -> bytes:
    """A whole stream: the same arguments give the same bytes, always.

    Args:
        header: its `metadata_packets` is set here; its `parity` says whether PARITY packets are to be written.
        tiles: all tiles of the picture, in raster order.
        metadata: blocks to carry along.

    Raises:
        ImportError: parity without the package `raptorq`.
    """
    if [tile.index for tile in tiles] != list(range(header.tiles)):
        raise ValueError(f"{header.tiles} tiles in raster order are needed")
    parts = _metadata_payloads(metadata or Metadata())
    header = replace(header, metadata_packets=len(parts))
    payload = build_header(header)
    identity = stream_id(payload, tiles)

    def packet(kind: Kind, number: int, payload: bytes) -> RawPacket:
        return RawPacket(kind, number, build_packet(kind, identity, number, payload))

    head = packet(Kind.HEADER, 0, payload)
    notes = [packet(Kind.METADATA, number, part) for number, part in enumerate(parts)]
    bodies = [packet(Kind.TILE, tile.index, build_tile(header, identity, tile)) for tile in tiles]
    index = packet(Kind.INDEX, 0, build_index(head, [*notes, *bodies]))
    others = [*notes, index, *bodies]
    if header.parity:
        raw = [item.raw for item in (head, *others)]
        blocks = parity.plan([len(item) for item in raw], len(notes), header.parity)
        others += [RawPacket(Kind.PARITY, *item) for item in parity.parity_packets(blocks, raw, identity)]
    return b"".join(item.raw for item in arrange(head, others))


def arrange(header: AnyPacket, others: Iterable[AnyPacket]) -> list[AnyPacket]:
    """The order of packets in a file: METADATA, INDEX, TILEs, PARITY by number, with copies of HEADER between them.

    HEADER stands first, behind one third and two thirds of the tiles, last, and wherever more than 32 KiB would pass
    without one. So of three tiles and more two copies are far from either end: where both ends are gone, and some bytes
    beside, one is left. The INDEX is not counted: what it says hangs on where the copies stand, and they must not hang
    on its size.
    The reader calls this as well, to see whether a file is whole.
    """
    others = sorted(others, key=lambda packet: (ORDER[packet.kind], packet.number))
    tiles = sum(packet.kind == Kind.TILE for packet in others)
    thirds = -(-tiles // 3), -(-2 * tiles // 3)
    arranged = [header]
    since_header = 0
    for packet in others:
        counted = 0 if packet.kind == Kind.INDEX else packet.size
        third = packet.kind == Kind.TILE and packet.number in thirds
        if since_header and counted and (third or since_header + counted > HEADER_INTERVAL):
            arranged.append(header)
            since_header = 0
        arranged.append(packet)
        since_header += counted
    arranged.append(header)
    return arranged


def _metadata_payloads(metadata: Metadata) -> list[bytes]:
    payloads = []
    for kind, block in metadata.items().items():
        pieces = [block[start : start + METADATA_PART] for start in range(0, len(block), METADATA_PART)] or [b""]
        for part, piece in enumerate(pieces):
            payloads.append(build_metadata(MetadataPart(kind, part, len(pieces), piece)))
    return payloads


def build_index(header: Placed, others: Iterable[Placed]) -> bytes:
    """INDEX payload: the distance from its packet's end to tile 0, then from each tile to the next (section 7).

    Args:
        others: METADATA and TILE packets; any more make no difference.
    """
    distances = []
    distance = 0
    for packet in arrange(header, others)[1:]:
        if packet.kind == Kind.TILE:
            distances.append(distance)
            distance = 0
        # Between METADATA and the first tile the INDEX stands first, so what is summed there are copies of the HEADER.
        distance = 0 if packet.kind in (Kind.METADATA, Kind.INDEX) else distance + packet.size
    return bytes(INDEX.build(distances))
