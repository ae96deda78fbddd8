"""What is frozen of models of variable rate: against CompressAI's networks, and against Python's fractions."""

from __future__ import annotations

import copy
import math
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from compressai.models.base import get_scale_table
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import robuststream as rs
from robuststream.model.gains import evaluated
from tests.small import model, net

VARIABLE = ["bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr", "mbt2018-vbr"]
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
#: Whatever a small network may hold, and the smallest and largest float32 there is.
WEIGHTS = st.one_of(st.floats(-4, 4, width=32), FLOATS, st.sampled_from([2.0**-149, -(2.0**-149), 3.4e38]))


def plain(layers: list[nn.Module], x: list[Fraction]) -> list[Fraction]:
    """Layers as a textbook has them."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            weights, biases = ([*map(Fraction, row)] for row in layer.weight.tolist()), layer.bias.tolist()
            x = [
                sum((w * value for w, value in zip(row, x, strict=True)), Fraction(bias))
                for row, bias in zip(weights, biases, strict=True)
            ]
        else:
            assert isinstance(layer, nn.ReLU)
            x = [max(value, Fraction(0)) for value in x]
    return x


def linear(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight))
    layer.weight, layer.bias = (nn.Parameter(torch.tensor(values)) for values in (weight, bias))
    return layer


@given(
    st.lists(st.lists(WEIGHTS, min_size=2, max_size=2), min_size=3, max_size=3),
    st.lists(WEIGHTS, min_size=3, max_size=3),
    st.lists(WEIGHTS, min_size=4, max_size=4),
    st.lists(FLOATS, min_size=2, max_size=2),
)
def test_small_networks_are_evaluated_without_rounding(
    first: list[list[float]], biases: list[float], last: list[float], x: list[float]
) -> None:
    layers = [linear(first, biases), nn.ReLU(), linear([last[:3]], last[3:])]
    exact = plain(layers, [*map(Fraction, torch.tensor(x).tolist())])
    got = evaluated("small", nn.Sequential(*layers), torch.tensor([x]))
    assert got.tolist() == [[float(exact[0])]]


@pytest.mark.parametrize("bias", [-1e5, -750.0, -30.0, -1.0, 0.0, 0.25, 19.0, 1e5])
def test_softplus(bias: float) -> None:
    layers = nn.Sequential(linear([[1.0]], [bias]), nn.Softplus())
    got = evaluated("steps", layers, torch.tensor([[0.5]]))
    assert torch.allclose(got, layers.double()(torch.tensor([[0.5]]).double()), rtol=1e-9, atol=1e-12)
    with localcontext() as context:
        context.prec = 60
        nearest = float((1 + Decimal(bias + 0.5).exp()).ln())
    assert math.isclose(float(got), nearest, rel_tol=2**-52)


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([nn.Linear(1, 1), nn.Tanh()], r"^steps, layer 1 \(Tanh\): only Linear, ReLU and a last Softplus"),
        ([nn.Softplus(), nn.Linear(1, 1)], r"layer 0 \(Softplus\)"),
        ([nn.Linear(1, 1), nn.Softplus(beta=2.0)], r"layer 1 \(Softplus\)"),
        ([linear([[3e38]], [0.0]) for _ in range(9)], "^steps: gives values beyond the range of numbers$"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(layers: list[nn.Module], reason: str) -> None:
    with pytest.raises(rs.UnsupportedModel, match=reason):
        evaluated("steps", nn.Sequential(*layers), torch.ones(1, 1))


def rows_middles(bound: float = 0.11) -> list[Fraction]:
    """In units of 1, from CompressAI's scale table."""
    least = math.floor(bound * 4096 + 0.5)
    edges = [max(math.floor(scale * 4096 + 0.5), least) for scale in get_scale_table().double().tolist()[:-1]]
    ends = [*edges, edges[-1]]
    return [Fraction(start + end, 8192) for start, end in zip([least, *edges], ends, strict=True)]


@pytest.mark.parametrize("architecture", VARIABLE)
def test_offsets_are_the_networks_in_the_middle_of_each_row(architecture: str) -> None:
    original, gains = net(architecture), model(architecture).parts.gains
    assert gains is not None
    for quality in (0, 7):
        gain = Fraction(int(gains.gains[quality]), 1 << 16)
        exact = [plain(list(original.QuantABCD), [middle, gain])[0] for middle in rows_middles()]
        # CompressAI: q_abs - QuantABCD.
        assert gains.offsets[quality].tolist() == [math.floor(-4096 * value + Fraction(1, 2)) for value in exact]


