"""Damage that seals nothing: whatever is done to bytes, no pixel is called exact that is not the original's.

An input is a program: which stream, then operations with their operands.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random

import atheris
import numpy as np
import torch

import robuststream as rs
from fuzz.harness import Broken
from fuzz.models import coded, models
from robuststream.container.report import PROVEN
from robuststream.picture.grid import Grid

LARGEST = 96
ERRORS = (rs.NotARobustStream, rs.DamagedStream, rs.UnsupportedVersion, rs.ModelMismatch, rs.ImageError)
OPERATIONS = 8

warnings.simplefilter("ignore", rs.DamageWarning)


@dataclass(frozen=True)
class Original:
    data: bytes
    model: rs.Model
    decoded: rs.Decoded


@cache
def originals() -> tuple[Original, ...]:
    return tuple(
        Original(data, models()[number], rs.decode(data, models()[number], strict=True)) for number, data in coded()
    )


def seeds() -> list[bytes]:
    random = Random(1)
    return [bytes([number]) + random.randbytes(6) for number in range(len(originals()))] + [b"\0"]


def mutate(data: bytes, limit: int, random: Random) -> bytes:
    return bytes(atheris.Mutate(data, limit)) if data else random.randbytes(8)


def check(program: bytes) -> None:
    steps = iter(program)
    original = originals()[next(steps, 0) % len(originals())]
    data = bytearray(original.data)
    for operation in steps:
        data = _damaged(data, operation % OPERATIONS, steps)
    out = rs.decode(bytes(data), original.model)
    wanted = next((o for o in originals() if o.decoded.report.stream_id == out.report.stream_id), None)
    if wanted is None or out.mask.shape != wanted.decoded.mask.shape:
        raise Broken("a stream that was never written")
    grid = Grid.of(out.report.header, wanted.model.latent_stride, wanted.model.factor)
    for tile in out.report.tiles:
        box = (slice(None), *grid.latent_box(tile.index).slices())
        if tile.outcome in PROVEN and not torch.equal(out.latents[box], wanted.decoded.latents[box]):
            raise Broken(f"tile {tile.index} is called {tile.outcome}, and is not the original's")
    exact = out.mask == 0
    if not np.array_equal(np.asarray(out.image)[exact], np.asarray(wanted.decoded.image)[exact]):
        raise Broken("pixels are called exact, and are not the original's")
    if out.report.intact and bytes(data) != wanted.data:
        raise Broken("called intact, and it is not what was written")


def _damaged(data: bytearray, operation: int, steps: Iterator[int]) -> bytearray:
    at = (next(steps, 0) << 8 | next(steps, 0)) % (len(data) + 1)
    count = next(steps, 0)
    if operation == 0:
        for bit in (count & 7, count >> 3 & 7)[: 1 + (count >> 6 & 1)]:
            if at < len(data):
                data[at] ^= 1 << bit
    elif operation == 1:
        data[at : at + count % 64] = bytes(next(steps, 0) for _ in range(min(count % 64, len(data) - at)))
    elif operation == 2:
        del data[at : at + count]
    elif operation == 3:
        data[at:at] = bytes(next(steps, 0) for _ in range(count % 16))
    elif operation == 4:
        data[at:at] = data[count : count + 90]
    elif operation == 5:
        data = data[at:] + data[:at]
    elif operation == 6:
        other = originals()[count % len(originals())].data
        begin = next(steps, 0) * 4 % len(other)
        data[at:at] = other[begin : begin + 150]
    else:
        del data[at + count :]
    return data
