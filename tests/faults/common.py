"""Bytes to damage, and how results are compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robuststream.container.packets import Packet
from robuststream.container.scanner import scan

DATA = np.random.default_rng(5).bytes(5000)


def changed(a: bytes, b: bytes) -> list[int]:
    """Places of bytes that differ."""
    return [place for place, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]


def datagrams(data: bytes, mtu: int) -> list[bytes]:
    return [data[start : start + mtu] for start in range(0, len(data), mtu)]


def packets(data: bytes) -> list[bytes]:
    """The intact packets of a file, whole."""
    found = [event for event in scan(data) if isinstance(event, Packet)]
    return [data[packet.offset : packet.offset + packet.size] for packet in found]


def within(short: Sequence[object], long: Sequence[object]) -> bool:
    """Whether `short` is what is left of `long` after some of it is taken out."""
    rest = iter(long)
    return all(item in rest for item in short)
