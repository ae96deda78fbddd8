"""Missing tiles: what is filled in, against Laplace's equation solved directly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robuststream.container.report import Outcome
from robuststream.picture.concealment import fill_missing, membrane
from robuststream.picture.grid import Grid


def solved(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Every unknown place the mean of its neighbours, as one system of equations."""
    places = {tuple(place): number for number, place in enumerate(np.argwhere(~known))}
    system, right = np.eye(len(places)), np.zeros(len(places))
    for (row, column), number in places.items():
        for down, across in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            # Beyond the border stands the place itself.
            near = (min(max(row + down, 0), len(known) - 1), min(max(column + across, 0), known.shape[1] - 1))
            if known[near]:
                right[number] += values[near] / 4
            else:
                system[number, places[near]] -= 1 / 4
    result = values.copy()
    result[~known] = np.linalg.solve(system, right)
    return result


def holes(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    known = np.ones((height, width), bool)
    for _ in range(3):
        top, left = rng.integers(0, height), rng.integers(0, width)
        known[top : top + height // 2, left : left + width // 2] = False
    known[0, 0] = True
    return known


@pytest.mark.parametrize("size", [(16, 16), (33, 20), (1, 40), (48, 7)])
@pytest.mark.parametrize("seed", range(4))
def test_a_hole_is_filled_about_as_laplace_would(seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    values = 10 * rows + 5 * columns + 20 * np.sin(rows / 3) + rng.normal(0, 2, size)
    known = holes(seed, *size)
    want = solved(values, known)
    got = membrane(torch.from_numpy(values)[None].float(), torch.from_numpy(known))[0].numpy()
    assert (got[known] == values.astype(np.float32)[known]).all()
    if not known.all():
        error = np.sqrt(((got - want)[~known] ** 2).mean())
        assert error < 0.15 * values.std()
        assert got[~known].min() >= values[known].min() - 1e-3
        assert got[~known].max() <= values[known].max() + 1e-3


def test_what_is_hidden_does_not_matter() -> None:
    known = torch.from_numpy(holes(1, 20, 20))
    values = torch.randn(3, 20, 20, generator=torch.Generator().manual_seed(1))
    other = torch.where(known, values, torch.full_like(values, 1e6))
    assert torch.equal(membrane(values, known), membrane(other, known))


def test_a_constant_goes_on() -> None:
    known = torch.from_numpy(holes(2, 31, 18))
    filled = membrane(torch.full((2, 31, 18), 7.0), known)
    assert torch.allclose(filled, torch.full_like(filled, 7.0))


def test_missing_tiles_are_filled_and_no_others() -> None:
    grid = Grid(256, 192, 64, 16, 64)
    latents = torch.randint(-(1 << 20), 1 << 20, (70, 12, 16), generator=torch.Generator().manual_seed(3)).int()
    outcomes = dict.fromkeys(range(12), Outcome.EXACT) | {5: Outcome.MISSING, 6: Outcome.MISSING}
    before = latents.clone()
    fill_missing(latents, grid, outcomes)
    changed = (latents != before).any(0)
    assert changed[4:8, 4:12].all()
    assert int(changed.sum()) == 32
    assert int(latents[:, 4:8, 4:12].abs().max()) <= int(before.abs().max())


@pytest.mark.parametrize("lost", [0, 12])
def test_nothing_to_fill_or_to_fill_from(lost: int) -> None:
    grid = Grid(256, 192, 64, 16, 64)
    latents = torch.ones((4, 12, 16), dtype=torch.int32)
    outcomes = {index: Outcome.MISSING if index < lost else Outcome.EXACT for index in range(12)}
    fill_missing(latents, grid, outcomes)
    assert (latents == 1).all()
