"""Exact networks in NumPy int64: no floating point, no convolution but the definition's sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from robuststream.networks.graph import Layer, Network

LIMIT = 1 << 24
Integers = np.ndarray


def conv2d(x: Integers, weight: Integers, bias: Integers, stride: int, padding: int) -> Integers:
    """x (B, C, H, W), weight (O, C, K, L): each output sums over the window at stride times its place."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows = (x.shape[2] - weight.shape[2]) // stride + 1
    columns = (x.shape[3] - weight.shape[3]) // stride + 1
    total = np.zeros((len(x), len(weight), rows, columns), np.int64)
    for k in range(weight.shape[2]):
        for m in range(weight.shape[3]):
            seen = x[:, :, k : k + rows * stride : stride, m : m + columns * stride : stride][:, :, :rows, :columns]
            total += np.einsum("bchw,oc->bohw", seen, weight[:, :, k, m])
    return total + bias[:, None, None]


def conv_transpose2d(
    x: Integers, weight: Integers, bias: Integers, stride: int, padding: int, output_padding: int
) -> Integers:
    """x (B, C, H, W), weight (C, O, K, L): each input adds the kernel, times itself, at stride times its place."""
    (batch, _, height, width), (_, outputs, *kernel) = x.shape, weight.shape
    whole = [(size - 1) * stride + k + output_padding for size, k in zip((height, width), kernel, strict=True)]
    total = np.zeros((batch, outputs, *whole), np.int64)
    for i in range(height):
        for j in range(width):
            patch = np.einsum("bc,cokl->bokl", x[:, :, i, j], weight)
            total[:, :, i * stride : i * stride + kernel[0], j * stride : j * stride + kernel[1]] += patch
    total = total[:, :, padding : whole[0] - padding, padding : whole[1] - padding]
    return total + bias[:, None, None]


def depthwise_conv2d(x: Integers, weight: Integers, bias: Integers, stride: int, padding: int) -> Integers:
    """weight (C, 1, K, L): each channel by itself."""
    planes = [conv2d(x[:, c : c + 1], weight[c : c + 1], bias[c : c + 1], stride, padding) for c in range(len(weight))]
    return np.concatenate(planes, axis=1)


def pixel_unshuffle(x: Integers, factor: int) -> Integers:
    """The other way round: each square of a channel becomes factor^2 channels."""
    planes = [x[:, c, i::factor, j::factor] for c in range(x.shape[1]) for i in range(factor) for j in range(factor)]
    return np.stack(planes, axis=1)


