"""Exact networks against NumPy int64, and against themselves in every setting that moves floating point."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robuststream.errors import UnsupportedModel
from robuststream.networks.engines import ENGINES
from robuststream.networks.exact import ExactNetwork
from robuststream.networks.floating import FloatingNetwork
from robuststream.networks.graph import Layer, Network
from robuststream.networks.narrowing import INSIDE, freeze_exact
from tests.networks import oracle

LIMIT = 1 << 24
HALF = Fraction(1, 2)


def integers(rng: np.random.Generator, shape: tuple[int, ...], limit: int) -> torch.Tensor:
    return torch.from_numpy(rng.integers(-limit, limit + 1, shape))


def equal_to_oracle(network: Network, x: torch.Tensor) -> np.ndarray:
    """In every engine."""
    expected = oracle.run(network, x.numpy().astype(np.int64))
    for name, engine in ENGINES.items():
        y = ExactNetwork(network, engine=engine)(x)
        assert y.dtype == torch.float64
        assert y.shape == expected.shape
        assert (y.numpy() == expected).all(), name
    return expected


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["conv2d", "conv_transpose2d", "depthwise_conv2d"]),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from([(1, 1), (3, 1), (5, 2), (4, 2), (3, 2), (2, 2), (5, 1), (7, 3), (3, 3)]),
    st.sampled_from([1e-6, 0.01, 1.0, 100.0]),
    st.integers(1, 6),
    st.sampled_from([1 << 8, 1 << 15, LIMIT]),
)
def test_one_convolution_equals_int64(seed, operation, inputs, outputs, kernel_stride, gain, size, limit):
    rng = np.random.default_rng(seed)
    kernel, stride = kernel_stride
    if operation == "conv_transpose2d" and kernel % 2 == 0 and stride % 2:
        kernel += 1
    if operation == "depthwise_conv2d":
        layer = oracle.layer(rng, "conv2d", 1, inputs, kernel, stride, gain)
        layer = Layer(operation, layer.attributes, layer.tensors)
    else:
        layer = oracle.layer(rng, operation, inputs, outputs, kernel, stride, gain)
    network = freeze_exact(Network("t", [layer]))
    factor = 1 if operation == "conv_transpose2d" else stride
    equal_to_oracle(network, integers(rng, (2, inputs, size * factor, (size + 1) * factor), limit))


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 2.0, 30.0]), st.sampled_from([1 << 12, 1 << 17, LIMIT]))
def test_whole_networks_equal_int64(seed, gain, limit):
    rng = np.random.default_rng(seed)
    network = freeze_exact(oracle.small(rng, gain=gain))
    equal_to_oracle(network, integers(rng, (2, 3, 4, 3), limit))


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 20.0]), st.sampled_from([1 << 12, LIMIT]))
def test_networks_with_skips_equal_int64(seed, gain, limit):
    rng = np.random.default_rng(seed)
    network = freeze_exact(oracle.branching(rng, gain=gain))
    equal_to_oracle(network, integers(rng, (2, 3, 5, 4), limit))


@pytest.mark.parametrize("architecture", ["bmshj2018-hyperprior", "mbt2018-mean"])
def test_hyper_synthesis_of_compressai_equals_int64(architecture):
    small = pytest.importorskip("tests.small", reason="compressai is not installed")
    from robuststream.networks.trace import trace

    network = freeze_exact(trace("h_s", small.net(architecture).h_s, 8))
    output = equal_to_oracle(network, integers(np.random.default_rng(1), (2, 8, 4, 3), 20 << 12))
    assert len(np.unique(output)) > 100


def test_exact_is_close_to_float32():
    """The scale is right: integers at 2^-12 stand for the float network's values."""
    rng = np.random.default_rng(2)
    network = oracle.small(rng)
    x = integers(rng, (2, 3, 5, 5), 3 << 12)
    exact = ExactNetwork(freeze_exact(network))(x) / 4096
    floating = FloatingNetwork(network)(x.float() / 4096)
    assert floating.abs().max() > 1
    assert (exact - floating).abs().max() < 0.005


# --- The same result however it is computed ------------------------------------------------------------------------


@contextmanager
def threads(count: int):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


SETTINGS = {
    "one thread": lambda: threads(1),
    "two threads": lambda: threads(2),
    "oneDNN off": lambda: torch.backends.mkldnn.flags(enabled=False),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "gradients wanted": torch.enable_grad,
    "nothing": nullcontext,
}


