"""A network as data: layers from a closed set of operations, with their tensors (spec/model.md, section 3).

Running a graph executes nothing but these operations, so a model file is only ever data.
"""

from __future__ import annotations

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
    """What a layer of this kind must have: attributes, tensors, and so many inputs, or from one up (`any_number`).

    Attributes:
        exact: has a form in integers (format.md, section 14).
        floating: has a form in real numbers.
        rounds: in integers it says in which format its output stands, by the attributes FORMAT; others keep their
            input's.
    """

    attributes: frozenset[str] = frozenset()
    tensors: frozenset[str] = frozenset()
    inputs: int = 1
    any_number: bool = False
    exact: bool = False
    floating: bool = True
    rounds: bool = False

    def needs(self, exact: bool) -> tuple[frozenset[str], frozenset[str]]:
        """Names of attributes and tensors, in one arithmetic or the other."""
        if not exact:
            return self.attributes, self.tensors
        shifts = SHIFT if self.tensors else frozenset()
        return self.attributes | (FORMAT if self.rounds else frozenset()), self.tensors | shifts


FORMAT = frozenset({"fraction", "bits"})
SHIFT = frozenset({"shift"})
_CONVOLUTION = frozenset({"weight", "bias"})
#: The closed set. Convolution weights are laid out as torch's.
OPERATIONS: Mapping[str, Operation] = {
    "conv2d": Operation(frozenset({"stride", "padding"}), _CONVOLUTION, exact=True, rounds=True),
    "conv_transpose2d": Operation(
        frozenset({"stride", "padding", "output_padding"}), _CONVOLUTION, exact=True, rounds=True
    ),
    "depthwise_conv2d": Operation(frozenset({"stride", "padding"}), _CONVOLUTION, exact=True, rounds=True),
    "round": Operation(exact=True, floating=False, rounds=True),
    "relu": Operation(exact=True),
    "leaky_relu": Operation(frozenset({"slope"}), exact=True),
    "abs": Operation(),
    "sigmoid": Operation(),
    "gdn": Operation(frozenset({"inverse"}), frozenset({"beta", "gamma"})),
    "pixel_shuffle": Operation(frozenset({"factor"}), exact=True),
    "pixel_unshuffle": Operation(frozenset({"factor"}), exact=True),
    "slice": Operation(frozenset({"first", "channels"}), exact=True),
    "add": Operation(inputs=2, exact=True, rounds=True),
    "mul": Operation(inputs=2),
    "cat": Operation(any_number=True, exact=True, rounds=True),
}


@dataclass(frozen=True, eq=False)
class Layer:
    """One operation on the outputs of layers before it.

    Attributes:
        operation: a key of OPERATIONS.
        attributes: whole numbers, truth values, and decimal fractions as text (so that a digest is well defined).
        tensors: by the names OPERATIONS gives. Floating: float32. Exact: int16 weights, int64 biases, int32 shifts.
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
    """Layers, each on outputs of earlier ones; the last one's output is the network's."""

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

        The first layer with tensors says how many channels the network takes: as many as it does itself, unless what
        lies before it makes places channels, or channels places.

        Raises:
            UnsupportedModel: sizes do not fit.
        """
        for number, layer in enumerate(self.layers):
            if not all(1 <= back <= number + 1 for back in layer.inputs):
                raise UnsupportedModel(f"network {self.name}, layer {number}: takes an input that is not before it")
        shapes = [Shape(self._channels_taken(), Fraction(1))]
        for number, layer in enumerate(self.layers):
            try:
                shapes.append(_output_shape(layer, [shapes[number + 1 - back] for back in layer.inputs]))
            except ValueError as error:
                where = f"network {self.name}, layer {number} ({layer.operation})"
                raise UnsupportedModel(f"{where}: {error}") from None
        return shapes

    def _channels_taken(self) -> int:
        first = next((number for number, layer in enumerate(self.layers) if layer.tensors), None)
        if first is None:
            raise UnsupportedModel(f"network {self.name}: no convolution in it")
        channels = convolution_channels(self.layers[first])[0]
        value = first + 1 - self.layers[first].inputs[0]
        while value > 0:
            layer = self.layers[value - 1]
            if layer.operation == "pixel_unshuffle":
                channels //= layer.integer("factor") ** 2
            elif layer.operation == "pixel_shuffle":
                channels *= layer.integer("factor") ** 2
            value -= layer.inputs[0]
        return channels

    @property
    def is_pointwise(self) -> bool:
        """Whether each place of the output depends on the same place of the input alone."""
        return all(
            layer.operation not in ("conv_transpose2d", "depthwise_conv2d", "pixel_shuffle", "pixel_unshuffle")
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
    if layer.operation == "pixel_unshuffle":
        return torch.nn.functional.pixel_unshuffle(inputs[0], layer.integer("factor"))
    if layer.operation == "slice":
        return inputs[0].narrow(1, layer.integer("first"), layer.integer("channels"))
    assert layer.operation == "cat"
    return torch.cat(list(inputs), dim=1)


def convolution_channels(layer: Layer) -> tuple[int, int]:
    """Channels in and out of a layer with tensors."""
    if layer.operation == "gdn":
        return len(layer.tensors["beta"]), len(layer.tensors["beta"])
    if layer.operation == "depthwise_conv2d":
        return len(layer.tensors["weight"]), len(layer.tensors["weight"])
    outputs, inputs = (int(size) for size in layer.tensors["weight"].shape[:2])
    return (outputs, inputs) if layer.operation == "conv_transpose2d" else (inputs, outputs)


def _output_shape(layer: Layer, inputs: Sequence[Shape]) -> Shape:
    """Raises ValueError where the inputs do not fit the layer or each other."""
    channels, scale = inputs[0].channels, inputs[0].scale
    if any(shape.scale != scale for shape in inputs):
        raise ValueError("its inputs are of different sizes")
    if layer.tensors:
        takes, gives = convolution_channels(layer)
        if takes != channels:
            raise ValueError(f"takes {takes} channels and gets {channels}")
        stride = int(layer.attributes.get("stride", 1))
        return Shape(gives, scale * stride if layer.operation == "conv_transpose2d" else scale / stride)
    if layer.operation == "pixel_unshuffle":
        factor = layer.integer("factor")
        return Shape(channels * factor**2, scale / factor)
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
