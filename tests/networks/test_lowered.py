"""A lowered network is its layers, whatever their sizes, and however a picture is cut into bands."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import robuststream as rs
from robuststream.networks import lowered
from robuststream.networks.checks import check
from robuststream.networks.floating import _Layers
from robuststream.networks.graph import Layer, Network
from robuststream.networks.lowered import Lowered, lower
from tests.small import SAMPLE, model

ARCHITECTURES = ("mbt2018-mean", "bmshj2018-factorized-relu", "cheng2020-attn", "elic2022-official")


def layers_say(network: Network, x: Tensor) -> Tensor:
    """In double precision, layer by layer."""
    double = [
        Layer(layer.operation, layer.attributes, {k: v.double() for k, v in layer.tensors.items()}, layer.inputs)
        for layer in network.layers
    ]
    return _Layers(Network(network.name, double), torch.device("cpu"))(x.double())


def same(network: Network, x: Tensor, tolerance: float = 1e-5) -> None:
    """Within float32's noise, relative to the largest value."""
    expected = layers_say(network, x)
    with torch.inference_mode():
        result = Lowered(network)(x)
    assert (result.shape, result.dtype, result.is_contiguous()) == (expected.shape, torch.float32, True)
    assert (result - expected).abs().max() <= tolerance * expected.abs().max()


@st.composite
def convolutions(draw: st.DrawFn) -> Layer:
    """All that the graph allows: kernels of two lengths, strides above them, any padding that keeps the scale."""
    transposed = draw(st.booleans())
    stride, padding = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    inputs, outputs = draw(st.sampled_from(((2, 3), (3, 20), (17, 2))))
    attributes = {"stride": stride, "padding": padding}
    if transposed:
        attributes["output_padding"] = draw(st.integers(0, stride - 1))
        kernel = [stride + 2 * padding - attributes["output_padding"]] * 2
    else:
        kernel = [2 * padding + draw(st.integers(1, stride)) for _ in range(2)]
    shape = (inputs, outputs) if transposed else (outputs, inputs)
    tensors = {"weight": random.normal(0, 1, (*shape, *kernel)), "bias": random.normal(0, 1, outputs)}
    name = "conv_transpose2d" if transposed else "conv2d"
    return Layer(name, attributes, {key: torch.from_numpy(value).float() for key, value in tensors.items()})


SIZES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5))


@given(convolutions(), SIZES, st.sampled_from((1, 2000, 1 << 20)), st.integers(1, 3))
def test_every_convolution(layer: Layer, sizes: tuple[int, int, int], band: int, tails: int) -> None:
    network = Network("t", [layer])
    check(network, exact=False)
    batch, height, width = sizes
    stride = 1 if layer.operation == "conv_transpose2d" else layer.integer("stride")
    shape = batch, network.channels[0], height * stride, width * stride
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lowered, "BAND", band)
        same(network, x)
        outputs = network.channels[1]
        tail = [Layer("leaky_relu", {"slope": "0.2"}), Layer("add", inputs=(1, 2)), Layer("abs")]
        same(Network("t", [layer, *tail[:tails]]), x)
        if outputs == 20:
            same(Network("t", [layer, Layer("pixel_shuffle", {"factor": 2}), *tail]), x)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("packed", [True, False], ids=["oneDNN", "without"])
