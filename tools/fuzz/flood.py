"""The search in a flood: the events of the search one by one, in a format made small so that small files are large.

And the search one by one does not work longer in vain than it may: it is what makes a scan linear.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from fuzz import packets, streams
from fuzz.harness import Broken
from fuzz.scanner import events, pieces
from robuststream.container import flood, layout, scanner

LARGEST = 512
ERRORS = ()
#: Of an input: how the rest is cut, and what the search bears before it is a flood.
HEAD = 2
#: In place of 2^20 and 2^18 bytes.
PAYLOAD, BLOCK = 200, 64
NEVER = 1 << 62

for module in (scanner, layout, flood):
    module.MAX_PAYLOAD = PAYLOAD  # type: ignore[attr-defined]
flood.BLOCK = BLOCK


def seeds() -> list[bytes]:
    lies = [packets.parse(raw) for raw in POOL]
    nested = b"".join(parts.sealed(PAYLOAD - number)[:-4] for number, parts in enumerate(lies) if parts is not None)
    files = [*streams.streams(), nested]
    return [bytes([number, number % 4]) + data[: LARGEST - HEAD] for number, data in enumerate(files)]


def mutate(data: bytes, limit: int, random: Random) -> bytes:
    return random.randbytes(HEAD) + packets.mutate(data[HEAD:], limit - HEAD, random, POOL)


def check(data: bytes) -> None:
    cut, patience, data = data[:1], data[1:HEAD], data[HEAD:]
    one_by_one = events_of([data], NEVER)
    bearing = (patience[0] % 8 if patience else 0) * scanner.HEADER_COST - 1
    with counted() as work:
        flooded = events_of(pieces(data, cut), bearing)
    if flooded != one_by_one:
        raise Broken("in a flood it gives other events")
    # One header and its payload may be too much before it is seen.
    most = max(bearing, 0) + scanner.PACE * len(data) + scanner.HEADER_COST + PAYLOAD
    if work.in_vain > most:
        raise Broken(f"{work.in_vain} of work in vain, {most} are allowed")


def events_of(parts: list[bytes], patience: int) -> list[object]:
    kept = scanner.PATIENCE
    scanner.PATIENCE = patience
    try:
        return list(events(parts))
    finally:
        scanner.PATIENCE = kept


class Work:
    """What a search one by one did in vain."""

    in_vain = 0


@contextmanager
def counted() -> Iterator[Work]:
    work, kept = Work(), scanner.Scanner._in_vain

    def in_vain(self: scanner.Scanner, found: int, summed: int) -> None:
        work.in_vain += scanner.HEADER_COST + summed
        kept(self, found, summed)

    scanner.Scanner._in_vain = in_vain  # type: ignore[method-assign]
    try:
        yield work
    finally:
        scanner.Scanner._in_vain = kept  # type: ignore[method-assign]


POOL = [raw for data in streams.streams() for raw in packets.split(data)]
