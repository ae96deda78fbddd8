"""Exact networks against NumPy int64, and against themselves in every setting that moves floating point."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robuststream.errors import UnsupportedModel
from robuststream.networks.exact import ExactNetwork
from robuststream.networks.fixedpoint import freeze_exact
from robuststream.networks.floating import FloatingNetwork
from robuststream.networks.graph import Layer, Network
from tests.networks import oracle

LIMIT = 1 << 24


def integers(rng: np.random.Generator, shape: tuple[int, ...], limit: int) -> torch.Tensor:
    return torch.from_numpy(rng.integers(-limit, limit + 1, shape))


def equal_to_oracle(network: Network, x: torch.Tensor) -> np.ndarray:
    y = ExactNetwork(network)(x)
    assert y.dtype == torch.float64
    expected = oracle.run(network, x.numpy().astype(np.int64))
    assert y.shape == expected.shape
    assert (y.numpy() == expected).all()
    return expected


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["conv2d", "conv_transpose2d"]),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from([(1, 1), (3, 1), (5, 2), (4, 2), (3, 2), (2, 2), (5, 1), (7, 3), (3, 3)]),
    st.sampled_from([0.01, 1.0, 100.0, 20000.0]),
    st.integers(1, 6),
)
def test_one_convolution_equals_int64(seed, operation, inputs, outputs, kernel_stride, gain, size):
    rng = np.random.default_rng(seed)
    kernel, stride = kernel_stride
    if operation == "conv_transpose2d" and kernel % 2 == 0 and stride % 2:
        kernel += 1
    network = freeze_exact(Network("t", [oracle.layer(rng, operation, inputs, outputs, kernel, stride, gain)]))
    factor = stride if operation == "conv2d" else 1
    equal_to_oracle(network, integers(rng, (2, inputs, size * factor, (size + 1) * factor), LIMIT))


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
    """A network with sums close to 2^53, where any rounding would show; its input; what int64 makes of it."""
    rng = np.random.default_rng(3)
    network = freeze_exact(oracle.small(rng, (16, 24, 12), gain=4.0))
    x = integers(rng, (4, 16, 6, 5), LIMIT)
    return network, x, oracle.run(network, x.numpy())


def test_the_sample_uses_the_range(sample):
    network, _, expected = sample
    assert max(bound.bits for bound in ExactNetwork(network).bounds) > 49
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


def test_input_saturates():
    network = Network("t", [Layer("relu")])
    y = ExactNetwork(network)(torch.tensor([-(2.0**40), -LIMIT - 1, LIMIT, LIMIT + 1, 2.0**60]))
    assert y.tolist() == [0, 0, LIMIT, LIMIT, LIMIT]


def test_output_saturates_both_ways():
    weight = torch.tensor([3, -3], dtype=torch.int32).reshape(2, 1, 1, 1)
    tensors = {"weight": weight, "bias": torch.tensor([1, 1])}
    network = Network("t", [Layer("conv2d", {"stride": 1, "padding": 0, "fraction_bits": 0}, tensors)])
    y = ExactNetwork(network)(torch.tensor([LIMIT, 5, -LIMIT]).reshape(3, 1, 1, 1))
    assert y.flatten().tolist() == [LIMIT, -LIMIT, 16, -14, -LIMIT, LIMIT]


@pytest.mark.parametrize("bits", [0, 1, 2, 12, 20])
def test_scaling_back_rounds_halves_upward(bits):
    tensors = {"weight": torch.ones(1, 1, 1, 1, dtype=torch.int32), "bias": torch.tensor([0])}
    network = Network("t", [Layer("conv2d", {"stride": 1, "padding": 0, "fraction_bits": bits}, tensors)])
    one = 1 << bits
    values = sorted(
        {
            sign * (whole * one + part)
            for sign in (1, -1)
            for whole in (0, 1, 2, 5)
            for part in (0, 1, one // 2, one // 2 + 1)
        }
    )
    y = ExactNetwork(network)(torch.tensor(values).reshape(-1, 1, 1, 1)).flatten().tolist()
    assert y == [(value + one // 2) // one for value in values]


@pytest.mark.parametrize("slope", ["0.01", "0.2", "0.5", "0.25", "1.0", "0.0", "1e-05"])
def test_leaky_relu_equals_pythons_integers(slope):
    """Positive values pass; negative ones are multiplied by the slope at 2^-16, halves upward."""
    rng = np.random.default_rng(4)
    values = [-LIMIT, -65536, -32769, -32768, -100, -51, -50, -3, -2, -1, 0, 1, 2, 3, LIMIT]
    values += rng.integers(-LIMIT, LIMIT, 500).tolist()
    integer = int(float(slope) * 65536 + 0.5)
    expected = [value if value >= 0 else (value * integer + (1 << 15)) // (1 << 16) for value in values]
    run = ExactNetwork(Network("t", [Layer("leaky_relu", {"slope": slope})]))
    assert run(torch.tensor(values)).tolist() == expected


def test_an_unproven_network_does_not_run():
    weight = torch.full((1, 256, 1, 1), 1 << 30, dtype=torch.int32)
    tensors = {"weight": weight, "bias": torch.tensor([0])}
    with pytest.raises(UnsupportedModel, match="not exact"):
        ExactNetwork(Network("t", [Layer("conv2d", {"stride": 1, "padding": 0, "fraction_bits": 20}, tensors)]))
