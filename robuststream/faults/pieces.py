"""Whole pieces that are lost, doubled, moved or strange: datagrams of a network, or packets of a stream.

Datagrams are what a network carries: `mtu` bytes each, counted from the first byte, the last one perhaps shorter.
Packets are the intact ones that the reader finds; bytes between them stay where they are.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import accumulate

import numpy as np

from robuststream.container.packets import Kind, Packet
from robuststream.container.scanner import scan
from robuststream.faults.chance import GilbertElliott, check_probability, generator
from robuststream.faults.cutting import put_in

#: What Ethernet carries in one frame.
ETHERNET_MTU = 1500


def lose_datagrams(
    data: bytes,
    *,
    seed: int,
    mtu: int = ETHERNET_MTU,
    rate: float | None = None,
    channel: GilbertElliott | None = None,
    lost: str = "removed",
) -> bytes:
    """Cut `data` into datagrams and lose each with probability `rate`, or as `channel` says.

    Args:
        seed: the same seed loses the same datagrams, whatever becomes of them.
        mtu: bytes a datagram.
        rate: of losses that are independent of each other.
        channel: losses in bursts; its units are datagrams, and its errors are losses.
        lost: "removed": the datagram is gone, and what follows moves up. "zeroed": its bytes are 0, as where a receiver
            knows the place of what it misses.

    Raises:
        ValueError: neither or both of rate and channel given, datagrams of no size, or another word for `lost`.
    """
    if (rate is None) == (channel is None):
        raise ValueError("give either a rate of loss or a channel")
    if lost not in ("removed", "zeroed"):
        raise ValueError(f"lost datagrams cannot be {lost!r}: use 'removed' or 'zeroed'")
    datagrams = _datagrams(data, mtu)
    random = generator(seed)
    if channel is not None:
        gone = channel.errors(len(datagrams), random)
    else:
        assert rate is not None
        check_probability(rate, "a rate of loss")
        gone = random.random(len(datagrams)) < rate
    left = bytes if lost == "zeroed" else lambda size: b""
    return b"".join(left(len(datagram)) if miss else datagram for datagram, miss in zip(datagrams, gone, strict=True))


def duplicate(data: bytes, *, seed: int, count: int = 1, mtu: int | None = None) -> bytes:
    """Let `count` different packets, or datagrams of `mtu` bytes, stand twice, the copy right behind the original.

    Raises:
        ValueError: a negative count, more than there are, or datagrams of no size.
    """
    pieces, which = _pieces(data, mtu)
    chosen = set(_choose(which, count, "doubled", generator(seed)))
    return b"".join(piece * 2 if number in chosen else piece for number, piece in enumerate(pieces))


def reorder(data: bytes, *, seed: int, count: int = 2, mtu: int | None = None) -> bytes:
    """Let `count` different packets, or datagrams of `mtu` bytes, change places: none of them stands where it stood.

    Copies of the HEADER, which are the same bytes, count as different packets.

    Raises:
        ValueError: a count that is 1 or negative, more than there are, or datagrams of no size.
    """
    if count == 1:
        raise ValueError("1 piece cannot change places: give a count of 2 or more")
    pieces, which = _pieces(data, mtu)
    chosen = _choose(which, count, "moved", generator(seed))
    moved = list(pieces)
    # In their random order each takes the place of the next, the last one that of the first: a single cycle.
    for place, number in zip([*chosen[1:], *chosen[:1]], chosen, strict=True):
        moved[place] = pieces[number]
    return b"".join(moved)


def splice(data: bytes, *, other: bytes, seed: int, count: int = 1, length: int | None = None) -> bytes:
    """Put `count` different packets of another stream between packets of this one, or runs of its bytes anywhere.

    Args:
        other: where they come from.
        length: None for packets; else bytes a run: runs from random places of `other`, which may overlap, go to random
            places of `data`.

    Raises:
        ValueError: a negative count or length, or more than there is in `other`.
    """
    random = generator(seed)
    if length is None:
        pieces, which = _pieces(other, None)
        additions = [pieces[number] for number in _choose(which, count, "taken from the other stream", random)]
        borders = [0, *accumulate(len(piece) for piece in _pieces(data, None)[0])]
        return put_in(data, [borders[int(number)] for number in random.integers(len(borders), size=count)], additions)
    if length < 0 or count < 0 or length > len(other):
        raise ValueError(f"{count} runs of {length} bytes cannot be taken from another stream of {len(other)}")
    starts = [int(start) for start in random.integers(len(other) - length + 1, size=count)]
    places = [int(place) for place in random.integers(len(data) + 1, size=count)]
    return put_in(data, places, [other[start : start + length] for start in starts])


def drop_tiles(data: bytes, *, seed: int = 0, count: int | None = None, tiles: Collection[int] | None = None) -> bytes:
    """Cut out the packets of `count` random tiles, or of the tiles named; all copies of each.

    Only intact packets are tiles here. Tiles named but not in the stream are passed over: they are gone already.

    Raises:
        ValueError: neither or both given, or more tiles than there are.
    """
    if (count is None) == (tiles is None):
        raise ValueError("give either a count of tiles or the tiles")
    packets = [event for event in scan(data) if isinstance(event, Packet) and event.kind == Kind.TILE]
    present = sorted({packet.number for packet in packets})
    if tiles is None:
        assert count is not None
        if not 0 <= count <= len(present):
            raise ValueError(f"{count} tiles cannot be dropped, the stream has {len(present)}")
        tiles = [int(n) for n in generator(seed).choice(present, count, replace=False)] if count else []
    kept, at = [], 0
    for packet in packets:
        if packet.number in tiles:
            kept.append(data[at : packet.offset])
            at = packet.offset + packet.size
    return b"".join([*kept, data[at:]])


def _pieces(data: bytes, mtu: int | None) -> tuple[list[bytes], list[int]]:
    """Pieces that join to `data`, and the numbers of those that are datagrams; intact packets where `mtu` is None."""
    if mtu is not None:
        datagrams = _datagrams(data, mtu)
        return datagrams, list(range(len(datagrams)))
    pieces: list[bytes] = []
    packets = []
    for event in scan(data):
        if isinstance(event, Packet):
            packets.append(len(pieces))
            pieces.append(data[event.offset : event.offset + event.size])
        else:
            pieces.append(data[event.start : event.end])
    return pieces, packets


def _datagrams(data: bytes, mtu: int) -> list[bytes]:
    if mtu <= 0:
        raise ValueError(f"datagrams of {mtu} bytes are not possible")
    return [data[start : start + mtu] for start in range(0, len(data), mtu)]


def _choose(which: list[int], count: int, what: str, random: np.random.Generator) -> list[int]:
    """`count` different ones, in random order."""
    if not 0 <= count <= len(which):
        raise ValueError(f"{count} pieces cannot be {what}, there are {len(which)}")
    return [int(number) for number in random.choice(which, count, replace=False)] if count else []