def test_the_zoo(architecture: str, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of a few rows, and all at once; sizes that no band divides."""
    networks = model(architecture).parts.networks
    monkeypatch.setattr(torch._C, "_get_mkldnn_enabled", lambda: packed)
    for band in (10_000, 1 << 30):
        monkeypatch.setattr(lowered, "BAND", band)
        for name, shape in (("g_a", (2, 3, 80, 48)), ("g_s", (1, 12, 7, 5)), ("h_a", (3, 12, 12, 8))):
            if name in networks:
                channels = networks[name].channels[0]
                x = torch.randn((shape[0], channels, *shape[2:]), generator=torch.Generator().manual_seed(1))
                same(networks[name], x, 1e-4)


def graph(seed: int) -> Network:
    """Random layers on random earlier ones, at three sizes."""
    choose = random.Random(seed)
    tensors = torch.Generator().manual_seed(seed)
    layers: list[Layer] = []
    #: Of each value: by how much it is larger than the input, twice over; 0 where it has other channels.
    scales = [2]

    def append(operation: str, *inputs: int, **attributes: int | bool | str) -> None:
        shapes = {"gdn": {"beta": (4,), "gamma": (4, 4)}, "conv2d": {"weight": (4, 4, 3, 3), "bias": (4,)}}
        shapes["conv_transpose2d"] = {"weight": (4, 4, 4, 4), "bias": (4,)}
        own = {
            name: torch.rand(size, generator=tensors) / 4 + (name == "beta")
            for name, size in shapes.get(operation, {}).items()
        }
        layers.append(Layer(operation, attributes, own, tuple(len(layers) + 1 - value for value in inputs)))

    append("conv2d", 0, stride=1, padding=1)
    scales.append(2)
    while len(layers) < 14 or scales[-1] != 2:
        value = choose.choice([v for v, s in enumerate(scales) if s])
        scale = scales[value]
        kind = choose.randrange(6)
        if kind == 0 and scale > 1:
            append("conv2d", value, stride=2, padding=1)
            scale //= 2
        elif kind == 1 and scale < 4:
            append("conv_transpose2d", value, stride=2, padding=1, output_padding=0)
            scale *= 2
        elif kind == 2:
            append("gdn", value, inverse=choose.random() < 0.5)
        elif kind == 3:
            append("cat", value, choose.choice([v for v, s in enumerate(scales) if s == scale]))
            scales.append(0)
            append("slice", len(layers), first=choose.randrange(5), channels=4)
        elif kind == 4:
            append(choose.choice(("relu", "abs", "sigmoid")), value)
        else:
            append(choose.choice(("add", "mul")), value, choose.choice([v for v, s in enumerate(scales) if s == scale]))
        scales.append(scale)
    return Network("t", layers)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("band", [1, 3000])
def test_any_graph(seed: int, band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that several layers take, near and far, and operations on what is not theirs to change."""
    monkeypatch.setattr(lowered, "BAND", band)
    network = graph(seed)
    x = torch.randn((1, 4, 22, 10), generator=torch.Generator().manual_seed(seed))
    kept = x.clone()
    same(network, x)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("band", [1, 3000])
def test_depthwise_convolutions_and_places_made_channels(band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As transforms at a lower resolution have them (DCVC-RT, arXiv:2502.20762): in residual blocks, with strides."""
    monkeypatch.setattr(lowered, "BAND", band)
    random = np.random.default_rng(9)

    def convolution(operation: str, outputs: int, inputs: int, kernel: int, stride: int = 1) -> Layer:
        tensors = {
            "weight": random.normal(0, 0.3, (outputs, inputs, kernel, kernel)),
            "bias": random.normal(size=outputs),
        }
        attributes = {"stride": stride, "padding": kernel // 2}
        return Layer(operation, attributes, {name: torch.tensor(value).float() for name, value in tensors.items()})

    layers = [
        Layer("pixel_unshuffle", {"factor": 4}),
        convolution("conv2d", 12, 48, 1),
        convolution("conv2d", 12, 12, 1),
        Layer("leaky_relu", {"slope": "0.01"}),
        convolution("depthwise_conv2d", 12, 1, 3),
        convolution("conv2d", 12, 12, 1),
        Layer("add", inputs=(5, 1)),
        convolution("depthwise_conv2d", 12, 1, 3, stride=2),
        Layer("round"),
        convolution("conv2d", 5, 12, 1),
    ]
    same(Network("low", layers), torch.tensor(random.normal(0, 1, (2, 3, 40, 24))).float())


def test_only_real_taps_are_multiplied() -> None:
    """25 for each input of a 5x5 kernel with stride 2, in four phases; to three channels, one kernel costs less."""
    wide, narrow = (
        Layer(
            "conv_transpose2d",
            {"stride": 2, "padding": 2, "output_padding": 1},
            {"weight": torch.ones(8, outputs, 5, 5), "bias": torch.ones(outputs)},
        )
        for outputs in (32, 3)
    )
    (step,) = lower(Network("t", [wide]))
    assert sorted(branch.kernel.size for branch in step._branches) == [(2, 2), (2, 3), (3, 2), (3, 3)]  # type: ignore[attr-defined]
    (step,) = lower(Network("t", [narrow]))
    assert [branch.kernel.size for branch in step._branches] == [(3, 3)]  # type: ignore[attr-defined]


def test_what_follows_is_done_at_once() -> None:
    """A transform of four convolutions and three GDNs is four steps; a pixel shuffle is none of its own."""
    assert len(lower(model().parts.networks["g_s"])) == 4
    cheng = model("cheng2020-attn").parts.networks["g_s"]
    convolutions = sum("weight" in layer.tensors for layer in cheng.layers)
    assert any(layer.operation == "pixel_shuffle" for layer in cheng.layers)
    assert len(lower(cheng)) <= convolutions + 4


def memory(network: Lowered) -> int:
    return sum(rows.bytes for each in network._idle for rows in each)


def test_memory_is_kept_and_hangs_on_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowered, "BAND", 4000)
    network = Lowered(model().parts.networks["g_s"])
    with torch.inference_mode():
        network(torch.zeros(1, 12, 40, 8))
        once = memory(network)
        network(torch.zeros(1, 12, 160, 8))
        assert 0 < memory(network) < 1.5 * once
        addresses = [rows._memory.data_ptr() for rows in network._idle[0]]
        network(torch.zeros(1, 12, 160, 8))
        assert [rows._memory.data_ptr() for rows in network._idle[0]] == addresses


def test_memory_that_is_kept_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Lowered(model().parts.networks["g_s"])
    with torch.inference_mode():
        network(torch.zeros(1, 12, 5, 5))
        monkeypatch.setattr(lowered, "KEPT", 2 * memory(network))
        network(torch.zeros(1, 12, 5, 40))
    assert network._idle == []


def test_threads_have_buffers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """And of other sizes than the picture before; a call that fails leaves nothing behind."""
    monkeypatch.setattr(lowered, "BAND", 4000)
    parts = model().parts.networks["g_s"]
    network = Lowered(parts)
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn((1 + n % 2, 12, 5 + n % 3, 4 + n % 4), generator=generator) for n in range(24)]
    expected = [layers_say(parts, x) for x in inputs]

    def run(x: Tensor) -> Tensor:
        with torch.inference_mode():
            return network(x)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, inputs))
        with pytest.raises(RuntimeError):
            run(torch.zeros(1, 11, 5, 5))
        results += pool.map(run, inputs)
    for result, wanted in zip(results, expected * 2, strict=True):
        assert torch.allclose(result.double(), wanted, atol=1e-5)
    assert len(network._idle) <= 4


def test_pixels_of_a_photograph() -> None:
    """Within 1/255, and in fact far below, of those that the layers give; latents of the bundled model likewise."""
    networks = rs.load_model().parts.networks
    pixels = np.asarray(Image.open(Path(__file__).parents[2] / SAMPLE).convert("RGB"))[:256, :320]
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        y = Lowered(networks["g_a"])(x)
        decoded = Lowered(networks["g_s"])(y.round())
    assert (y - layers_say(networks["g_a"], x)).abs().max() < 1e-3
    difference = (decoded - layers_say(networks["g_s"], y.round())).abs().max()
    assert 0 < difference < 1e-4 < 1 / 255