def test_offsets_lie_between_those_of_a_rows_ends() -> None:
    """A network that falls with the scale: what CompressAI gives each element of a row is not far from its offset."""
    changed = copy.deepcopy(net("mbt2018-vbr"))
    changed.QuantABCD = nn.Sequential(linear([[0.5, 0.25]], [-0.5]))
    frozen = rs.freeze(changed).parts
    assert frozen.gains is not None
    edges = frozen.thresholds.double().clamp(min=round(0.11 * 4096)) / 4096
    for quality, gain in enumerate(changed.Gain.tolist()):
        at = 4096 * (0.5 - 0.5 * edges - 0.25 * gain)
        own = frozen.gains.offsets[quality].double()
        # The integers of thresholds, gains and offsets are each half a unit off at most.
        assert (own[1:-1] <= at[:-1] + 2).all()
        assert (own[1:-1] >= at[1:] - 2).all()
        assert abs(float(own[0]) - 4096 * (0.5 - 0.5 * 0.11 - 0.25 * gain)) <= 2


def test_a_bound_of_scales_above_thresholds() -> None:
    """CompressAI raises scales to it before the network sees them; rows below are never chosen."""
    changed = copy.deepcopy(net("bmshj2018-hyperprior-vbr"))
    with torch.no_grad():
        changed.gaussian_conditional.lower_bound_scale.bound.fill_(1.0)
    frozen = rs.freeze(changed).parts
    assert frozen.gains is not None
    lowest = int((frozen.thresholds < 4096).sum())
    assert lowest > 10
    exact = plain(list(changed.QuantABCD), [Fraction(1), Fraction(int(frozen.gains.gains[3]), 1 << 16)])[0]
    assert set(frozen.gains.offsets[3, :lowest].tolist()) == {math.floor(-4096 * exact + Fraction(1, 2))}


@torch.no_grad()
def test_z_steps_and_context_biases_are_the_networks() -> None:
    original, gains = net("mbt2018-mean-vbr"), model("mbt2018-mean-vbr").parts.gains
    assert gains is not None
    assert gains.z_tables
    steps = original.gayn2zqstep((1 / original.Gain)[:, None]).clamp(min=0.5)[:, 0]
    assert (gains.z_steps - 4096 * steps).abs().max() < 0.51
    original, gains = net("mbt2018-vbr"), model("mbt2018-vbr").parts.gains
    assert gains is not None
    assert not gains.z_tables
    assert (gains.z_steps == 4096).all()
    bias = original.scale_to_context(original.Gain[:, None])
    assert (gains.context_bias - 4096 * bias).abs().max() < 0.51


def changed_gains(value: float, architecture: str = "mbt2018-mean-vbr") -> Any:
    changed = copy.deepcopy(net(architecture))
    with torch.no_grad():
        changed.Gain[3] = value
    return changed


@pytest.mark.parametrize("architecture", VARIABLE)
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e-30, 1e9])
def test_gains_that_cannot_be(value: float, architecture: str) -> None:
    with pytest.raises(rs.UnsupportedModel, match="Gain"):
        rs.freeze(changed_gains(value, architecture))


@pytest.mark.parametrize(
    ("module", "factor", "reason"),
    [
        ("QuantABCD", 1e6, "what QuantABCD makes of scales and Gain: holds a value of size"),
        ("gayn2zqstep", 1e6, "what gayn2zqstep makes of Gain: holds a value of size"),
    ],
)
def test_outputs_beyond_the_limits_are_refused(module: str, factor: float, reason: str) -> None:
    changed = copy.deepcopy(net("mbt2018-mean-vbr"))
    with torch.no_grad():
        for parameter in getattr(changed, module)[4].parameters():
            parameter.copy_(parameter.abs() * factor)
    with pytest.raises(rs.UnsupportedModel, match=reason):
        rs.freeze(changed)


def test_gains_may_be_negative() -> None:
    """CompressAI takes their size."""
    parts = rs.freeze(changed_gains(-0.26874)).parts
    assert parts.parameters_digest() == rs.freeze(changed_gains(0.26874)).parts.parameters_digest()
