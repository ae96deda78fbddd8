"""Seeded damage for tests and demonstrations: pure functions on bytes, the same seed gives the same damage.

They compose: `truncate(flip_bits(data, seed=1, count=3), 10_000)`. Random numbers come from `numpy.random.default_rng`.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from robuststream.container.packets import Kind, Packet
from robuststream.container.reader import scan


def flip_bits(data: bytes, *, seed: int, count: int | None = None, rate: float | None = None) -> bytes:
    """Flip `count` different bits, or each bit with probability `rate`.

    Raises:
        ValueError: neither or both given, or more flips than bits.
    """
    if (count is None) == (rate is None):
        raise ValueError("give either a count of bits or a bit error rate")
    random = np.random.default_rng(seed)
    bits = 8 * len(data)
    if rate is not None:
        if not 0 <= rate <= 1:
            raise ValueError(f"a bit error rate of {rate} is not between 0 and 1")
        count = int(random.binomial(bits, rate))
    assert count is not None
    if not 0 <= count <= bits:
        raise ValueError(f"{count} bits cannot be flipped in {bits}")
    hurt = bytearray(data)
    for position in random.choice(bits, count, replace=False) if count else ():
        hurt[position >> 3] ^= 1 << (position & 7)
    return bytes(hurt)


def burst(data: bytes, *, seed: int, length: int, count: int = 1) -> bytes:
    """Overwrite `count` runs of `length` bytes with random bytes, at random places, which may overlap.

    A run longer than the data covers all of it.

    Raises:
        ValueError: a negative length or count.
    """
    if length < 0 or count < 0:
        raise ValueError(f"{count} bursts of {length} bytes are not possible")
    random = np.random.default_rng(seed)
    hurt = bytearray(data)
    length = min(length, len(data))
    for _ in range(count):
        start = int(random.integers(len(data) - length + 1))
        hurt[start : start + length] = random.bytes(length)
    return bytes(hurt)


def zero_sectors(data: bytes, *, seed: int, count: int = 1, size: int = 512) -> bytes:
    """Zero `count` aligned sectors of `size` bytes, as a failing disk leaves them; all, where there are fewer.

    Raises:
        ValueError: a negative count, or sectors of no size.
    """
    if size <= 0 or count < 0:
        raise ValueError(f"{count} sectors of {size} bytes are not possible")
    random = np.random.default_rng(seed)
    hurt = bytearray(data)
    sectors = -(-len(data) // size)
    for sector in random.choice(sectors, min(count, sectors), replace=False) if sectors else ():
        start, end = int(sector) * size, min((int(sector) + 1) * size, len(data))
        hurt[start:end] = bytes(end - start)
    return bytes(hurt)


def truncate(data: bytes, length: int) -> bytes:
    """Keep the first `length` bytes. Raises ValueError for a negative length."""
    if length < 0:
        raise ValueError(f"data cannot be cut to {length} bytes")
    return data[:length]


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
        tiles = [int(n) for n in np.random.default_rng(seed).choice(present, count, replace=False)] if count else []
    kept, at = [], 0
    for packet in packets:
        if packet.number in tiles:
            kept.append(data[at : packet.offset])
            at = packet.offset + packet.size
    return b"".join([*kept, data[at:]])
