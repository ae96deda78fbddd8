"""Each operation in float32 against its definition in float64, whatever the caller's settings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from robuststream.networks import floating
from robuststream.networks.floating import FloatingNetwork
from robuststream.networks.graph import Layer, Network
from tests.networks import oracle

RNG = np.random.default_rng(1)
X = torch.from_numpy(RNG.normal(0, 2, (2, 3, 6, 4))).float()


#: The first layer with weights says how many channels there are.
SAME = Layer("conv2d", {"stride": 1, "padding": 0}, {"weight": torch.eye(3)[:, :, None, None], "bias": torch.zeros(3)})


@pytest.fixture(params=["lowered", "layer by layer"], autouse=True)
def form(request, monkeypatch):
    """A CPU runs a lowered form, and other devices the layers as they stand: here a CPU does both."""
    if request.param != "lowered":
        monkeypatch.setattr(floating, "Lowered", lambda network: floating._Layers(network, torch.device("cpu")))


def run(*layers: Layer) -> np.ndarray:
    return FloatingNetwork(Network("t", [SAME, *layers]))(X).numpy()


def close(value: np.ndarray, expected: np.ndarray) -> None:
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("operation", "definition"), [("conv2d", oracle.conv2d), ("conv_transpose2d", oracle.conv_transpose2d)]
)
def test_convolutions_are_their_sums(operation, definition, monkeypatch):
    layer = oracle.layer(np.random.default_rng(2), operation, 3, 5, 5, 2)
    # The definition sums whatever it is given: here float64.
    monkeypatch.setattr(oracle.np, "int64", np.float64)
    tensors = {name: tensor.double().numpy() for name, tensor in layer.tensors.items()}
    close(run(layer), definition(X.double().numpy(), **tensors, **layer.attributes))


def test_pointwise_operations():
    x = X.numpy()
    close(run(Layer("relu")), np.maximum(x, 0))
    close(run(Layer("leaky_relu", {"slope": "0.2"})), np.where(x < 0, 0.2 * x, x))
    close(run(Layer("abs")), np.abs(x))


@pytest.mark.parametrize("inverse", [False, True])
def test_gdn_is_its_formula(inverse):
    """y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2), and times the root for the inverse."""
    beta, gamma = RNG.uniform(0.5, 2, 3), RNG.uniform(0, 1, (3, 3))
    layer = Layer(
        "gdn", {"inverse": inverse}, {"beta": torch.tensor(beta).float(), "gamma": torch.tensor(gamma).float()}
    )
    x = X.double().numpy()
    root = np.sqrt(beta[:, None, None] + np.einsum("ij,bjhw->bihw", gamma, x**2))
    close(run(layer), x * root if inverse else x / root)


def test_layers_run_in_their_order():
    close(run(Layer("abs"), Layer("leaky_relu", {"slope": "0.5"})), np.abs(X.numpy()))
    close(run(Layer("leaky_relu", {"slope": "0.5"}), Layer("abs")), np.where(X < 0, -0.5 * X, X))


def test_callers_autocast_and_gradients_do_not_matter():
    network = FloatingNetwork(oracle.small(np.random.default_rng(3)))
    expected = network(X)
    with torch.autocast("cpu", torch.bfloat16):
        inside = network(X)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, expected)
    with torch.enable_grad():
        assert not network(X.clone().requires_grad_()).requires_grad


def test_two_threads_at_once():
    network = FloatingNetwork(oracle.small(np.random.default_rng(3)))
    expected = network(X)
    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(lambda _: network(X), range(16)):
            assert torch.allclose(result, expected, atol=1e-5)
