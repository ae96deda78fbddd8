"""The integers that exact networks compute with, and the bound that proves them exact (spec/format.md, section 14).

Activations are integers at scale 2^-12, weights at 2^-f. As long as every sum of products stays below 2^53, float64
holds each partial sum exactly, in whatever order a kernel adds: no rounding ever happens, so nothing can differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robuststream.errors import UnsupportedModel
from robuststream.networks.graph import OPERATIONS, Layer, Network

#: Activations, means and medians are integers at this many fraction bits ...
FRACTION_BITS = 12
ONE = 1 << FRACTION_BITS
#: ... and saturate here.
LIMIT = 1 << 24
MAX_WEIGHT_BITS = 20
EXACT_BITS = 53
SLOPE_BITS = 16


def saturate(x: Tensor) -> Tensor:
    return x.clamp(-LIMIT, LIMIT)


def rescale(x: Tensor, bits: int) -> Tensor:
    """floor(x * 2^-bits + 1/2) of float64 integers, then saturation."""
    return saturate(torch.floor(x * 2.0**-bits + 0.5))


def slope_integer(slope: str) -> int:
    """A LeakyReLU's slope at 2^-16."""
    return int(float(slope) * (1 << SLOPE_BITS) + 0.5)


def quantise(x: Tensor, bits: int) -> Tensor:
    """float32 to int64 at scale 2^-bits, halves upward: floor(x * 2^bits + 1/2). The caller has checked the values."""
    return torch.floor(x.double() * 2.0**bits + 0.5).to(torch.int64)


def integers(name: str, x: Tensor, bits: int, limit: int = LIMIT) -> Tensor:
    """As `quantise`, to int32, for numbers that were not checked before: a cast would let them wrap.

    Raises:
        UnsupportedModel: naming the tensor: a value is not finite, or beyond `limit` at this scale.
    """
    check_finite(name, x)
    most = float(x.double().abs().max()) if x.numel() else 0.0
    if most * 2.0**bits > limit:
        raise UnsupportedModel(f"{name}: holds a value of size {most:g}, beyond {limit * 2.0**-bits:g}")
    return quantise(x, bits).to(torch.int32)


def check_finite(name: str, x: Tensor) -> None:
    """Raises UnsupportedModel, naming the tensor, where a value is not finite."""
    wrong = x[~torch.isfinite(x)]
    if len(wrong):
        values = "/".join(sorted({str(float(value)) for value in wrong.flatten()[:100]}))
        raise UnsupportedModel(f"{name}: {len(wrong)} of {x.numel()} values are not finite ({values})")


@dataclass(frozen=True)
class LayerBound:
    """Proof for one layer: no partial sum reaches 2^bits, and bits <= 53. `fraction_bits` is f."""

    layer: int
    bits: float
    fraction_bits: int


def output_bound(layer: Layer) -> int:
    """max over output channels of sum|w| * 2^24 + |b|, the largest value any partial sum can take.

    A transposed convolution's sum runs over all inputs and the whole kernel, though a single output pixel meets only a
    part of it: simpler, and still a bound.
    """
    weight = layer.tensors["weight"].to(torch.int64)
    axis = 1 if layer.operation == "conv_transpose2d" else 0
    sums = weight.abs().sum(dim=[d for d in range(4) if d != axis])
    # Python's integers: no hostile weight can make the bound itself overflow.
    biases = layer.tensors["bias"].tolist()
    return max(int(total) * LIMIT + abs(int(bias)) for total, bias in zip(sums.tolist(), biases, strict=True))


def freeze_exact(network: Network) -> Network:
    """The network with integer weights: for each layer the largest f <= 20 whose bound stays below 2^53.

    Raises:
        UnsupportedModel: no f keeps a layer exact, or an operation has no exact form.
    """
    return Network(network.name, [_freeze_layer(network.name, n, layer) for n, layer in enumerate(network.layers)])


def _freeze_layer(name: str, number: int, layer: Layer) -> Layer:
    where = f"network {name}, layer {number} ({layer.operation})"
    if not OPERATIONS[layer.operation].exact:
        raise UnsupportedModel(f"{where}: has no exact form among entropy parameters")
    if not layer.tensors:
        return layer
    for bits in range(MAX_WEIGHT_BITS, -1, -1):
        # Weights too large for their type would wrap: the bound below must not be computed from such.
        if float(layer.tensors["weight"].abs().max()) * 2.0**bits >= 2**31 - 1:
            continue
        if float(layer.tensors["bias"].abs().max()) * 2.0 ** (bits + FRACTION_BITS) >= 2**EXACT_BITS:
            continue
        weight = quantise(layer.tensors["weight"], bits).to(torch.int32)
        bias = quantise(layer.tensors["bias"], bits + FRACTION_BITS)
        attributes = {**layer.attributes, "fraction_bits": bits}
        frozen = replace(layer, attributes=attributes, tensors={"weight": weight, "bias": bias})
        if output_bound(frozen) < 1 << EXACT_BITS:
            return frozen
    raise UnsupportedModel(f"{where}: its weights are too large for exact arithmetic")


def prove(network: Network) -> list[LayerBound]:
    """The bound of every layer with weights; run again whenever a model is loaded.

    Raises:
        UnsupportedModel: a layer whose sums could leave the exact range.
    """
    bounds = []
    for number, layer in enumerate(network.layers):
        if "weight" not in layer.tensors:
            continue
        bits = layer.attributes["fraction_bits"]
        where = f"network {network.name}, layer {number}"
        if type(bits) is not int or not 0 <= bits <= MAX_WEIGHT_BITS:
            raise UnsupportedModel(f"{where}: fraction_bits {bits!r} is not a whole number up to {MAX_WEIGHT_BITS}")
        bound = output_bound(layer)
        if bound >= 1 << EXACT_BITS:
            raise UnsupportedModel(f"{where}: sums could reach {bound}, beyond 2^53: not exact")
        bounds.append(LayerBound(number, math.log2(max(bound, 1)), bits))
    return bounds
