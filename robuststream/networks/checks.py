"""Checks of networks: what a model file says of them is not trusted (spec/model.md, sections 3 and 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from robuststream.errors import UnsupportedModel
from robuststream.networks.graph import OPERATIONS, Layer, Network, Shape, convolution_channels

MAX_LAYERS = 1000
SLOPE = re.compile(r"[0-9]+(\.[0-9]+)?(e-?[0-9]+)?")
MAX_KERNEL = 31
MAX_STRIDE = 16
MAX_CHANNELS = 1 << 16
MAX_INPUTS = 64
#: Of every value, up or down, against the network's input.
MAX_SCALE = 64
#: All values of a network together, for each place of its input: what a small file may make of memory.
MAX_VALUES = 1 << 22
MAX_EXACT_VALUES = 1 << 20
#: All products of an exact network, for each place of its input: what a small file may make of time.
MAX_EXACT_PRODUCTS = 1 << 27
#: Units of an exact layer's output are 2^-fraction.
MIN_FRACTION, MAX_FRACTION = -8, 20
#: Bits of an exact layer's output.
BITS = (16, 24)
#: An exact sum is divided by 2^shift.
MAX_SHIFT = 62
#: Attribute: smallest and largest value, where it is a whole number.
LIMITS = {
    "stride": (1, MAX_STRIDE),
    "padding": (0, MAX_KERNEL),
    "output_padding": (0, MAX_STRIDE - 1),
    "factor": (1, MAX_STRIDE),
    "first": (0, MAX_CHANNELS),
    "channels": (1, MAX_CHANNELS),
    "fraction": (MIN_FRACTION, MAX_FRACTION),
}


def network_from_description(
    name: str, description: Any, tensors: Mapping[str, Tensor], exact: bool = False
) -> Network:
    """Rebuild a network from untrusted data, checking every count, type and size.

    Raises:
        UnsupportedModel: naming the layer and the fault.
    """
    if not isinstance(description, list) or not 0 < len(description) <= MAX_LAYERS:
        raise UnsupportedModel(f"network {name}: not a list of 1 to {MAX_LAYERS} layers")
    layers = []
    for number, item in enumerate(description):
        where = f"network {name}, layer {number}"
        operation = item.get("operation") if isinstance(item, dict) else item
        if not isinstance(item, dict) or not isinstance(operation, str) or operation not in OPERATIONS:
            raise UnsupportedModel(f"{where}: operation {operation!r} is not one of {', '.join(OPERATIONS)}")
        kind = OPERATIONS[operation]
        wanted, named = kind.needs(exact)
        attributes = item.get("attributes")
        if not isinstance(attributes, dict) or set(attributes) != wanted:
            raise UnsupportedModel(f"{where}: attributes must be {sorted(wanted)}")
        inputs = item.get("inputs", [1])
        if not isinstance(inputs, list) or not all(type(back) is int for back in inputs):
            raise UnsupportedModel(f"{where}: inputs {inputs!r} is not a list of whole numbers")
        try:
            own = {tensor: tensors[f"{name}.{number}.{tensor}"] for tensor in sorted(named)}
        except KeyError as error:
            raise UnsupportedModel(f"{where}: tensor {error} is missing") from None
        layers.append(Layer(operation, attributes, own, tuple(inputs)))
    network = Network(name, layers)
    check(network, exact)
    return network


def check(network: Network, exact: bool) -> None:
    """See that a network can be run: attribute values, tensor types and shapes, inputs, channels that fit.

    Raises:
        UnsupportedModel: naming the layer and the fault.
    """
    for number, layer in enumerate(network.layers):
        problem = _kind_problem(layer, exact) or _attribute_problem(layer) or _tensor_problem(layer, exact)
        if problem:
            raise UnsupportedModel(f"network {network.name}, layer {number} ({layer.operation}): {problem}")
    for number, shape in enumerate(network.shapes[1:]):
        # Sizes stay whole for every input that gives whole outputs, and windows see what the whole sees.
        if network.scale[1] % shape.scale.denominator:
            raise UnsupportedModel(
                f"network {network.name}, layer {number}: is smaller than input or output by "
                f"{shape.scale.denominator}, which sizes need not be a multiple of"
            )
        if max(shape.scale.numerator, shape.scale.denominator) > MAX_SCALE:
            raise UnsupportedModel(f"network {network.name}, layer {number}: scales sizes by more than {MAX_SCALE}")
        if shape.channels > MAX_CHANNELS:
            raise UnsupportedModel(f"network {network.name}, layer {number}: more than {MAX_CHANNELS} channels")
    if exact:
        products = sum(
            _products(layer, network.shapes[number + 1 - layer.inputs[0]], network.shapes[number + 1])
            for number, layer in enumerate(network.layers)
        )
        if products > MAX_EXACT_PRODUCTS:
            raise UnsupportedModel(
                f"network {network.name}: makes {float(products):.2g} products of each place, more than "
                f"{MAX_EXACT_PRODUCTS}"
            )
    most = MAX_EXACT_VALUES if exact else MAX_VALUES
    total = sum(shape.channels * shape.scale**2 for shape in network.shapes)
    if total > most:
        raise UnsupportedModel(
            f"network {network.name}: makes {float(total):.2g} values of each place, more than {most}"
        )


def _products(layer: Layer, taken: Shape, given: Shape) -> Fraction:
    """Of values and weights, for each place of the network's input: each weight meets each place of a convolution's
    output, or of a transposed one's input."""
    if "weight" not in layer.tensors:
        return Fraction(0)
    scale = taken.scale if layer.operation == "conv_transpose2d" else given.scale
    return layer.tensors["weight"].numel() * scale**2


