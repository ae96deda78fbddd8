"""Tiny models of each prior: 2 channels of y at a quarter of the picture's size, and a tile of 8 pixels."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

import robuststream as rs
from robuststream.entropy.tables import CdfTables
from robuststream.model import Model
from robuststream.modelparts import CONTEXT_MODEL, FACTORIZED, MEAN_SCALE_HYPERPRIOR, ModelParts
from robuststream.networks.graph import Layer, Network
from robuststream.priors.channel_groups import Group
from robuststream.priors.gain import Gains

M, N = 2, 2
THRESHOLDS = torch.tensor([2000, 6000], dtype=torch.int32)
TILE = 8
TEXTS = {"name": "toy"}

torch.set_num_threads(1)


def _random(shape: tuple[int, ...], size: float, seed: int) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1) * size


def _layer(operation: str, shape: tuple[int, ...], exact: bool, size: float, seed: int, **attributes: int) -> Layer:
    weight = _random(shape, size, seed)
    outputs = shape[1] if operation == "conv_transpose2d" else shape[0]
    bias = _random((outputs,), size, seed + 1)
    if exact:
        attributes["fraction_bits"] = 12
        tensors = {"weight": (weight * 4096).to(torch.int32), "bias": (bias * (1 << 24)).to(torch.int64)}
    else:
        tensors = {"weight": weight, "bias": bias}
    return Layer(operation, attributes, tensors)


def _down(name: str, shape: tuple[int, ...], stride: int, size: float) -> Network:
    return Network(name, [_layer("conv2d", shape, False, size, 1, stride=stride, padding=0)])


def _up(name: str, shape: tuple[int, ...], stride: int, exact: bool, size: float) -> Network:
    attributes = {"stride": stride, "padding": 0, "output_padding": 0}
    return Network(name, [_layer("conv_transpose2d", shape, exact, size, 2, **attributes)])


def _exact(name: str, shape: tuple[int, ...], size: float, padding: int = 0) -> Network:
    layer = _layer("conv2d", shape, True, size, 3, stride=1, padding=padding)
    if padding:  # a checkerboard: even places are hidden
        layer.tensors["weight"][..., 0::2, 0::2] = 0
        layer.tensors["weight"][..., 1::2, 1::2] = 0
    return Network(name, [layer])


def _tables(rows: int) -> CdfTables:
    random = np.random.default_rng(1)
    parts = []
    for row in range(rows):
        inner = 3 + 2 * row
        cuts = np.sort(random.choice(np.arange(1, 1 << 16), inner, replace=False))
        parts.append(np.concatenate(([0], cuts, [1 << 16])).astype(np.int32))
    lengths = np.array([len(part) for part in parts], np.int32)
    return CdfTables(np.concatenate(parts), lengths, -(lengths // 2))


def _hyperprior(parameters: int) -> dict[str, Network]:
    return {
        "g_a": _down("g_a", (M, 3, 4, 4), 4, 0.8),
        "g_s": _up("g_s", (M, 3, 4, 4), 4, False, 0.3),
        "h_a": _down("h_a", (N, M, 2, 2), 2, 0.8),
        "h_s": _up("h_s", (N, parameters, 2, 2), 2, True, 1.0),
    }


@cache
def models() -> tuple[Model, ...]:
    medians = torch.tensor([300, -700], dtype=torch.int32)
    none = torch.zeros(0, dtype=torch.int32)
    tables = _tables(len(THRESHOLDS) + 1 + N)
    factorized = {name: _hyperprior(2 * M)[name] for name in ("g_a", "g_s")}
    groups = (Group(1, context="checkerboard"), Group(1, takes=(0,)))
    context = _hyperprior(1) | {
        "y0.context_prediction": _exact("y0.context_prediction", (1, 1, 3, 3), 1.0, padding=1),
        "y1.channel_context": _exact("y1.channel_context", (1, 1, 3, 3), 1.0, padding=1),
    }
    steps = torch.tensor([1 << 16, 1 << 17], dtype=torch.int32)
    gains = Gains(
        steps, steps.flip(0) // 2, steps // 16, torch.zeros((2, 0), dtype=torch.int32), bound=450, z_tables=False
    )
    parts = [
        ModelParts(MEAN_SCALE_HYPERPRIOR, _hyperprior(2 * M), tables, medians, THRESHOLDS, texts=TEXTS),
        ModelParts(FACTORIZED, factorized, _tables(M), medians, none, texts=TEXTS),
        ModelParts(CONTEXT_MODEL, context, tables, medians, THRESHOLDS, groups, texts=TEXTS),
        ModelParts(MEAN_SCALE_HYPERPRIOR, _hyperprior(2 * M), tables, medians, THRESHOLDS, gains=gains, texts=TEXTS),
    ]
    return tuple(Model(part) for part in parts)


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), np.uint8)


@cache
def coded() -> tuple[tuple[int, bytes], ...]:
    """Streams, and the number of the model of each."""
    made = []
    for number, model in enumerate(models()):
        made.append((number, rs.encode(picture(16, 12, number), model, tile=TILE)))
        made.append((number, rs.encode(picture(9, 20, number), model, tile=TILE, mode="native")))
    made.append((0, rs.encode(picture(16, 16)[:, :, 0], models()[0], tile=TILE)))
    made.append((0, rs.encode(picture(16, 12, 7), models()[0], tile=TILE, parity=1.0)))
    return tuple(made)
