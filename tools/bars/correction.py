"""Flipped bits put right: how many are, and whether heavier damage is ever taken for them.

python tools/benchmark.py bit-correction
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

import robuststream as rs
from bars.common import Figure, photo_paths, pixels_of
from bars.small import spread
from robuststream.checksum import crc32c
from robuststream.container.layout import PAYLOAD_CRC_BYTES, SYNC
from robuststream.container.packets import Kind, Packet
from robuststream.container.report import PROVEN, Outcome
from robuststream.container.scanner import scan
from robuststream.faults import drop_tiles
from robuststream.latents import decode_latents
from robuststream.model.anatomy import ARCHITECTURES
from robuststream.picture.grid import Grid
from robuststream.transfers.reading import read_stream

#: How often each photograph's tiles get one flipped bit each, and how often two.
ROUNDS = 7
#: Heavier damages, and those that a flip or two explains wrongly: to tiles of small models, and of the bundled one.
SMALL_TILES, REAL_TILES = 100_000, 5_000
#: Their weights are random; tiles of 157 to 449 bytes on average. The first has no z: nothing but its end state.
SMALL = ("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "mbt2018")

Random = np.random.Generator
#: Damages a packet, in place.
Damage = Callable[[bytearray, Packet, Random], None]


class Sample:
    """A stream and its latents, and what its tiles become of when damaged."""

    def __init__(self, data: bytes, model: rs.Model) -> None:
        stream = read_stream(data)
        self.model = model
        self.grid = Grid.of(stream.header, model.latent_stride, model.factor)
        self.whole = decode_latents(stream, model, self.grid).latents
        # With one tile gone the stream id can confirm nothing: each tile stands for itself.
        self.data = drop_tiles(data, tiles=[0])
        self.tiles = [item for item in scan(self.data) if isinstance(item, Packet) and item.kind == Kind.TILE]

    def outcomes(self, damage: Damage, random: Random) -> Counter[str]:
        """Damage every tile and count what becomes of them; `wrong` are those called proven that are not."""
        hurt = bytearray(self.data)
        for tile in self.tiles:
            damage(hurt, tile, random)
        decoded = decode_latents(read_stream(bytes(hurt)), self.model, self.grid)
        counts: Counter[str] = Counter()
        for tile in decoded.report.tiles[1:]:
            box = (slice(None), *self.grid.latent_box(tile.index).slices())
            same = torch.equal(decoded.latents[box], self.whole[box])
            assert tile.outcome is not None
            counts[tile.outcome.value] += 1
            counts["tiles"] += 1
            counts["candidates"] += tile.correctable
            counts["wrong"] += tile.outcome in (*PROVEN, Outcome.UNPROVEN) and not same
        return counts


def flips(count: int) -> Damage:
    """Flip `count` bits of the packet, its header included."""

    def damage(data: bytearray, tile: Packet, random: Random) -> None:
        _flip(data, 8 * tile.offset + random.choice(8 * tile.size, count, replace=False))

    return damage


def heavier(data: bytearray, tile: Packet, random: Random) -> None:
    """Three to eight flips anywhere in the packet, or near each other; or a run of bytes overwritten."""
    bits = 8 * tile.size
    kind = random.integers(3)
    if kind == 0:
        places = random.choice(bits, random.integers(3, 9), replace=False)
    elif kind == 1:
        near = random.choice(min(bits, 64), random.integers(3, 9), replace=False)
        places = near + random.integers(bits - near.max())
    else:
        length = int(random.integers(2, 25))
        start = tile.offset + int(random.integers(max(1, tile.size - length)))
        before = bytes(data[start : start + length])
        while sum((a ^ b).bit_count() for a, b in zip(before, data[start : start + length], strict=True)) < 3:
            data[start : start + length] = random.bytes(len(before))
        return
    _flip(data, 8 * tile.offset + places)


def misleading(data: bytearray, tile: Packet, random: Random) -> None:
    """Heavier damage of the payload that one or two flips explain, to another tile than was written.

    Few heavier damages are of this kind (the larger the packet, the more: one in 10 of a real tile), so it is made:
    what the flips lead to differs in 4 to 9 bits from what was written, and no valid CRC-32C in less.
    """
    head = bytes(data[tile.offset : tile.offset + tile.size - len(tile.payload) - PAYLOAD_CRC_BYTES])
    start, end = tile.offset + len(head), tile.offset + tile.size - PAYLOAD_CRC_BYTES
    bits = 8 * len(tile.payload)
    _flip(data, 8 * start + random.choice(bits, random.integers(4, 10), replace=False))
    crc = crc32c(bytes(data[start:end]), crc32c(head[len(SYNC) : -2]))
    data[end : end + PAYLOAD_CRC_BYTES] = crc.to_bytes(PAYLOAD_CRC_BYTES, "little")
    _flip(data, 8 * start + random.choice(bits + 32, random.integers(1, 3), replace=False))


def _flip(data: bytearray, places: npt.NDArray[np.int64]) -> None:
    for place in map(int, places):
        data[place >> 3] ^= 1 << (place & 7)


def _small_samples(photos: Path) -> Iterator[Sample]:
    """Pictures of many small tiles."""
    from compressai import models

    for seed, name in enumerate(SMALL):
        torch.manual_seed(seed)
        net = getattr(models, ARCHITECTURES[name][0])(8, 12).eval()
        spread(net)
        model = rs.freeze(net)
        picture = pixels_of(photo_paths(photos)[seed])[:512, :512]
        yield Sample(rs.encode(picture, model, tile=64), model)


def _damaged(samples: list[Sample], damage: Damage, tiles: int, random: Random) -> Counter[str]:
    """What becomes of so many damaged tiles, or a few more."""
    seen: Counter[str] = Counter()
    while seen["tiles"] < tiles:
        for sample in samples:
            seen += sample.outcomes(damage, random)
    return seen


def bit_correction(photos: Path) -> list[Figure]:
    """One flip and two in every tile; then damage that is not to be taken for them."""
    random = np.random.default_rng(1)
    model = rs.load_model()
    real = [Sample(rs.encode(path, model), model) for path in photo_paths(photos)]
    small = list(_small_samples(photos))
    tiles = ROUNDS * sum(len(sample.tiles) for sample in real)
    figures = []
    for what, samples, count, share in (
        ("1 flipped bit in every tile: repaired", real, 1, 1.0),
        ("2 flipped bits in every tile: repaired", real, 2, 0.99),
        ("1 flipped bit in every tile of small models: repaired", small, 1, 1.0),
        ("2 flipped bits in every tile of small models: repaired", small, 2, 0.98),
    ):
        seen = _damaged(samples, flips(count), tiles, random)
        held = seen["repaired"] >= share * seen["tiles"] and not seen["wrong"]
        figures.append(Figure(what, f"{seen['repaired']} of {seen['tiles']}", f">= {100 * share:g} %", held))
    for what, damage in (("heavier damage", heavier), ("heavier damage that flips explain wrongly", misleading)):
        for samples, wanted, where in ((small, SMALL_TILES, "small models"), (real, REAL_TILES, "bundled model")):
            seen = _damaged(samples, damage, wanted, random)
            guessed = f"{seen['tiles']} tiles of {where}, {seen['candidates']} with a candidate"
            figures.append(Figure(f"{what}, {guessed}: wrongly accepted", str(seen["wrong"]), "0", not seen["wrong"]))
    return figures