@pytest.fixture(scope="module")
def sample() -> tuple[Network, torch.Tensor, np.ndarray]:
    """A network with large sums, where any rounding would show; its input; what int64 makes of it."""
    rng = np.random.default_rng(3)
    network = freeze_exact(oracle.small(rng, (16, 24, 12), gain=4.0))
    x = integers(rng, (4, 16, 6, 5), LIMIT)
    return network, x, oracle.run(network, x.numpy())


def test_the_sample_uses_the_range(sample):
    network, _, expected = sample
    assert max(bound.bits for bound in ExactNetwork(network).bounds) > 42
    assert len(np.unique(expected)) > 1000


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_setting_changes_nothing(sample, setting):
    network, x, expected = sample
    run = ExactNetwork(network)
    with setting():
        y = run(x)
    assert y.dtype == torch.float64
    assert (y.numpy() == expected).all()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32, torch.float64])
def test_dtype_of_the_input_changes_nothing(sample, dtype):
    network, x, expected = sample
    assert (ExactNetwork(network)(x.to(dtype)).numpy() == expected).all()


def test_memory_format_changes_nothing(sample):
    network, x, expected = sample
    y = ExactNetwork(network)(x.double().to(memory_format=torch.channels_last))
    assert (y.numpy() == expected).all()


def test_one_by_one_equals_a_batch(sample):
    network, x, expected = sample
    run = ExactNetwork(network)
    for number in range(len(x)):
        assert (run(x[number : number + 1]).numpy() == expected[number : number + 1]).all()


def test_two_threads_at_once(sample):
    network, x, expected = sample
    run = ExactNetwork(network)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda number: run(x[number % 4 : number % 4 + 1]).numpy(), range(24)))
    for number, result in enumerate(results):
        assert (result[0] == expected[number % 4]).all()


@pytest.mark.parametrize("seed", range(3))
def test_order_of_every_sum_changes_nothing(sample, seed):
    """Each layer's input channels in another order, and the outputs before them likewise."""
    network, x, expected = sample
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(x.shape[1], generator=random)
    x = x[:, order]
    layers = []
    for layer in network.layers:
        if "weight" in layer.tensors:
            inputs, outputs = (0, 1) if layer.operation == "conv_transpose2d" else (1, 0)
            weight, bias = layer.tensors["weight"].index_select(inputs, order), layer.tensors["bias"]
            order = torch.randperm(len(bias), generator=random)
            tensors = {"weight": weight.index_select(outputs, order), "bias": bias[order]}
            tensors["shift"] = layer.tensors["shift"][order]
            layer = Layer(layer.operation, layer.attributes, tensors)
        layers.append(layer)
    y = ExactNetwork(Network("permuted", layers))(x)
    assert (y.numpy() == expected[:, order.numpy()]).all()


def test_a_call_leaves_its_input_alone(sample):
    network, x, _ = sample
    given_x = (x * 2).double()
    before = given_x.clone()
    ExactNetwork(network)(given_x)
    assert (given_x == before).all()


# --- Saturation and rounding ----------------------------------------------------------------------------------------


def pointwise(weight: list[int], bias: int = 0, shift: int = 1, **format: int) -> Network:
    """One input, an output for each weight."""
    count = len(weight)
    tensors = {
        "weight": torch.tensor(weight, dtype=torch.int16).reshape(-1, 1, 1, 1),
        "bias": torch.full((count,), bias, dtype=torch.int64),
        "shift": torch.full((count,), shift, dtype=torch.int32),
    }
    attributes = {"stride": 1, "padding": 0, **INSIDE, **format}
    return Network("t", [Layer("round", {"fraction": 12, "bits": 24}), Layer("conv2d", attributes, tensors)])


def of_each(network: Network, values: list[int]) -> list[int]:
    """The first output of single places, the same in every engine."""
    x = torch.tensor(values).reshape(-1, 1, 1, 1)
    results = [ExactNetwork(network, engine=engine)(x).flatten().tolist() for engine in ENGINES.values()]
    assert all(result == results[0] for result in results)
    return results[0]


def test_input_saturates():
    network = Network("t", [Layer("relu")])
    y = ExactNetwork(network)(torch.tensor([-(2.0**40), -LIMIT - 1, LIMIT, LIMIT + 1, 2.0**60]).reshape(5, 1, 1, 1))
    assert y.flatten().tolist() == [0, 0, LIMIT, LIMIT, LIMIT]


