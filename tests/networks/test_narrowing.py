"""Freezing picks, for each output channel, the largest fraction at which its weights have 14 bits."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robuststream.errors import UnsupportedModel
from robuststream.networks.checks import check
from robuststream.networks.fixedpoint import prove
from robuststream.networks.floating import FloatingNetwork
from robuststream.networks.graph import Layer, Network
from robuststream.networks.narrowing import INSIDE, freeze_exact, in_real_numbers
from tests.networks import oracle

OPERATIONS = ["conv2d", "conv_transpose2d", "depthwise_conv2d"]


def scaled(x: float, bits: int) -> int:
    return floor(Fraction(float(x)) * 2**bits + Fraction(1, 2))


def by_definition(weights: np.ndarray, bias: float) -> tuple[int, list[int], int] | None:
    """Fraction, weights and bias of one output channel, in Python's own numbers; None where there is none."""
    largest = max(abs(float(w)) for w in weights.ravel())
    for bits in range(30, 0, -1):
        if scaled(largest, bits) <= 8127 and abs(Fraction(float(bias))) * 2 ** (bits + 11) < 2**51:
            return bits, [scaled(w, bits) for w in weights.ravel()], scaled(bias, bits + 11)
    return None


def layer_of(rng: np.random.Generator, operation: str, inputs: int, outputs: int, gain: float) -> Layer:
    if operation != "depthwise_conv2d":
        return oracle.layer(rng, operation, inputs, outputs, 3, 1, gain)
    layer = oracle.layer(rng, "conv2d", 1, outputs, 3, 1, gain)
    return Layer(operation, layer.attributes, layer.tensors)


@given(st.integers(0, 2**32 - 1), st.sampled_from(OPERATIONS), st.floats(-36, 14), st.integers(1, 4), st.integers(1, 4))
def test_each_channel_has_the_largest_fraction_that_fits(seed, operation, magnitude, inputs, outputs):
    layer = layer_of(np.random.default_rng(seed), operation, inputs, outputs, 2.0**magnitude)
    weight = layer.tensors["weight"].numpy()
    weight = weight.swapaxes(0, 1) if operation == "conv_transpose2d" else weight
    expected = [by_definition(*channel) for channel in zip(weight, layer.tensors["bias"].tolist(), strict=True)]
    if None in expected:
        with pytest.raises(UnsupportedModel, match=rf"network t, layer 0 \({operation}\)"):
            freeze_exact(Network("t", [layer]))
        return
    network = freeze_exact(Network("t", [layer]))
    check(network, exact=True)
    first, frozen = network.layers
    assert (first.operation, first.attributes) == ("round", INSIDE)
    assert frozen.attributes == {**layer.attributes, "fraction": 11, "bits": 24}
    made = frozen.tensors["weight"].numpy()
    made = made.swapaxes(0, 1) if operation == "conv_transpose2d" else made
    assert frozen.tensors["shift"].tolist() == [fraction for fraction, _, _ in expected]
    assert made.reshape(len(expected), -1).tolist() == [weights for _, weights, _ in expected]
    assert frozen.tensors["bias"].tolist() == [bias for _, _, bias in expected]
    assert prove(network)


def pointwise(weight: float, bias: float = 0.0, inputs: int = 1) -> Network:
    tensors = {"weight": torch.full((1, inputs, 1, 1), weight), "bias": torch.tensor([bias])}
    return Network("t", [Layer("conv2d", {"stride": 1, "padding": 0}, tensors)])


@pytest.mark.parametrize(
    ("weight", "bias", "fraction"),
    [
        (8127.0 / 4, 0.0, 2),
        (8128.0 / 4, 0.0, 1),
        (-8127.0 / 4, 0.0, 2),
        (-8128.0 / 4, 0.0, 1),
        (0.0, 0.0, 30),
        (1e-30, 0.0, 30),
        (0.0, 2.0**10 - 1, 30),
        (0.0, 2.0**10, 29),
        (0.0, -(2.0**10), 29),
    ],
)
def test_fractions_at_their_borders(weight, bias, fraction):
    assert freeze_exact(pointwise(weight, bias)).layers[1].tensors["shift"].tolist() == [fraction]


@pytest.mark.parametrize(
    ("weight", "bias", "inputs"),
    [(4064.0, 0.0, 1), (-4064.0, 0.0, 1), (1e30, 0.0, 1), (0.0, 2.0**39, 1), (0.0, -1e30, 1), (3000.0, 0.0, 1 << 17)],
)
def test_impossible_weights_are_refused(weight, bias, inputs):
    with pytest.raises(UnsupportedModel, match=r"network t, layer 0 \(conv2d\).*too large"):
        freeze_exact(pointwise(weight, bias, inputs))


@pytest.mark.parametrize("operation", ["abs", "gdn", "sigmoid", "mul"])
def test_operation_without_an_exact_form_is_refused(operation):
    with pytest.raises(UnsupportedModel, match=rf"layer 1 \({operation}\).*no exact form"):
        freeze_exact(Network("t", [Layer("relu"), Layer(operation)]))


@pytest.mark.parametrize("make", [oracle.small, oracle.branching])
def test_real_numbers_come_back(make):
    """To within half a unit of 14 bits of each channel's largest weight."""
    network = make(np.random.default_rng(5))
    back = in_real_numbers(freeze_exact(network))
    for layer, returned in zip(network.layers, back.layers[1:], strict=True):
        assert returned.attributes == layer.attributes
        for name, tensor in layer.tensors.items():
            assert returned.tensors[name].dtype == torch.float32
            assert (returned.tensors[name] - tensor).abs().max() <= tensor.abs().max() * 2.0**-13
    x = torch.randn(1, 3, 6, 4, generator=torch.Generator().manual_seed(1))
    difference = (FloatingNetwork(back)(x) - FloatingNetwork(network)(x)).abs().max()
    assert 0 < difference < 1e-3 * FloatingNetwork(network)(x).abs().max()


def test_a_floating_network_stays_as_it_is():
    network = oracle.small(np.random.default_rng(6))
    back = in_real_numbers(network)
    for layer, returned in zip(network.layers, back.layers, strict=True):
        assert all(torch.equal(returned.tensors[name], tensor) for name, tensor in layer.tensors.items())
