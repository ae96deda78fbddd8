"""Bytes that become other bytes in their places."""

from __future__ import annotations

import numpy as np

from robuststream.faults.chance import GilbertElliott, check_probability, generator


def flip_bits(data: bytes, *, seed: int, count: int | None = None, rate: float | None = None) -> bytes:
    """Flip `count` different bits, or each bit with probability `rate`.

    Raises:
        ValueError: neither or both given, or more flips than bits.
    """
    if (count is None) == (rate is None):
        raise ValueError("give either a count of bits or a bit error rate")
    random = generator(seed)
    bits = 8 * len(data)
    if rate is not None:
        check_probability(rate, "a bit error rate")
        count = int(random.binomial(bits, rate))
    assert count is not None
    if not 0 <= count <= bits:
        raise ValueError(f"{count} bits cannot be flipped in {bits}")
    hurt = bytearray(data)
    for position in random.choice(bits, count, replace=False) if count else ():
        hurt[position >> 3] ^= 1 << (position & 7)
    return bytes(hurt)


def channel_errors(data: bytes, *, seed: int, channel: GilbertElliott, unit: str = "bits") -> bytes:
    """Errors in bursts, of the bits or bytes of `data` on a Gilbert-Elliott channel.

    Args:
        unit: what passes the channel one after the other. "bits", from the lowest of each byte on: a wrong one is
            flipped. "bytes": a wrong one becomes any other byte, all with the same probability.

    Raises:
        ValueError: another unit.
    """
    if unit not in ("bits", "bytes"):
        raise ValueError(f"{unit!r} do not pass a channel: use 'bits' or 'bytes'")
    random = generator(seed)
    if unit == "bits":
        change = np.packbits(channel.errors(8 * len(data), random), bitorder="little")
    else:
        wrong = channel.errors(len(data), random)
        change = np.where(wrong, random.integers(1, 256, len(data), np.uint8), np.uint8(0))
    return bytes(np.frombuffer(data, np.uint8) ^ change)


def burst(data: bytes, *, seed: int, length: int, count: int = 1) -> bytes:
    """Overwrite `count` runs of `length` bytes with random bytes, at random places, which may overlap.

    A run longer than the data covers all of it.

    Raises:
        ValueError: a negative length or count.
    """
    if length < 0 or count < 0:
        raise ValueError(f"{count} bursts of {length} bytes are not possible")
    random = generator(seed)
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
    random = generator(seed)
    hurt = bytearray(data)
    sectors = -(-len(data) // size)
    for sector in random.choice(sectors, min(count, sectors), replace=False) if sectors else ():
        start, end = int(sector) * size, min((int(sector) + 1) * size, len(data))
        hurt[start:end] = bytes(end - start)
    return bytes(hurt)
