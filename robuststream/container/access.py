"""Finds tiles by the INDEX, without reading what lies between them (spec/format.md, section 7).

What was read, joined, is a stream that lost the other tiles: the reader that judges any damaged file judges it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import construct as c

from robuststream.container import layout
from robuststream.container.collect import Collected
from robuststream.container.packets import Kind
from robuststream.container.reader import read
from robuststream.container.report import Rule
from robuststream.container.stream import Stream
from robuststream.errors import RobustStreamError

#: Bytes of a file from a position on: as many as asked for, fewer at its end.
Read = Callable[[int, int], bytes]

#: What the reader says of the packets that were left out on purpose.
NOT_READ = (Rule.TILE_MISSING, Rule.PARITY)


@dataclass(frozen=True)
class Front:
    """What stands before the first tile: HEADER, METADATA and INDEX, all intact.

    Attributes:
        data: these packets.
        stream: what they tell, as a stream without tiles.
        places: where the packet of each tile begins, in bytes, if the INDEX is right.
    """

    data: bytes
    stream: Stream
    places: Sequence[int]


def read_front(read: Read) -> Front | None:
    """The front of a stream; None where not all of it is intact and in its place, so that the file must be scanned."""
    data, index = bytearray(), None
    while index is None:
        packet = _packet(read, len(data))
        if packet is None or packet[0].kind not in (Kind.HEADER, Kind.METADATA, Kind.INDEX):
            return None
        fields, raw = packet
        data += raw
        if fields.kind == Kind.INDEX:
            index = raw[-layout.PAYLOAD_CRC_BYTES - fields.length : -layout.PAYLOAD_CRC_BYTES]
    stream = _intact(bytes(data))
    if stream is None:
        return None
    try:
        distances = layout.INDEX.parse(index)
    except c.ConstructError:
        return None
    places = list(accumulate(distances, initial=len(data)))[1:]
    return Front(bytes(data), stream, places) if len(places) == stream.header.tiles else None


def read_tiles(front: Front, read: Read, wanted: Iterable[int]) -> Stream | None:
    """The stream as though these tiles alone were left of it.

    None where one of them is not intact, not where the INDEX says, another stream's, or contradicts the others, so that
    the file must be scanned.
    """
    pieces = [front.data]
    for index in wanted:
        start = front.places[index]
        packet = _packet(read, start)
        if packet is None:
            return None
        fields, raw = packet
        following = front.places[index + 1 : index + 2]
        # Tiles that overlap would be read again and again.
        overlaps = following and start + len(raw) > following[0]
        if (fields.stream_id, fields.number) != (front.stream.stream_id, index) or overlaps:
            return None
        pieces.append(raw)
    stream = _intact(b"".join(pieces))
    if stream is None or stream.tiles.keys() != set(wanted):
        return None
    # Their places in the file, not in what was joined.
    tiles = (replace(tile, offset=front.places[tile.index]) for tile in stream.report.tiles)
    report = replace(stream.report, tiles=tuple(tile for tile in tiles if tile.index in stream.tiles), findings=())
    return replace(stream, report=report)


def _packet(read: Read, start: int) -> tuple[layout.PacketFields, bytes] | None:
    """Fields and bytes of the packet that begins at `start`; its CRC-32C is left to the reader."""
    head = layout.parse_packet_header(read(start, layout.MAX_PACKET_HEADER))
    if head is None:
        return None
    fields, _, size = head
    return fields, read(start, size + fields.length + layout.PAYLOAD_CRC_BYTES)


def _intact(data: bytes) -> Stream | None:
    """The stream of these packets, if nothing is wrong with them but what is missing."""
    try:
        stream = read(Collected(data))
    except RobustStreamError:
        return None
    return stream if all(finding.rule in NOT_READ for finding in stream.report.findings) else None
