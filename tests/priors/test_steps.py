"""The walk's form serves priors of many steps: raster scan, checkerboard and channel groups, written here as toys.

Each hangs its entropy parameters on latents decoded before, so a decoder that meets symbols in another order, or sees a
latent too early, goes wrong at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from robuststream.entropy.tables import CdfTables
from robuststream.priors.walk import DecodingWalk, EncodingWalk, Prior, TileData, Walk
from tests.helpers import random_tables

CHANNELS, HEIGHT, WIDTH, TILES = 4, 5, 6, 3
DIGEST = bytes(range(16))


def parameters(context: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """CDF rows and means from what is known, in integers."""
    return context.abs() // 1000 % rows, context // 3


class RasterScan:
    """A position at a time, in lock-step over all tiles; context is the sum of left and upper neighbour."""

    hyper_factor, has_z = 1, False

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def analyse(self, y: Tensor) -> Mapping[str, Tensor]:
        return {"y": y}

    def walk(self, walk: Walk, height: int, width: int) -> Tensor:
        known = torch.zeros((walk.tiles, CHANNELS, height + 1, width + 1), dtype=torch.int64)
        for i in range(height):
            for j in range(width):
                rows, means = parameters(known[:, :, i, j + 1] + known[:, :, i + 1, j], self.rows)
                part = walk.code("y", lambda y, i=i, j=j: y[:, :, i, j], rows, means)
                known[:, :, i + 1, j + 1] = part
        return known[:, :, 1:, 1:]


class Checkerboard(RasterScan):
    """Anchors first, from nothing; then the others, each from the anchors beside it."""

    def walk(self, walk: Walk, height: int, width: int) -> Tensor:
        known = torch.zeros((walk.tiles, CHANNELS, height, width), dtype=torch.int64)
        parity = (torch.arange(height)[:, None] + torch.arange(width)) % 2
        for turn in (0, 1):
            context = known.roll(1, 3) + known.roll(-1, 3)
            rows, means = parameters(context, self.rows)
            chosen = parity == turn
            known[:, :, chosen] = walk.code(
                "y", lambda y, chosen=chosen: y[:, :, chosen], rows[:, :, chosen], means[:, :, chosen]
            ).long()
        return known


class ChannelGroups(RasterScan):
    """Two channels at a time, each group from the sum of those before."""

    def walk(self, walk: Walk, height: int, width: int) -> Tensor:
        known = torch.zeros((walk.tiles, CHANNELS, height, width), dtype=torch.int64)
        for first in range(0, CHANNELS, 2):
            group = slice(first, first + 2)
            context = known.sum(dim=1, keepdim=True).expand(-1, 2, -1, -1)
            rows, means = parameters(context, self.rows)
            known[:, group] = walk.code("y", lambda y, group=group: y[:, group], rows, means).long()
        return known


@pytest.fixture
def tables() -> CdfTables:
    return random_tables(np.random.default_rng(4), 9)


def encoded(prior: Prior, tables: CdfTables, y: Tensor) -> tuple[list[TileData], Tensor]:
    walk = EncodingWalk(tables, DIGEST, prior.analyse(y))
    y_hat = prior.walk(walk, HEIGHT, WIDTH)
    coded = walk.coder.finish()
    return [TileData(tile.words, digest) for tile, digest in zip(coded, walk.digest.values, strict=True)], y_hat


@pytest.mark.parametrize("kind", [RasterScan, Checkerboard, ChannelGroups])
def test_steps_round_trip_and_tiles_are_independent(kind: type[RasterScan], tables: CdfTables) -> None:
    prior = kind(tables.rows)
    y = 6 * torch.randn((TILES, CHANNELS, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(2))
    data, y_hat = encoded(prior, tables, y)
    walk = DecodingWalk(tables, DIGEST, data)
    assert torch.equal(prior.walk(walk, HEIGHT, WIDTH), y_hat)
    assert [walk.fault(tile) for tile in range(TILES)] == [None] * TILES
    assert (y_hat / 4096 - y).abs().max() <= 0.5 + 1e-6
    for tile in range(TILES):
        alone, _ = encoded(prior, tables, y[tile : tile + 1])
        assert alone == data[tile : tile + 1]


@pytest.mark.parametrize("kind", [RasterScan, Checkerboard, ChannelGroups])
def test_another_parameter_in_the_last_step_is_found(kind: type[RasterScan], tables: CdfTables) -> None:
    prior = kind(tables.rows)
    y = 6 * torch.randn((TILES, CHANNELS, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(2))
    data, _ = encoded(prior, tables, y)
    drifted = kind(tables.rows - 1)
    walk = DecodingWalk(tables, DIGEST, data)
    drifted.walk(walk, HEIGHT, WIDTH)
    assert all(walk.fault(tile) for tile in range(TILES))
