"""A network as data: layers from a closed set of operations, with their tensors (spec/model.md, section 3).

Running a graph executes nothing but these operations, so a model file is only ever data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from robuststream.errors import UnsupportedModel


@dataclass(frozen=True)
class Operation:
    """What a layer of this kind must have: attributes, tensors, and so many inputs, or from one up (`any_number`)."""

    attributes: frozenset[str] = frozenset()
    tensors: frozenset[str] = frozenset()
    inputs: int = 1
    any_number: bool = False
    exact: bool = False


#: The closed set. Convolution weights are laid out as torch's. `exact`: has a form in integers (format.md, section 14).
OPERATIONS: Mapping[str, Operation] = {
    "conv2d": Operation(frozenset({"stride", "padding"}), frozenset({"weight", "bias"}), exact=True),
    "conv_transpose2d": Operation(
        frozenset({"stride", "padding", "output_padding"}), frozenset({"weight", "bias"}), exact=True
    ),
    "relu": Operation(exact=True),
    "leaky_relu": Operation(frozenset({"slope"}), exact=True),
    "abs": Operation(),
    "sigmoid": Operation(),
    "gdn": Operation(frozenset({"inverse"}), frozenset({"beta", "gamma"})),
    "pixel_shuffle": Operation(frozenset({"factor"}), exact=True),
    "slice": Operation(frozenset({"first", "channels"}), exact=True),
    "add": Operation(inputs=2, exact=True),
    "mul": Operation(inputs=2),
    "cat": Operation(any_number=True, exact=True),
}

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
#: Attribute: smallest and largest value, where it is a whole number.
LIMITS = {
    "stride": (1, MAX_STRIDE),
    "padding": (0, MAX_KERNEL),
    "output_padding": (0, MAX_STRIDE - 1),
    "factor": (1, MAX_STRIDE),
    "first": (0, MAX_CHANNELS),
    "channels": (1, MAX_CHANNELS),
}


@dataclass(frozen=True, eq=False)
class Layer:
    """One operation on the outputs of layers before it.

    Attributes:
        operation: a key of OPERATIONS.
        attributes: whole numbers, truth values, and decimal fractions as text (so that a digest is well defined).
        tensors: by the names OPERATIONS gives. Floating: float32. Exact: int32 weights, int64 biases.
        inputs: for each input, how many layers back it was computed: 1 is the layer before. Layer number n takes the
            network's own input as n + 1.
    """

    operation: str
    attributes: Mapping[str, int | bool | str] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    inputs: tuple[int, ...] = (1,)

    def integer(self, name: str) -> int:
        return int(self.attributes[name])

    def description(self) -> dict[str, Any]:
        described: dict[str, Any] = {
            "operation": self.operation,
            "attributes": dict(self.attributes),
            "tensors": sorted(self.tensors),
        }
        return described if self.inputs == (1,) else described | {"inputs": list(self.inputs)}


@dataclass(frozen=True)
class Shape:
    """Channels of a value, and its height over that of the network's input."""

    channels: int
    scale: Fraction


@dataclass(frozen=True, eq=False)
class Network:
    """Layers, each on outputs of earlier ones; the last one's output is the network's.

    In exact networks each layer with weights has `fraction_bits`: f of format.md, section 14.
    """

    name: str
    layers: Sequence[Layer]

    @property
    def channels(self) -> tuple[int, int]:
        """Channels in and out."""
        return self.shapes[0].channels, self.shapes[-1].channels

    @property
    def scale(self) -> tuple[int, int]:
        """Output pixels per input pixels, as a fraction in lowest terms: (1, 16) for a usual analysis transform."""
        scale = self.shapes[-1].scale
        return scale.numerator, scale.denominator

    @cached_property
    def shapes(self) -> list[Shape]:
        """Of the network's input, and then of each layer's output.

        The first layer with tensors says how many channels the network takes.

        Raises:
            UnsupportedModel: sizes do not fit.
        """
        first = next((layer for layer in self.layers if layer.tensors), None)
        if first is None:
            raise UnsupportedModel(f"network {self.name}: no convolution in it")
        shapes = [Shape(_convolution_channels(first)[0], Fraction(1))]
        for number, layer in enumerate(self.layers):
            if not all(1 <= back <= number + 1 for back in layer.inputs):
                raise UnsupportedModel(f"network {self.name}, layer {number}: takes an input that is not before it")
            try:
                shapes.append(_output_shape(layer, [shapes[number + 1 - back] for back in layer.inputs]))
            except ValueError as error:
                where = f"network {self.name}, layer {number} ({layer.operation})"
                raise UnsupportedModel(f"{where}: {error}") from None
        return shapes

    @property
    def is_pointwise(self) -> bool:
        """Whether each place of the output depends on the same place of the input alone."""
        return all(
            layer.operation not in ("conv_transpose2d", "pixel_shuffle")
            and layer.attributes.get("stride", 1) == 1
            and ("weight" not in layer.tensors or layer.tensors["weight"].shape[2:] == (1, 1))
            for layer in self.layers
        )

    @cached_property
    def _last_uses(self) -> list[list[int]]:
        """For each layer, the values (0: the network's input, n + 1: layer n's output) no later one takes."""
        last = {number + 1 - back: number for number, layer in enumerate(self.layers) for back in layer.inputs}
        return [[value for value, user in last.items() if user == number] for number in range(len(self.layers))]

    def run(self, x: Tensor, operate: Callable[[int, list[Tensor]], Tensor]) -> Tensor:
        """Walk through the layers: `operate` gives layer number n's output from its inputs."""
        values: list[Tensor | None] = [x]
        for number, layer in enumerate(self.layers):
            inputs = [values[number + 1 - back] for back in layer.inputs]
            values.append(operate(number, inputs))  # type: ignore[arg-type]
            for value in self._last_uses[number]:
                values[value] = None
        output = values[-1]
        assert output is not None
        return output

    def description(self) -> list[dict[str, Any]]:
        """The layers without their tensors' values, as they stand in a model file."""
        return [layer.description() for layer in self.layers]

    def named_tensors(self) -> dict[str, Tensor]:
        """All tensors by their name in a model file: network.layer.tensor."""
        return {
            f"{self.name}.{number}.{name}": layer.tensors[name]
            for number, layer in enumerate(self.layers)
            for name in sorted(layer.tensors)
        }


