"""The integers that exact networks compute with, and the bounds that prove them exact (spec/format.md, section 14).

A value is a tensor of integers in a format: units of 2^-fraction, and few enough bits that int8 units can multiply them
piece by piece. Whatever a machine multiplies with, the sums are these integers: nothing is ever rounded but where this
arithmetic says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robuststream.errors import UnsupportedModel
from robuststream.networks.graph import FORMAT, Layer, Network

#: Between networks all values (latents, means, scales, medians) are integers at this many fraction bits ...
FRACTION_BITS = 12
ONE = 1 << FRACTION_BITS
#: ... and saturate here.
LIMIT = 1 << 24
#: A whole sum of products stays below 2^52: so half a unit can be added to it in float64 as well.
SUM_BITS = 52
#: Terms of a sum. So many products of limbs, 128 x 64, stay in 32 bits.
MAX_TERMS = 1 << 17
SLOPE_BITS = 16
#: Weights are two limbs to base 128, each from -64 to 63. So narrow, because kernels without VNNI add products of 8
#: bits in pairs, in 16 bits, and saturate in silence: 2 x 255 x 64 is the most that fits.
WEIGHT_LIMIT = 63 * 128 + 63
#: Values are limbs to base 256, each from -128 to 127: two of them, or three.
LIMITS = {16: 127 * 256 + 127, 24: 127 * 65536 + 127 * 256 + 127}


@dataclass(frozen=True)
class Format:
    """What the integers of a value mean: units of 2^-fraction, saturated at +-limit."""

    fraction: int
    limit: int


#: Of what goes into a network and comes out of one.
OUTSIDE = Format(FRACTION_BITS, LIMIT)


def saturate(x: Tensor) -> Tensor:
    return x.clamp(-LIMIT, LIMIT)


def slope_integer(slope: str) -> int:
    """A LeakyReLU's slope at 2^-16."""
    return int(float(slope) * (1 << SLOPE_BITS) + 0.5)


def quantise(x: Tensor, bits: int | Tensor) -> Tensor:
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


def formats(network: Network) -> list[Format]:
    """Of the network's input, and then of each layer's output."""
    known = [OUTSIDE]
    for number, layer in enumerate(network.layers):
        if layer.attributes.keys() >= FORMAT:
            known.append(Format(layer.integer("fraction"), LIMITS[layer.integer("bits")]))
        else:
            known.append(known[number + 1 - layer.inputs[0]])
    return known


@dataclass(frozen=True)
class LayerBound:
    """Proof for one layer: no sum of products reaches 2^bits, and bits <= 52. `shifts`: the least and the largest."""

    layer: int
    bits: float
    shifts: tuple[int, int]


def prove(network: Network) -> list[LayerBound]:
    """The bounds of every layer with weights: asked once for each model that is loaded or frozen.

    Raises:
        UnsupportedModel: a layer whose sums could leave the exact range, or whose values do not come in limbs.
    """
    bounds = []
    known = formats(network)
    for number, layer in enumerate(network.layers):
        if "weight" not in layer.tensors:
            continue
        where = f"network {network.name}, layer {number}"
        limit = known[number + 1 - layer.inputs[0]].limit
        if limit not in LIMITS.values():
            wanted = " or ".join(map(str, LIMITS))
            raise UnsupportedModel(f"{where}: takes values that were not rounded to {wanted} bits")
        bounds.append(_prove_layer(where, number, layer, limit))
    return bounds


def _prove_layer(where: str, number: int, layer: Layer, limit: int) -> LayerBound:
    weight = layer.tensors["weight"].to(torch.int64)
    if int(weight.abs().max()) > WEIGHT_LIMIT:
        raise UnsupportedModel(f"{where}: a weight is beyond {WEIGHT_LIMIT}")
    bound = output_bound(layer, limit)
    if bound >= 1 << SUM_BITS:
        raise UnsupportedModel(f"{where}: sums could reach {bound}, beyond 2^{SUM_BITS}: not exact")
    terms = weight.numel() // len(layer.tensors["bias"])
    if terms > MAX_TERMS:
        raise UnsupportedModel(f"{where}: sums of {terms} terms, more than {MAX_TERMS}: not exact")
    shift = layer.tensors["shift"]
    return LayerBound(number, math.log2(max(bound, 1)), (int(shift.min()), int(shift.max())))


def output_bound(layer: Layer, limit: int) -> int:
    """max over output channels of sum|w| * limit + |b|, the largest value any partial sum can take.

    A transposed convolution's sum runs over all inputs and the whole kernel, though a single output pixel meets only a
    part of it: simpler, and still a bound.
    """
    totals: list[int] = _sums(layer, layer.tensors["weight"].to(torch.int64).abs()).tolist()
    # Python's integers: no hostile bias can make the bound itself overflow.
    biases: list[int] = layer.tensors["bias"].tolist()
    return max(total * limit + abs(bias) for total, bias in zip(totals, biases, strict=True))


def _sums(layer: Layer, weight: Tensor) -> Tensor:
    """Over all that an output channel is summed over."""
    axis = 1 if layer.operation == "conv_transpose2d" else 0
    return weight.sum(dim=[d for d in range(4) if d != axis])


def weight_limbs(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 high and low limbs: weight = 128 high + low, each from -64 to 63."""
    wide = weight.to(torch.int32)
    low = ((wide + 64) & 127) - 64
    return ((wide - low) >> 7).to(torch.int8), low.to(torch.int8)
