"""Parity: does it give back what it promises, and what does it cost?"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

import robuststream as rs
from bars.common import Figure, photo_paths
from robuststream.container import parity
from robuststream.container.packets import Kind, Packet
from robuststream.container.scanner import scan
from robuststream.errors import RobustStreamError
from robuststream.transfers.reading import restore

SHARE, TRIALS, LONGEST = 0.10, 10_000, 300


def parity_bar(photos: Path) -> list[Figure]:
    """Bursts, flips and deletions that hurt at most P - 2 symbols, with every HEADER and the INDEX hurt as well."""
    paths = photo_paths(photos)
    streams = [rs.encode(path, parity=SHARE) for path in paths]
    plain = [len(rs.encode(path)) for path in paths]
    random = np.random.default_rng(1)
    outcomes: Counter[bool] = Counter()
    hurt_symbols = []
    for trial in range(TRIALS):
        data = streams[trial % len(streams)]
        damaged, hurt = _damaged(data, random)
        hurt_symbols.append(hurt)
        try:
            outcomes[restore([damaged]).data == data] += 1
        except RobustStreamError:
            outcomes[False] += 1
    share = 100 * outcomes[True] / TRIALS
    cost = 100 * (sum(map(len, streams)) / sum(plain) - 1)
    return [
        Figure(f"restored byte for byte, of {TRIALS} streams", f"{share:.2f} %", ">= 99.9 %", share >= 99.9),
        Figure("symbols hurt, mean", f"{np.mean(hurt_symbols):.1f}"),
        Figure(f"bytes added by parity={SHARE}", f"{cost:.1f} %"),
    ]


def _damaged(data: bytes, random: np.random.Generator) -> tuple[bytes, int]:
    """Hits until P - 2 symbols are hurt, and how many those are."""
    packets = [event for event in scan(data) if isinstance(event, Packet)]
    block = parity.parse_description(next(p.payload for p in packets if p.kind == Kind.PARITY))
    assert block is not None
    symbol_at = _symbols(data, packets, block)
    hits = [(p.offset + int(random.integers(p.size)), 1, 0) for p in packets if p.kind in (Kind.HEADER, Kind.INDEX)]
    hurt = {symbol_at[at] for at, _, _ in hits}
    while True:
        kind = int(random.integers(3))
        length = 1 if kind == 0 else int(random.integers(1, LONGEST + 1))
        at = int(random.integers(len(data) - length))
        if any(at < other + size and other < at + length for other, size, _ in hits):
            continue  # hits that overlap would hurt more than is counted
        more = hurt | set(symbol_at[at : at + length])
        if len(more - {-1}) > block.repair - 2:
            break
        hurt = more
        hits.append((at, length, kind))
        if random.random() < 0.1:
            break
    out = bytearray(data)
    for at, length, kind in sorted(hits, reverse=True):
        if kind == 0:
            out[at] ^= 1 << int(random.integers(8))
        elif kind == 1:
            out[at : at + length] = random.bytes(length)
        else:
            del out[at : at + length]
    return bytes(out), len(hurt - {-1})


def _symbols(data: bytes, packets: list[Packet], block: parity.Block) -> list[int]:
    """For each byte of the file the symbol it belongs to, repair symbols counted on; -1 where it is in none.

    A HEADER's copies all count as the first: all of them are hurt.
    """
    owners = [-1] * len(data)
    starts = dict(zip(map(block.key, block.ordinals()), block.starts, strict=False))
    for packet in packets:
        begin = starts.get((packet.kind, packet.number))
        if begin is not None:
            owners[packet.offset : packet.offset + packet.size] = [
                (begin + place) // block.symbol for place in range(packet.size)
            ]
        else:
            held = block.repair_of(packet.number)
            end = packet.offset + packet.size - 4
            first = end - len(held) * (block.symbol + 2)
            owners[first:end] = [
                block.symbols + held[place // (block.symbol + 2)] for place in range(len(held) * (block.symbol + 2))
            ]
    return owners
