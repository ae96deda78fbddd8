"""Grids cover a picture once; windows give what the whole gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from compressai import models
from hypothesis import given
from hypothesis import strategies as st

from robuststream.networks.floating import FloatingNetwork
from robuststream.networks.graph import Network
from robuststream.networks.trace import trace
from robuststream.picture import transforms, windows
from robuststream.picture.grid import Box, Grid, by_shape
from tests.small import model, picture


@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from((64, 128, 256)))
def test_every_latent_lies_in_one_tile(width: int, height: int, tile: int) -> None:
    grid = Grid(width, height, tile, stride=16, factor=64)
    count = np.zeros((grid.latents.height, grid.latents.width), int)
    pixels = np.zeros((height, width), int)
    for index in range(grid.tiles):
        count[grid.latent_box(index).slices()] += 1
        pixels[grid.pixel_box(index).slices()] += 1
    assert (count == 1).all()
    assert (pixels == 1).all()
    assert grid.latents.height * 16 % 64 == 0
    boxes = {index: grid.latent_box(index) for index in range(grid.tiles)}
    grouped = [index for _, group in by_shape(boxes, 3) for index in group]
    assert sorted(grouped) == list(range(grid.tiles))


@pytest.mark.parametrize("architecture", ["mbt2018-mean", "bmshj2018-factorized-relu"])
def test_windows_give_what_the_whole_gives(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = model(architecture)
    grid = Grid(333, 270, 64, small.latent_stride, small.factor)
    pixels = torch.from_numpy(picture(270, 333)).permute(2, 0, 1)
    whole = transforms.analyse(pixels, small, grid)
    latents = torch.round(whole * 4096).to(torch.int32)
    picture_whole = transforms.synthesise(latents, small, grid)
    for window in (3, 7):
        monkeypatch.setattr(windows, "WINDOW", window)
        assert torch.allclose(transforms.analyse(pixels, small, grid), whole, atol=1e-4)
        assert torch.allclose(transforms.synthesise(latents, small, grid), picture_whole, atol=1e-4)


def synthesis_with_skips() -> Network:
    torch.manual_seed(3)
    return trace("g_s", models.Cheng2020Attention(N=4).eval().g_s, 4)


@pytest.mark.parametrize(
    "make", [lambda: model().parts.networks["g_s"], synthesis_with_skips], ids=["mbt2018-mean", "cheng2020-attn"]
)
def test_halo_and_reach_are_what_the_network_shows(make: Callable[[], Network]) -> None:
    """Change one latent and look: pixels change exactly within the reach, and a window with its halo sees the same."""
    network = make()
    run = FloatingNetwork(network)
    before, after = windows.synthesis_reach(network)
    place, halo = 1 + max(before, after) // 16 + 1, windows.synthesis_halo(network)
    latents = torch.randn(
        (1, network.channels[0], 2 * place + 1, 2 * place + 1), generator=torch.Generator().manual_seed(1)
    )
    changed = latents.clone()
    changed[:, :, place, place] += 10
    whole = run(latents)
    rows = (whole != run(changed)).any(dim=1)[0].any(dim=1).nonzero().flatten()
    # ReLUs may swallow a change at the very edge of the reach, behind many layers; where, hangs on the random weights,
    # which torch draws in another order where its vectors are wider.
    edge = 0 if len(network.layers) < 10 else 40
    assert place * 16 - before <= int(rows.min()) <= place * 16 - before + edge
    assert (place + 1) * 16 - 1 - edge + after <= int(rows.max()) <= (place + 1) * 16 - 1 + after
    window = run(latents[:, :, place - halo : place + 1 + halo])[:, :, halo * 16 : halo * 16 + 16]
    assert torch.allclose(window, whole[:, :, place * 16 : place * 16 + 16], atol=1e-5)


def test_halos() -> None:
    assert windows.synthesis_halo(model().parts.networks["g_s"]) == 2
    assert windows.analysis_halo(model().parts.networks["g_a"]) == 2
    # design.md: measured 30 px for mbt2018-mean, 175 for cheng2020-attn.
    assert windows.synthesis_reach(model().parts.networks["g_s"]) == (30, 15)
    assert windows.synthesis_reach(synthesis_with_skips())[0] in range(150, 200)


def test_boxes() -> None:
    box = Box(2, 3, 5, 9)
    assert (box.height, box.width) == (3, 6)
    assert box.scaled(2) == Box(4, 6, 10, 18)
    assert box.grown(3, 1, Box(0, 0, 5, 100)) == Box(0, 0, 5, 10)
