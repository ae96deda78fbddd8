"""Restoring by parity: any copies, one or two, give a stream or an error; what is called whole hashes to its id."""

from __future__ import annotations

from random import Random

from fuzz import packets, streams
from fuzz.harness import Broken
from fuzz.reader import assert_sound
from robuststream.errors import DamagedStream, NotARobustStream, UnsupportedVersion
from robuststream.transfers.reading import read_restored, read_stream, restore

LARGEST = 4096
ERRORS = (NotARobustStream, DamagedStream, UnsupportedVersion)
#: Of an input: even, restore one copy; odd, two: the rest is cut in the middle.
HEAD = 1


def seeds() -> list[bytes]:
    made = streams.with_parity()
    hurt = [data[:50] + data[120:] for data in made]
    return [bytes(HEAD) + data for data in made + hurt] + [b"\1" + data + data for data in made if len(data) < 2000]


def mutate(data: bytes, limit: int, random: Random) -> bytes:
    return bytes([random.choice((0, 0, 0, 1))]) + packets.mutate(data[HEAD:], limit - HEAD, random, POOL)


def check(data: bytes) -> None:
    two, data = data[:1] == b"\1", data[HEAD:]
    middle = len(data) // 2
    copies = [data[:middle], data[middle:]] if two else [data]
    restored = restore(copies)
    if restored.whole:
        # Of a forged INDEX or METADATA nothing but its CRCs speaks.
        stream = read_stream(restored.data)
        if restored.missing or stream.unproven or len(stream.tiles) < stream.header.tiles:
            raise Broken(f"called whole, and it is not: {stream.report.findings}")
    if not two:
        assert_sound(read_restored(data), data)


POOL = [raw for data in streams.with_parity() for raw in packets.split(data)]