def rearrange(layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    """The operations that move values and compute nothing: the same in floating and exact networks."""
    if layer.operation == "pixel_shuffle":
        return torch.nn.functional.pixel_shuffle(inputs[0], layer.integer("factor"))
    if layer.operation == "slice":
        return inputs[0].narrow(1, layer.integer("first"), layer.integer("channels"))
    assert layer.operation == "cat"
    return torch.cat(list(inputs), dim=1)


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
        wanted = kind.attributes | ({"fraction_bits"} if exact and kind.tensors else set())
        attributes = item.get("attributes")
        if not isinstance(attributes, dict) or set(attributes) != wanted:
            raise UnsupportedModel(f"{where}: attributes must be {sorted(wanted)}")
        inputs = item.get("inputs", [1])
        if not isinstance(inputs, list) or not all(type(back) is int for back in inputs):
            raise UnsupportedModel(f"{where}: inputs {inputs!r} is not a list of whole numbers")
        try:
            own = {tensor: tensors[f"{name}.{number}.{tensor}"] for tensor in kind.tensors}
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
    most = MAX_EXACT_VALUES if exact else MAX_VALUES
    total = sum(shape.channels * shape.scale**2 for shape in network.shapes)
    if total > most:
        raise UnsupportedModel(
            f"network {network.name}: makes {float(total):.2g} values of each place, more than {most}"
        )


def _kind_problem(layer: Layer, exact: bool) -> str | None:
    kind = OPERATIONS[layer.operation]
    if exact and not kind.exact:
        return "has no exact form among entropy parameters"
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
    if "inverse" in layer.attributes and type(layer.attributes["inverse"]) is not bool:
        return "inverse is not a truth value"
    slope = layer.attributes.get("slope", "0")
    if not (isinstance(slope, str) and SLOPE.fullmatch(slope) and float(slope) <= 1):
        return f"slope {slope!r} is not the text of a decimal fraction up to 1"
    return None


def _tensor_problem(layer: Layer, exact: bool) -> str | None:
    for name, tensor in layer.tensors.items():
        kind = (torch.int64 if name == "bias" else torch.int32) if exact else torch.float32
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
    if "weight" in layer.tensors:
        weight, bias = layer.tensors["weight"], layer.tensors["bias"]
        if weight.ndim != 4 or bias.ndim != 1 or not all(size > 0 for size in weight.shape):
            return f"weight {tuple(weight.shape)} and bias {tuple(bias.shape)} are no convolution's"
        if max(weight.shape[2:]) > MAX_KERNEL or _convolution_channels(layer)[1] != len(bias):
            return f"weight {tuple(weight.shape)} and bias {tuple(bias.shape)} do not fit"
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


def _convolution_channels(layer: Layer) -> tuple[int, int]:
    """Channels in and out of a layer with tensors."""
    if layer.operation == "gdn":
        return len(layer.tensors["beta"]), len(layer.tensors["beta"])
    outputs, inputs = (int(size) for size in layer.tensors["weight"].shape[:2])
    return (outputs, inputs) if layer.operation == "conv_transpose2d" else (inputs, outputs)


def _output_shape(layer: Layer, inputs: Sequence[Shape]) -> Shape:
    """Raises ValueError where the inputs do not fit the layer or each other."""
    channels, scale = inputs[0].channels, inputs[0].scale
    if any(shape.scale != scale for shape in inputs):
        raise ValueError("its inputs are of different sizes")
    if layer.tensors:
        takes, gives = _convolution_channels(layer)
        if takes != channels:
            raise ValueError(f"takes {takes} channels and gets {channels}")
        stride = int(layer.attributes.get("stride", 1))
        return Shape(gives, scale * stride if layer.operation == "conv_transpose2d" else scale / stride)
    if layer.operation == "pixel_shuffle":
        factor = layer.integer("factor")
        if channels % factor**2:
            raise ValueError(f"{channels} channels are no multiple of the factor's square")
        return Shape(channels // factor**2, scale * factor)
    if layer.operation == "slice":
        if layer.integer("first") + layer.integer("channels") > channels:
            raise ValueError(f"takes channels beyond the {channels} there are")
        return Shape(layer.integer("channels"), scale)
    if layer.operation == "cat":
        return Shape(sum(shape.channels for shape in inputs), scale)
    if any(shape.channels != channels for shape in inputs):
        raise ValueError("its inputs have different numbers of channels")
    return inputs[0]
