"""Values to bytes (spec/format.md, section 9: the order of packets)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from robuststream.container import parity
from robuststream.container.layout import (
    INDEX,
    METADATA,
    METADATA_PART,
    build_header,
    build_packet,
    build_tile,
    stream_id,
)
from robuststream.container.packets import Header, Kind, Metadata, Packet, Tile

#: No more than this many bytes stand between two HEADER packets (unless a single packet is longer).
HEADER_INTERVAL = 32 * 1024
#: Of kinds, between the first HEADER and the last.
ORDER: dict[int, int] = {Kind.METADATA: 0, Kind.INDEX: 1, Kind.TILE: 2, Kind.PARITY: 3}


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

    def packet(kind: Kind, number: int, payload: bytes) -> Packet:
        data = build_packet(kind, identity, number, payload)
        return Packet(kind, identity, number, data, size=len(data))

    head = packet(Kind.HEADER, 0, payload)
    notes = [packet(Kind.METADATA, number, part) for number, part in enumerate(parts)]
    bodies = [packet(Kind.TILE, tile.index, build_tile(header, identity, tile)) for tile in tiles]
    index = packet(Kind.INDEX, 0, b"")
    # The distances do not hang on the INDEX packet's own place or size: they begin at its end.
    index = packet(Kind.INDEX, 0, INDEX.build(distances(arrange(head, [*notes, index, *bodies]))))
    others = [*notes, index, *bodies]
    if header.parity:
        raw = [item.payload for item in (head, *others)]
        blocks = parity.plan([len(item) for item in raw], len(notes), header.parity)
        others += parity.parity_packets(blocks, raw, identity)
    return b"".join(item.payload for item in arrange(head, others))


def arrange(header: Packet, others: Iterable[Packet]) -> list[Packet]:
    """The order of packets in a file: METADATA, INDEX, TILEs, PARITY by number, with copies of HEADER between them.

    HEADER stands first, behind one third and two thirds of the tiles, last, and wherever more than 32 KiB would pass
    without one. So of three tiles and more two copies are far from either end: where both ends are gone, and some bytes
    beside, one is left.
    The reader calls this as well, to see whether a file is whole.
    """
    others = sorted(others, key=lambda packet: (ORDER[packet.kind], packet.number))
    tiles = sum(packet.kind == Kind.TILE for packet in others)
    thirds = -(-tiles // 3), -(-2 * tiles // 3)
    arranged = [header]
    since_header = 0
    for packet in others:
        third = packet.kind == Kind.TILE and packet.number in thirds
        if since_header and (third or since_header + packet.size > HEADER_INTERVAL):
            arranged.append(header)
            since_header = 0
        arranged.append(packet)
        since_header += packet.size
    arranged.append(header)
    return arranged


def _metadata_payloads(metadata: Metadata) -> list[bytes]:
    payloads = []
    for kind, block in metadata.items().items():
        pieces = [block[start : start + METADATA_PART] for start in range(0, len(block), METADATA_PART)] or [b""]
        for part, piece in enumerate(pieces):
            payloads.append(METADATA.build({"type": kind, "part": part, "parts": len(pieces), "data": piece}))
    return payloads


def distances(arranged: Sequence[Packet]) -> list[int]:
    distances = []
    distance = 0
    for packet in arranged:
        if packet.kind == Kind.TILE:
            distances.append(distance)
            distance = 0
        distance = 0 if packet.kind == Kind.INDEX else distance + packet.size
    return distances