def _kind_problem(layer: Layer, exact: bool) -> str | None:
    kind = OPERATIONS[layer.operation]
    if exact and not kind.exact:
        return "has no exact form among entropy parameters"
    if not exact and not kind.floating:
        return "has no form in real numbers"
    fits = len(layer.inputs) == kind.inputs or (kind.any_number and 0 < len(layer.inputs) <= MAX_INPUTS)
    if not fits:
        return f"takes {len(layer.inputs)} inputs"
    return None


def _attribute_problem(layer: Layer) -> str | None:
    for name, (least, most) in LIMITS.items():
        value = layer.attributes.get(name, least)
        if type(value) is not int or not least <= value <= most:
            return f"{name} {value!r} is not a whole number from {least} to {most}"
    if "output_padding" in layer.attributes and layer.integer("output_padding") >= layer.integer("stride"):
        return "output_padding is not below stride"
    bits = layer.attributes.get("bits", BITS[0])
    if type(bits) is not int or bits not in BITS:
        return f"bits {bits!r} is not one of {', '.join(map(str, BITS))}"
    if "inverse" in layer.attributes and type(layer.attributes["inverse"]) is not bool:
        return "inverse is not a truth value"
    slope = layer.attributes.get("slope", "0")
    if not (isinstance(slope, str) and SLOPE.fullmatch(slope) and float(slope) <= 1):
        return f"slope {slope!r} is not the text of a decimal fraction up to 1"
    return None


#: Of an exact layer's tensors.
EXACT_TYPES = {"weight": torch.int16, "bias": torch.int64, "shift": torch.int32}


def _tensor_problem(layer: Layer, exact: bool) -> str | None:
    for name, tensor in layer.tensors.items():
        kind = EXACT_TYPES[name] if exact else torch.float32
        if tensor.dtype != kind:
            return f"{name} is {tensor.dtype}, not {kind}"
        if not exact and not torch.isfinite(tensor).all():
            return f"{name} holds values that are not finite"
    if layer.operation == "gdn":
        beta, gamma = layer.tensors["beta"], layer.tensors["gamma"]
        if beta.ndim != 1 or gamma.shape != (len(beta), len(beta)):
            return f"beta {tuple(beta.shape)} and gamma {tuple(gamma.shape)} do not fit"
        if not ((beta > 0).all() and (gamma >= 0).all()):
            return "beta must be positive and gamma not negative"
    return _convolution_problem(layer) if "weight" in layer.tensors else None


def _convolution_problem(layer: Layer) -> str | None:
    weight, bias = layer.tensors["weight"], layer.tensors["bias"]
    shapes = f"weight {tuple(weight.shape)} and bias {tuple(bias.shape)}"
    if weight.ndim != 4 or bias.ndim != 1 or not all(size > 0 for size in weight.shape):
        return f"{shapes} are no convolution's"
    if max(weight.shape[2:]) > MAX_KERNEL or convolution_channels(layer)[1] != len(bias):
        return f"{shapes} do not fit"
    if layer.operation == "depthwise_conv2d" and weight.shape[1] != 1:
        return f"{shapes} are no depthwise convolution's"
    if not all(_keeps_scale(layer, kernel) for kernel in weight.shape[2:]):
        return f"a kernel of {tuple(weight.shape[2:])} with this stride and padding does not scale sizes by the stride"
    shift = layer.tensors.get("shift")
    if shift is not None and (shift.shape != bias.shape or int(shift.min()) < 1 or int(shift.max()) > MAX_SHIFT):
        return f"shifts are not {len(bias)} whole numbers from 1 to {MAX_SHIFT}"
    return None


def _keeps_scale(layer: Layer, kernel: int) -> bool:
    """Whether sizes that are a multiple of the stride become exactly size / stride, or size * stride."""
    stride, covered = layer.integer("stride"), kernel - 2 * layer.integer("padding")
    if layer.operation != "conv_transpose2d":
        return 0 < covered <= stride
    return covered + layer.integer("output_padding") == stride
