"""The proof that a network is exact, and the numbers it is made of."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest
import torch

from robuststream.errors import UnsupportedModel
from robuststream.networks.checks import check
from robuststream.networks.fixedpoint import (
    LIMITS,
    OUTSIDE,
    WEIGHT_LIMIT,
    Format,
    formats,
    output_bound,
    prove,
    quantise,
    slope_integer,
    weight_limbs,
)
from robuststream.networks.graph import Layer, Network
from robuststream.networks.narrowing import INSIDE, freeze_exact
from tests.networks import oracle


def pointwise(weight: torch.Tensor, bias: int = 0, shift: int = 1) -> Network:
    """One exact layer with a weight matrix (outputs, inputs)."""
    outputs = len(weight)
    tensors = {
        "weight": weight.to(torch.int16)[:, :, None, None],
        "bias": torch.full((outputs,), bias, dtype=torch.int64),
        "shift": torch.full((outputs,), shift, dtype=torch.int32),
    }
    attributes = {"stride": 1, "padding": 0, **INSIDE}
    return Network("t", [Layer("round", INSIDE), Layer("conv2d", attributes, tensors)])


def full(value: int, inputs: int = 1) -> torch.Tensor:
    return torch.full((1, inputs), value)


#: With so many inputs of full weights a sum reaches 2^52 - and with one fewer it does not.
MANY = 2**52 // (8127 * LIMITS[24]) + 1


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (pointwise(full(8128)), "beyond 8127"),
        (pointwise(full(-8128)), "beyond 8127"),
        (pointwise(full(-32768)), "beyond 8127"),
        (pointwise(full(8127, MANY)), "not exact"),
        (pointwise(full(1), 2**52 - LIMITS[24]), "not exact"),
        (pointwise(full(1), -(2**52) + LIMITS[24]), "not exact"),
        (pointwise(full(0), 2**52), "not exact"),
        (pointwise(full(0), -(2**63)), "not exact"),
        (Network("t", pointwise(full(1)).layers[1:]), "not rounded to 16 or 24 bits"),
    ],
)
def test_what_is_not_exact_is_refused(network, reason):
    with pytest.raises(UnsupportedModel, match=rf"network t, layer \d.*{reason}"):
        prove(network)


def test_the_largest_sums_that_hold():
    assert prove(pointwise(full(8127, MANY - 1)))[0].bits == pytest.approx(52, abs=1e-4)
    assert prove(pointwise(full(1), 2**52 - LIMITS[24] - 1))[0].bits == pytest.approx(52)
    assert prove(pointwise(full(0), 1 - 2**52))[0].layer == 1


def test_sums_of_limbs_stay_in_32_bits():
    """By the number of their terms, however small these are."""
    most = 1 << 17
    assert most * 128 * 64 < 2**31
    with pytest.raises(UnsupportedModel, match="131073 terms"):
        prove(pointwise(full(1, most + 1)))
    assert prove(pointwise(full(-64, most)))


def test_a_proof_says_the_sums_and_shifts():
    network = pointwise(torch.tensor([[3, -4], [1, 1]]), bias=-5)
    network.layers[1].tensors["shift"][1] = 9
    (proof,) = prove(network)
    assert (proof.layer, proof.shifts) == (1, (1, 9))
    assert output_bound(network.layers[1], LIMITS[24]) == 7 * LIMITS[24] + 5
    assert proof.bits == pytest.approx(log2(7 * LIMITS[24] + 5))


@pytest.mark.parametrize("shift", [0, -1, 63])
def test_shifts_out_of_range_are_refused(shift):
    with pytest.raises(UnsupportedModel, match="shifts are not 1 whole numbers from 1 to 62"):
        check(pointwise(full(1), shift=shift), exact=True)


def test_a_sum_runs_over_the_whole_kernel():
    """Of a transposed convolution over all inputs, which are its first dimension."""
    network = freeze_exact(Network("t", [oracle.layer(np.random.default_rng(1), "conv_transpose2d", 2, 3, 5, 2)]))
    weight = network.layers[1].tensors["weight"].numpy().astype(int)
    totals = np.abs(weight).sum(axis=(0, 2, 3)) * LIMITS[24] + np.abs(network.layers[1].tensors["bias"].numpy())
    assert output_bound(network.layers[1], LIMITS[24]) == totals.max()


def test_limbs_of_weights_are_narrow_and_give_them_back():
    weight = torch.arange(-WEIGHT_LIMIT - 1, WEIGHT_LIMIT + 1)[1:]
    high, low = weight_limbs(weight)
    assert high.dtype == low.dtype == torch.int8
    assert (high.long() * 128 + low.long()).tolist() == weight.tolist()
    for limb in (high, low):
        assert (int(limb.min()), int(limb.max())) in [(-63, 63), (-64, 63)]


def test_formats_follow_the_graph():
    layers = [
        Layer("relu"),
        Layer("round", {"fraction": 3, "bits": 16}),
        Layer("pixel_shuffle", {"factor": 2}),
        Layer("round", INSIDE, inputs=(3,)),
    ]
    assert formats(Network("t", layers)) == [OUTSIDE, OUTSIDE, *[Format(3, 32639)] * 2, Format(11, 8355711)]


def test_quantise_rounds_halves_upward():
    x = torch.tensor([-1.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.5, 2.5])
    assert quantise(x, 0).tolist() == [-1, -1, 0, 0, 0, 0, 1, 2, 3]
    assert quantise(x, 1).tolist() == [-3, -2, -1, 0, 0, 1, 1, 3, 5]
    assert quantise(x[:2], torch.tensor([0, 3])).tolist() == [-1, -8]
    assert quantise(x, 0).dtype == torch.int64


def test_slopes():
    assert [slope_integer(slope) for slope in ("0.01", "0.2", "1.0", "0.0")] == [655, 13107, 65536, 0]