@pytest.mark.parametrize("bits", [16, 24])
def test_output_saturates_both_ways(bits):
    most = oracle.LIMITS[bits]
    network = pointwise([8000, -8000], bias=1, fraction=12, bits=bits)
    assert of_each(network, [LIMIT, 5, -LIMIT]) == [most, -most, 20001, -19999, -most, most]


@pytest.mark.parametrize("shift", [1, 2, 12, 20, 40])
def test_scaling_back_rounds_halves_upward(shift):
    one = 1 << shift
    values = {
        sign * (whole * one + part)
        for sign in (1, -1)
        for whole in (0, 1, 2, 5)
        for part in (0, 1, one // 2, one // 2 + 1)
    }
    for value in values:
        # The bias is the sum: weights are 0.
        assert of_each(pointwise([0], bias=value, shift=shift, fraction=12), [3]) == [(value + one // 2) // one]


@pytest.mark.parametrize(("before", "after"), [(12, 11), (12, 3), (12, 12), (12, 14), (12, -2)])
def test_rounding_to_another_fraction(before, after):
    values = [-LIMIT, -4097, -4096, -3, -2, -1, 0, 1, 2, 3, 6, 4095, 4097, LIMIT]
    network = Network("t", [Layer("round", {"fraction": after, "bits": 24})])
    inside = [max(-8355711, min(8355711, floor(Fraction(v) * Fraction(2) ** (after - before) + HALF))) for v in values]
    outside = [max(-LIMIT, min(LIMIT, floor(Fraction(v) * Fraction(2) ** (before - after) + HALF))) for v in inside]
    assert of_each(network, values) == outside


def test_a_sum_is_rounded_once():
    """1/2 at 2^-12 and 1/4 at 2^-3 and so on: rounding each first would give another sum."""
    layers = [
        Layer("round", {"fraction": 12, "bits": 24}),
        Layer("round", {"fraction": 10, "bits": 16}, inputs=(2,)),
        Layer("add", {"fraction": 8, "bits": 24}, inputs=(2, 1)),
    ]
    for value in range(-100, 100):
        coarse = floor(Fraction(value, 4) + HALF)
        expected = floor(Fraction(value + 4 * coarse, 16) + HALF) * 16
        assert of_each(Network("t", layers), [value]) == [expected]


@pytest.mark.parametrize("slope", ["0.01", "0.2", "0.5", "0.25", "1.0", "0.0", "1e-05"])
@pytest.mark.parametrize("folded", [False, True])
def test_leaky_relu_equals_pythons_integers(slope, folded):
    """Positive values pass; negative ones are multiplied by the slope at 2^-16, halves upward. The same where it is
    computed together with the convolution before it."""
    rng = np.random.default_rng(4)
    values = [-8355711, -65536, -32769, -32768, -100, -51, -50, -3, -2, -1, 0, 1, 2, 3, 8355711]
    values += rng.integers(-8355711, 8355711, 500).tolist()
    integer = int(float(slope) * 65536 + 0.5)
    expected = [value if value >= 0 else (value * integer + (1 << 15)) // (1 << 16) for value in values]
    before = pointwise([2], fraction=12).layers if folded else []
    assert of_each(Network("t", [*before, Layer("leaky_relu", {"slope": slope})]), values) == expected


def test_an_unproven_network_does_not_run():
    with pytest.raises(UnsupportedModel, match="not exact"):
        ExactNetwork(pointwise([1], bias=1 << 52))


def test_large_values_need_more_limbs_wherever_they_are():
    """Limbs that are all zeros are left out, band by band: one large value anywhere must not be lost."""
    rng = np.random.default_rng(7)
    network = freeze_exact(oracle.small(rng, (2, 3, 2)))
    for place in range(0, 30 * 40, 37):
        x = integers(rng, (1, 2, 30, 40), 100)
        x[0, 1, place // 40, place % 40] = rng.choice([-LIMIT, LIMIT, 70000, -70000])
        expected = oracle.run(network, x.numpy())
        assert (ExactNetwork(network, engine=ENGINES["int8"])(x).numpy() == expected).all()


def test_more_outputs_than_a_band(monkeypatch):
    """Products are cut into bands, and gathered columns into pieces: the seams do not show."""
    rng = np.random.default_rng(8)
    network = freeze_exact(oracle.small(rng, (3, 4, 2)))
    x = integers(rng, (2, 3, 33, 29), 1 << 17)
    monkeypatch.setattr("robuststream.networks.integers.GATHERED", 5000)
    equal_to_oracle(network, x)
