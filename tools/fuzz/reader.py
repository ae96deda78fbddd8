"""The reader: any bytes give a stream that keeps the format's promises, or one of three errors.

Where the header is gone, also with one that another stream lends.
"""

from __future__ import annotations

import hashlib
import json
import struct
from random import Random

from fuzz import packets, streams
from fuzz.harness import Broken
from robuststream.container.report import MAX_FINDINGS
from robuststream.container.stream import Stream
from robuststream.errors import DamagedStream, NotARobustStream, UnsupportedVersion
from robuststream.transfers.reading import read_stream

LARGEST = 1024
ERRORS = (NotARobustStream, DamagedStream, UnsupportedVersion)


def seeds() -> list[bytes]:
    return [data[:LARGEST] for data in streams.streams()]


def mutate(data: bytes, limit: int, random: Random) -> bytes:
    return packets.mutate(data, limit, random, POOL)


def check(data: bytes) -> None:
    try:
        stream = read_stream(data)
    except DamagedStream:
        stream = read_stream(data, LENDER)
    assert_sound(stream, data)


def assert_sound(stream: Stream, data: bytes) -> None:
    """What holds of every stream that is read."""
    report, header = stream.report, stream.header
    json.dumps(report.to_json(), allow_nan=False)
    if len(report.findings) > MAX_FINDINGS or len(report.tiles) > max(len(data), 1):
        raise Broken("the report is larger than the file allows")
    for index, tile in stream.tiles.items():
        if not tile.index == index < header.tiles or len(tile.words) % 4 or len(tile.words) < 8:
            raise Broken(f"tile {index} breaks section 6")
    if stream.tiles.keys() & stream.salvaged.keys() or stream.tiles.keys() & stream.candidates.keys():
        raise Broken("a tile is both whole and damaged")
    if len(stream.tiles) == header.tiles and not stream.unproven and _identity(stream) != stream.stream_id:
        raise Broken("all tiles are taken for proven, and the stream id is not theirs")
    if report.intact and (len(stream.tiles) < header.tiles or stream.unproven):
        raise Broken("intact, with tiles missing or unproven")


def _identity(stream: Stream) -> bytes:
    digest = hashlib.sha256(stream.header_payload)
    for index in sorted(stream.tiles):
        words = stream.tiles[index].words
        digest.update(struct.pack("<I", len(words)) + words)
    return digest.digest()[:4]


LENDER = read_stream(streams.streams()[0])
POOL = [raw for data in streams.streams() for raw in packets.split(data)]
