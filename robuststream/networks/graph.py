"""A network as data: a list of layers from a closed set of operations, with their tensors (spec/model.md, section 3).

Running a graph executes nothing but these operations, so a model file is only ever data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import Any

import torch
from torch import Tensor

from robuststream.errors import UnsupportedModel

#: Operation: (attributes, tensors) it must have. Convolution weights are laid out as torch's.
OPERATIONS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "conv2d": (frozenset({"stride", "padding"}), frozenset({"weight", "bias"})),
    "conv_transpose2d": (frozenset({"stride", "padding", "output_padding"}), frozenset({"weight", "bias"})),
    "relu": (frozenset(), frozenset()),
    "leaky_relu": (frozenset({"slope"}), frozenset()),
    "abs": (frozenset(), frozenset()),
    "gdn": (frozenset({"inverse"}), frozenset({"beta", "gamma"})),
}

MAX_LAYERS = 1000
SLOPE = re.compile(r"[0-9]+(\.[0-9]+)?(e-?[0-9]+)?")
MAX_KERNEL = 31
MAX_STRIDE = 16


@dataclass(frozen=True, eq=False)
class Layer:
    """One operation on the output of the layer before.

    Attributes:
        operation: a key of OPERATIONS.
        attributes: whole numbers, truth values, and decimal fractions as text (so that a digest is well defined).
        tensors: by the names OPERATIONS gives. Floating: float32. Exact: int32 weights, int64 biases.
    """

    operation: str
    attributes: Mapping[str, int | bool | str] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def integer(self, name: str) -> int:
        return int(self.attributes[name])


@dataclass(frozen=True, eq=False)
class Network:
    """A chain of layers. In exact networks each layer with weights has `fraction_bits`: f of format.md, section 14."""

    name: str
    layers: Sequence[Layer]

    @property
    def channels(self) -> tuple[int, int]:
        """Channels in and out."""
        weighted = [layer for layer in self.layers if "weight" in layer.tensors]
        first, last = weighted[0], weighted[-1]
        inputs = first.tensors["weight"].shape[0 if first.operation == "conv_transpose2d" else 1]
        return int(inputs), len(last.tensors["bias"])

    @property
    def scale(self) -> tuple[int, int]:
        """Output pixels per input pixels, as a fraction in lowest terms: (1, 16) for a usual analysis transform."""
        up = down = 1
        for layer in self.layers:
            if layer.operation == "conv2d":
                down *= layer.integer("stride")
            elif layer.operation == "conv_transpose2d":
                up *= layer.integer("stride")
        common = gcd(up, down)
        return up // common, down // common

    def description(self) -> list[dict[str, Any]]:
        """The layers without their tensors' values, as they stand in a model file."""
        return [
            {"operation": layer.operation, "attributes": dict(layer.attributes), "tensors": sorted(layer.tensors)}
            for layer in self.layers
        ]

    def named_tensors(self) -> dict[str, Tensor]:
        """All tensors by their name in a model file: network.layer.tensor."""
        return {
            f"{self.name}.{number}.{name}": layer.tensors[name]
            for number, layer in enumerate(self.layers)
            for name in sorted(layer.tensors)
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
        wanted_attributes, wanted_tensors = OPERATIONS[operation]
        attributes = item.get("attributes")
        if exact and wanted_tensors:
            wanted_attributes |= {"fraction_bits"}
        if not isinstance(attributes, dict) or set(attributes) != wanted_attributes:
            raise UnsupportedModel(f"{where}: attributes must be {sorted(wanted_attributes)}")
        try:
            own = {tensor: tensors[f"{name}.{number}.{tensor}"] for tensor in wanted_tensors}
        except KeyError as error:
            raise UnsupportedModel(f"{where}: tensor {error} is missing") from None
        layers.append(Layer(operation, attributes, own))
    network = Network(name, layers)
    check(network, exact)
    return network


def check(network: Network, exact: bool) -> None:
    """See that a network can be run: attribute values, tensor types and shapes, channels that fit.

    Raises:
        UnsupportedModel: naming the layer and the fault.
    """
    channels: int | None = None
    for number, layer in enumerate(network.layers):
        problem = _attribute_problem(layer) or _tensor_problem(layer, channels, exact)
        if problem:
            raise UnsupportedModel(f"network {network.name}, layer {number} ({layer.operation}): {problem}")
        if "bias" in layer.tensors:
            channels = len(layer.tensors["bias"])
    if channels is None:
        raise UnsupportedModel(f"network {network.name}: no convolution in it")


def _attribute_problem(layer: Layer) -> str | None:
    for name, limit in (("stride", MAX_STRIDE), ("padding", MAX_KERNEL), ("output_padding", MAX_STRIDE - 1)):
        value = layer.attributes.get(name, 1)
        if type(value) is not int or not (name == "stride") <= value <= limit:
            return f"{name} {value!r} is not a whole number up to {limit}"
    if "output_padding" in layer.attributes and layer.integer("output_padding") >= layer.integer("stride"):
        return "output_padding is not below stride"
    if "inverse" in layer.attributes and type(layer.attributes["inverse"]) is not bool:
        return "inverse is not a truth value"
    slope = layer.attributes.get("slope", "0")
    if not (isinstance(slope, str) and SLOPE.fullmatch(slope) and float(slope) <= 1):
        return f"slope {slope!r} is not the text of a decimal fraction up to 1"
    return None


def _tensor_problem(layer: Layer, channels: int | None, exact: bool) -> str | None:
    for name, tensor in layer.tensors.items():
        kind = (torch.int64 if name == "bias" else torch.int32) if exact else torch.float32
        if tensor.dtype != kind:
            return f"{name} is {tensor.dtype}, not {kind}"
        if not exact and not torch.isfinite(tensor).all():
            return f"{name} holds values that are not finite"
    if layer.operation == "gdn":
        beta, gamma = layer.tensors["beta"], layer.tensors["gamma"]
        if beta.ndim != 1 or gamma.shape != (len(beta), len(beta)) or channels not in (None, len(beta)):
            return f"beta {tuple(beta.shape)} and gamma {tuple(gamma.shape)} do not fit {channels} channels"
        if not ((beta > 0).all() and (gamma >= 0).all()):
            return "beta must be positive and gamma not negative"
    if "weight" in layer.tensors:
        weight, bias = layer.tensors["weight"], layer.tensors["bias"]
        if weight.ndim != 4 or bias.ndim != 1 or not all(size > 0 for size in weight.shape):
            return f"weight {tuple(weight.shape)} and bias {tuple(bias.shape)} are no convolution's"
        inputs, outputs = (
            weight.shape[:2] if layer.operation == "conv_transpose2d" else (weight.shape[1], weight.shape[0])
        )
        if max(weight.shape[2:]) > MAX_KERNEL or outputs != len(bias) or channels not in (None, inputs):
            return f"weight {tuple(weight.shape)} and bias {tuple(bias.shape)} do not fit {channels} channels"
        if not all(_keeps_scale(layer, kernel) for kernel in weight.shape[2:]):
            return (
                f"a kernel of {tuple(weight.shape[2:])} with this stride and padding does not scale sizes by the stride"
            )
    return None


def _keeps_scale(layer: Layer, kernel: int) -> bool:
    """Whether sizes that are a multiple of the stride become exactly size / stride, or size * stride."""
    stride, covered = layer.integer("stride"), kernel - 2 * layer.integer("padding")
    if layer.operation == "conv2d":
        return 0 < covered <= stride
    return covered + layer.integer("output_padding") == stride
