"""The scanner: a file in any pieces gives the events of the whole, which cover it, and none is read again and again."""

from __future__ import annotations

from random import Random

from fuzz import packets, streams
from fuzz.harness import Broken
from robuststream.container import scanner
from robuststream.container.packets import Event, Gap, Packet

LARGEST = 512
ERRORS = ()
#: Of an input: the first says how the rest is cut.
HEAD = 1


def seeds() -> list[bytes]:
    return [bytes([number]) + data[: LARGEST - HEAD] for number, data in enumerate(streams.streams())]


def mutate(data: bytes, limit: int, random: Random) -> bytes:
    return random.randbytes(HEAD) + packets.mutate(data[HEAD:], limit - HEAD, random, POOL)


def check(data: bytes) -> None:
    cut, data = data[:HEAD], data[HEAD:]
    whole = list(events([data]))
    assert_covers(whole, data)
    if list(events(pieces(data, cut))) != whole:
        raise Broken("in pieces it gives other events")


def pieces(data: bytes, cut: bytes) -> list[bytes]:
    """Cut into runs of growing sizes, a few bytes at first."""
    found, at, size = [], 0, cut[0] % 64 + 1 if cut else 1
    while at < len(data):
        found.append(data[at : at + size])
        at += size
        size += 1 + size // 2
    return found


def events(parts: list[bytes]) -> list[Event]:
    instance = scanner.Scanner()
    found = [event for part in parts for event in instance.feed(part)]
    return found + list(instance.close())


def assert_covers(found: list[Event], data: bytes) -> None:
    """Packets and gaps follow each other from begin to end, and packets are what stands there."""
    at = 0
    for event in found:
        start, end = (event.start, event.end) if isinstance(event, Gap) else (event.offset, event.offset + event.size)
        if start != at or end <= start:
            raise Broken(f"{event} begins at {start}, {at} is where the last ended")
        if isinstance(event, Packet) and data[end - 4 - len(event.payload) : end - 4] != event.payload:
            raise Broken(f"{event} does not stand there")
        at = end
    if at != len(data):
        raise Broken(f"events end at {at} of {len(data)}")


POOL = [raw for data in streams.streams() for raw in packets.split(data)]