def pixel_shuffle(x: Integers, factor: int) -> Integers:
    """Channel c * factor^2 + factor * i + j holds the places (i, j) of each square of channel c."""
    out = np.zeros((len(x), x.shape[1] // factor**2, x.shape[2] * factor, x.shape[3] * factor), x.dtype)
    for i in range(factor):
        for j in range(factor):
            out[:, :, i::factor, j::factor] = x[:, factor * i + j :: factor**2]
    return out


LIMITS = {16: 32639, 24: 8355711}


def saturated(x: Integers, fraction: int, to: tuple[int, int]) -> Integers:
    """Values at 2^-fraction in another format: (fraction, limit)."""
    bits = fraction - to[0]
    x = x + (1 << bits >> 1) >> bits if bits >= 0 else x << -bits
    return x.clip(-to[1], to[1])


def run(network: Network, x: Integers) -> Integers:
    """int64 (B, C, H, W) at 2^-12 through an exact network."""
    values = [x.clip(-LIMIT, LIMIT)]
    formats = [(12, LIMIT)]
    for number, layer in enumerate(network.layers):
        inputs = [values[number + 1 - back] for back in layer.inputs]
        known = [formats[number + 1 - back] for back in layer.inputs]
        x = inputs[0]
        sizes = {key: int(value) for key, value in layer.attributes.items() if key != "slope"}
        own = known[0]
        if "fraction" in sizes:
            own = sizes.pop("fraction"), LIMITS[sizes.pop("bits")]
        tensors = {name: tensor.numpy().astype(np.int64) for name, tensor in layer.tensors.items()}
        if "weight" in tensors:
            shift = tensors.pop("shift")[:, None, None]
            if layer.operation == "conv2d":
                total = conv2d(x, **tensors, **sizes)
            elif layer.operation == "conv_transpose2d":
                total = conv_transpose2d(x, **tensors, **sizes)
            else:
                total = depthwise_conv2d(x, **tensors, **sizes)
            assert np.abs(total).max() < 1 << 52
            x = (total + (1 << shift >> 1) >> shift).clip(-own[1], own[1])
        elif layer.operation == "round":
            x = saturated(x, known[0][0], own)
        elif layer.operation == "relu":
            x = np.maximum(x, 0)
        elif layer.operation == "leaky_relu":
            slope = int(float(layer.attributes["slope"]) * 65536 + 0.5)
            x = np.where(x < 0, x * slope + (1 << 15) >> 16, x)
        elif layer.operation == "pixel_shuffle":
            x = pixel_shuffle(x, **sizes)
        elif layer.operation == "pixel_unshuffle":
            x = pixel_unshuffle(x, **sizes)
        elif layer.operation == "slice":
            x = x[:, sizes["first"] : sizes["first"] + sizes["channels"]]
        elif layer.operation == "add":
            most = max(fraction for fraction, _ in known)
            total = sum(value << most - fraction for value, (fraction, _) in zip(inputs, known, strict=True))
            x = saturated(total, most, own)
        else:
            assert layer.operation == "cat"
            pairs = zip(inputs, known, strict=True)
            x = np.concatenate([saturated(value, fraction, own) for value, (fraction, _) in pairs], axis=1)
        values.append(x)
        formats.append(own)
    return saturated(values[-1], formats[-1][0], (12, LIMIT))


def layer(
    rng: np.random.Generator, operation: str, inputs: int, outputs: int, kernel: int, stride: int, gain: float = 1.0
) -> Layer:
    """A float32 convolution with random weights that keeps the size's ratio to its stride."""
    weight = rng.normal(0, gain / np.sqrt(inputs * kernel * kernel), (inputs, outputs, kernel, kernel))
    attributes = {"stride": stride, "padding": max(0, kernel - stride + 1) // 2}
    if operation == "conv2d":
        weight = weight.swapaxes(0, 1)
    else:
        attributes["output_padding"] = stride - kernel + 2 * attributes["padding"]
    tensors = {
        "weight": torch.tensor(weight.copy()).float(),
        "bias": torch.tensor(rng.normal(0, gain, outputs)).float(),
    }
    return Layer(operation, attributes, tensors)


def small(rng: np.random.Generator, channels: Sequence[int] = (3, 5, 4), gain: float = 1.0) -> Network:
    """Like a hyper synthesis: twice as large, LeakyReLU, twice as large, ReLU, a 3 x 3 convolution."""
    first, middle, last = channels
    return Network(
        "small",
        [
            layer(rng, "conv_transpose2d", first, middle, 5, 2, gain),
            Layer("leaky_relu", {"slope": "0.01"}),
            layer(rng, "conv_transpose2d", middle, middle, 4, 2, gain),
            Layer("relu"),
            layer(rng, "conv2d", middle, last, 3, 1, gain),
        ],
    )


def branching(rng: np.random.Generator, gain: float = 1.0) -> Network:
    """Every exact operation, with skips: a sub-pixel convolution, two halves, their sum, both joined with the sum; a
    depthwise convolution, and places made channels."""
    channels = layer(rng, "conv2d", 1, 8, 3, 1, gain)
    depthwise = Layer("depthwise_conv2d", channels.attributes, channels.tensors)
    return Network(
        "branching",
        [
            layer(rng, "conv2d", 3, 16, 3, 1, gain),
            Layer("pixel_shuffle", {"factor": 2}),
            Layer("slice", {"first": 0, "channels": 2}),
            Layer("slice", {"first": 1, "channels": 2}, inputs=(2,)),
            Layer("add", inputs=(1, 2)),
            Layer("cat", inputs=(1, 4, 3)),
            Layer("leaky_relu", {"slope": "0.2"}),
            depthwise,
            Layer("pixel_unshuffle", {"factor": 2}),
            layer(rng, "conv2d", 32, 5, 1, 1, gain),
        ],
    )
