"""Values to bytes (spec/format.md, section 9: the order of packets)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from robuststream.container import parity
from robuststream.container.layout import INDEX, build_header, build_packet, stream_id
from robuststream.container.metadata import split_metadata
from robuststream.container.packets import Buffer, Header, Key, Kind, Metadata, Tile
from robuststream.container.tiles import build_tile

#: No more than this many bytes of METADATA, TILE and PARITY packets stand between two HEADER packets (unless a single
#: packet is longer).
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
    parts = split_metadata(metadata or Metadata())
    header = replace(header, metadata_packets=len(parts))
    payload = build_header(header)
    identity = stream_id(payload, tiles)
    payloads: dict[Key, bytes] = {(Kind.HEADER, 0): payload}
    payloads |= {(Kind.METADATA, number): part for number, part in enumerate(parts)}
    payloads |= {(Kind.TILE, tile.index): build_tile(header, identity, tile) for tile in tiles}
    packets = {(kind, number): build_packet(kind, identity, number, body) for (kind, number), body in payloads.items()}
    return assemble(packets, identity, header.parity)


def assemble(packets: Mapping[Key, Buffer], identity: bytes, share: int, known: Mapping[Key, Buffer] = {}) -> bytes:
    """A whole stream of raw packets: one HEADER, METADATA and TILEs. INDEX and PARITY follow from them.

    Args:
        share: the header's parity.
        known: where all PARITY packets are among these, none is made.

    Raises:
        ImportError: PARITY packets are to be made, without the package `raptorq`.
    """
    raw = dict(packets)
    raw[Kind.INDEX, 0] = build_packet(Kind.INDEX, identity, 0, build_index(_sizes(raw)))
    if share:
        notes = sum(kind == Kind.METADATA for kind, _ in raw)
        by_ordinal = [raw[parity.packet_key(ordinal, notes)] for ordinal in range(len(raw))]
        blocks = parity.plan([len(item) for item in by_ordinal], notes, share)
        wanted: list[Key] = [(Kind.PARITY, number) for block in blocks for number in block.parity_numbers()]
        if all(key in known for key in wanted):
            raw |= {key: known[key] for key in wanted}
        else:
            raw |= {(Kind.PARITY, n): item for n, item in parity.parity_packets(blocks, by_ordinal, identity)}
    return b"".join(raw[key] for key in arrange(_sizes(raw)))


def _sizes(packets: Mapping[Key, Buffer]) -> dict[Key, int]:
    return {key: len(raw) for key, raw in packets.items()}


def arrange(sizes: Mapping[Key, int]) -> list[Key]:
    """The order of packets in a file: METADATA, INDEX, TILEs, PARITY by number, with copies of HEADER between them.

    HEADER stands first, behind one third and two thirds of the tiles, last, and wherever more than 32 KiB would pass
    without one. So of three tiles and more two copies are far from either end: where both ends are gone, and some bytes
    beside, one is left. The INDEX is not counted: what it says depends on where the copies stand, so they must not
    depend on its size.
    The reader calls this as well, to see whether a file is whole.

    Args:
        sizes: of the packets in bytes, among them one HEADER.
    """
    (header,) = (key for key in sizes if key[0] == Kind.HEADER)
    others = sorted(sizes.keys() - {header}, key=lambda key: (ORDER[key[0]], key[1]))
    tiles = sum(kind == Kind.TILE for kind, _ in others)
    thirds = -(-tiles // 3), -(-2 * tiles // 3)
    arranged = [header]
    since_header = 0
    for kind, number in others:
        counted = 0 if kind == Kind.INDEX else sizes[kind, number]
        third = kind == Kind.TILE and number in thirds
        if since_header and counted and (third or since_header + counted > HEADER_INTERVAL):
            arranged.append(header)
            since_header = 0
        arranged.append((kind, number))
        since_header += counted
    arranged.append(header)
    return arranged


def build_index(sizes: Mapping[Key, int]) -> bytes:
    """INDEX payload: the distance from its packet's end to tile 0, then from each tile to the next (section 7).

    Args:
        sizes: of HEADER, METADATA and TILE packets, in bytes; any more make no difference.
    """
    distances = []
    distance = 0
    for key in arrange(sizes)[1:]:
        if key[0] == Kind.TILE:
            distances.append(distance)
            distance = 0
        # Between METADATA and the first tile the INDEX stands first, so what is summed there are copies of the HEADER.
        distance = 0 if key[0] in (Kind.METADATA, Kind.INDEX) else distance + sizes[key]
    return bytes(INDEX.build(distances))
