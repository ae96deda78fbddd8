"""Freezing picks the largest scale that is proven exact; the proof accepts no other."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import floor, log2

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robuststream.errors import UnsupportedModel
from robuststream.networks.fixedpoint import freeze_exact, output_bound, prove, quantise, slope_integer
from robuststream.networks.graph import Layer, Network, check
from tests.networks import oracle


def by_definition(layer: Layer) -> tuple[int, np.ndarray, np.ndarray] | None:
    """f, weights and biases of section 14 of the format, in Python's own numbers; None where no f will do."""
    weight, bias = layer.tensors["weight"].numpy(), layer.tensors["bias"].numpy()
    if layer.operation == "conv_transpose2d":
        weight = weight.swapaxes(0, 1)
    for bits in range(20, -1, -1):
        integers = [[floor(Fraction(float(w)) * 2**bits + Fraction(1, 2)) for w in row.ravel()] for row in weight]
        biases = [floor(Fraction(float(b)) * 2 ** (bits + 12) + Fraction(1, 2)) for b in bias]
        bound = max(sum(map(abs, row)) * 2**24 + abs(b) for row, b in zip(integers, biases, strict=True))
        if bound < 2**53:
            return bits, np.array(integers).reshape(weight.shape), np.array(biases)
    return None


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["conv2d", "conv_transpose2d"]),
    st.floats(-10, 32),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_largest_scale_whose_bound_holds(seed, operation, magnitude, inputs, outputs):
    layer = oracle.layer(np.random.default_rng(seed), operation, inputs, outputs, 3, 1, 2.0**magnitude)
    expected = by_definition(layer)
    if expected is None:
        with pytest.raises(UnsupportedModel, match=rf"network t, layer 0 \({operation}\)"):
            freeze_exact(Network("t", [layer]))
        return
    bits, weight, bias = expected
    network = freeze_exact(Network("t", [layer]))
    frozen = network.layers[0]
    check(network, exact=True)
    assert frozen.attributes == {**layer.attributes, "fraction_bits": bits}
    made = frozen.tensors["weight"].numpy()
    assert (made if operation == "conv2d" else made.swapaxes(0, 1)).tolist() == weight.tolist()
    assert frozen.tensors["bias"].tolist() == bias.tolist()
    proof = prove(network)[0]
    assert (proof.layer, proof.fraction_bits) == (0, bits)
    assert proof.bits == pytest.approx(log2(max(output_bound(frozen), 1)))


def pointwise(weight: float, bias: float = 0.0, inputs: int = 1) -> Network:
    tensors = {"weight": torch.full((1, inputs, 1, 1), weight), "bias": torch.tensor([bias])}
    return Network("t", [Layer("conv2d", {"stride": 1, "padding": 0}, tensors)])


@pytest.mark.parametrize(
    ("weight", "bias", "bits"),
    [
        (511.99, 0.0, 20),  # 512 * 2^20 * 2^24 would be 2^53
        (512.0, 0.0, 19),
        (-512.0, 0.0, 19),
        (0.0, 0.0, 20),
        (0.0, 2.0**21 - 1, 20),
        (0.0, 2.0**21, 19),
        (0.0, -(2.0**21), 19),
        (2.0**29 - 32, 0.0, 0),
    ],
)
def test_scale_at_its_borders(weight, bias, bits):
    assert freeze_exact(pointwise(weight, bias)).layers[0].attributes["fraction_bits"] == bits


@pytest.mark.parametrize(
    ("weight", "bias", "inputs"),
    [(2.0**29, 0.0, 1), (1e30, 0.0, 1), (0.0, 2.0**41, 1), (0.0, -1e30, 1), (2.0**20, 0.0, 512), (2.0**30, 0.0, 1024)],
)
def test_impossible_weights_are_refused(weight, bias, inputs):
    with pytest.raises(UnsupportedModel, match=r"network t, layer 0 \(conv2d\).*too large"):
        freeze_exact(pointwise(weight, bias, inputs))


def test_many_large_weights_get_a_small_scale():
    """Where sum|w| * 2^24 no longer fits 64 bits, a bound that wraps would let any scale pass."""
    frozen = freeze_exact(pointwise(2000.0, inputs=4096)).layers[0]
    assert frozen.attributes["fraction_bits"] == 6  # 2000 * 4096 * 2^6 = 2^28.97 < 2^29
    assert output_bound(frozen) == 2000 * 64 * 4096 << 24


@pytest.mark.parametrize("operation", ["abs", "gdn", "sigmoid", "mul"])
def test_operation_without_an_exact_form_is_refused(operation):
    with pytest.raises(UnsupportedModel, match=rf"layer 1 \({operation}\).*no exact form"):
        freeze_exact(Network("t", [Layer("relu"), Layer(operation)]))


def tampered(name: str, value: torch.Tensor | None = None, bits: object = None) -> Network:
    layer = freeze_exact(pointwise(1.5)).layers[0]
    if value is not None:
        layer = replace(layer, tensors={**layer.tensors, name: value})
    if bits is not None:
        layer = replace(layer, attributes={**layer.attributes, "fraction_bits": bits})
    return Network("t", [layer])


TAMPERED = {
    "large weights": tampered("weight", torch.full((1, 4, 1, 1), 2**29, dtype=torch.int32)),
    "bound of exactly 2^53": tampered("weight", torch.full((1, 1, 1, 1), 2**29, dtype=torch.int32)),
    "smallest weights": tampered("weight", torch.full((1, 1, 1, 1), -(2**31), dtype=torch.int32)),
    "bound that wraps 64 bits to 0": tampered("weight", torch.full((1, 512, 1, 1), -(2**31), dtype=torch.int32)),
    "bound that wraps below 0": tampered("weight", torch.full((1, 256, 1, 1), -(2**31), dtype=torch.int32)),
    "large bias": tampered("bias", torch.tensor([2**53])),
    "large negative bias": tampered("bias", torch.tensor([-(2**53)])),
    "smallest bias": tampered("bias", torch.tensor([-(2**63)])),
    "bits above 20": tampered("", bits=21),
    "negative bits": tampered("", bits=-1),
    "bits as text": tampered("", bits="12"),
    "bits as a truth value": tampered("", bits=True),
    "bits with a fraction": tampered("", bits=12.0),
}


@pytest.mark.parametrize("network", TAMPERED.values(), ids=TAMPERED)
def test_tampered_network_is_not_proven(network):
    with pytest.raises(UnsupportedModel, match="network t, layer 0"):
        prove(network)


def test_untampered_network_is_proven():
    assert prove(tampered(""))[0].fraction_bits == 20


def test_the_largest_bound_that_holds():
    weight = torch.full((1, 1, 1, 1), 2**29 - 1, dtype=torch.int32)
    assert prove(tampered("weight", weight))[0].bits == pytest.approx(53)


def test_quantise_rounds_halves_upward():
    x = torch.tensor([-1.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.5, 2.5])
    assert quantise(x, 0).tolist() == [-1, -1, 0, 0, 0, 0, 1, 2, 3]
    assert quantise(x, 1).tolist() == [-3, -2, -1, 0, 0, 1, 1, 3, 5]
    assert quantise(x, 0).dtype == torch.int64


def test_slopes():
    assert [slope_integer(slope) for slope in ("0.01", "0.2", "1.0", "0.0")] == [655, 13107, 65536, 0]
