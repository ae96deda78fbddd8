"""The steps of a lowered network: one layer that moves or mixes places, and what is done at each place behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from robuststream.networks.graph import Layer, rearrange
from robuststream.networks.phases import transposed_taps
from robuststream.networks.pointwise import elementwise
from robuststream.networks.reach import needed_by

#: Numbers in a vector of the widest kernels: a convolution to fewer channels costs what one to so many does.
VECTOR = 16

#: A row and a column: those places of an output that lie so far from multiples of `Step.up`.
Phase = tuple[int, int]
#: Of a value's number, a first row and an end: these rows, as far as there are such.
Take = Callable[[int, int, int], Tensor]


class Kernel:
    """A convolution's weight (C', C / groups, h, w) and bias, ready to run: reordered once for the kernels that will
    read it."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int = 1, groups: int = 1) -> None:
        self.size = weight.shape[2], weight.shape[3]
        self._stride, self._groups = stride, groups
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self._bias = bias.contiguous()
        self._packed: Tensor | None = None
        if torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
            # For a band of usual size; it serves for others as well.
            shape = [1, weight.shape[1] * groups, 16, 256]
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(
                self._weight, (0, 0), (stride, stride), (1, 1), groups, shape
            )

    def __call__(self, x: Tensor, padding: tuple[int, int] = (0, 0)) -> Tensor:
        stride = self._stride, self._stride
        if self._packed is None or not torch._C._get_mkldnn_enabled():
            return F.conv2d(x, self._weight, self._bias, stride, padding, groups=self._groups)
        # Not by conv2d, which would reorder the weight anew each time, and leaves 1x1 kernels to a slower library.
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._packed, self._bias, padding, stride, (1, 1), self._groups, "none", [], ""
        )
        return result


class Tail:
    """An operation at each place, of what a step gave and, where it takes two, of another value.

    Attributes:
        other: the number of that value.
    """

    def __init__(self, layer: Layer, other: int | None = None) -> None:
        self._layer = layer
        self.other = other
        if layer.operation == "gdn":
            self._norm = Kernel(layer.tensors["gamma"][:, :, None, None], layer.tensors["beta"])

    def __call__(self, x: Tensor, other: Tensor | None, out: Tensor) -> None:
        """x and `other`, float32 (B, C, h, w), to `out`, which may be x."""
        if self._layer.operation != "gdn":
            elementwise(self._layer, [x] if other is None else [x, other], out)
            return
        # Generalised divisive normalisation: Ballé, Laparra, Simoncelli, arXiv:1511.06281.
        norm = self._norm(x * x)
        torch.mul(x, norm.sqrt_() if self._layer.attributes["inverse"] else norm.rsqrt_(), out=out)


class Step:
    """One layer, with those at each place that follow it.

    Attributes:
        inputs: numbers of the values that it takes, besides its tails.
        channels: of its output.
        up: so many rows of the output are computed at least, and so many columns.
        tails: what follows.
    """

    def __init__(self, layer: Layer | None, inputs: tuple[int, ...], channels: int) -> None:
        self.layers = [] if layer is None else [layer]
        self.inputs = inputs
        self.channels = channels
        self.up = layer.integer("factor") if layer is not None and layer.operation == "pixel_shuffle" else 1
        self.tails: list[Tail] = []

    @property
    def others(self) -> tuple[int, ...]:
        """Numbers of the values that its tails take."""
        return tuple(tail.other for tail in self.tails if tail.other is not None)

    def needed(self, first: int, end: int) -> tuple[int, int]:
        """The rows of its inputs, first and end, that rows `first` to `end` hang on, as if there were no borders."""
        last = end - 1
        for layer in reversed(self.layers):
            first, last = needed_by(layer, first, last)
        return first, last + 1

    def size(self, size: int, axis: int) -> int:
        """Of the output along an axis, 2 or 3, of an input of `size`."""
        down = [layer.integer("factor") for layer in self.layers if layer.operation == "pixel_unshuffle"]
        return size * self.up // (down[0] if down else 1)

    def pieces(self, take: Take, first: int, end: int, height: int) -> Iterator[tuple[Tensor, Phase | None]]:
        """What stands in the output's rows `first` to `end` before the tails, phase by phase; None where it is all.

        Args:
            height: rows of the inputs.
        """
        rows = [take(value, *self.needed(first, end)) for value in self.inputs]
        yield rearrange(self.layers[0], rows) if self.layers else rows[0], None

    def run(self, take: Take, first: int, end: int, height: int, out: Tensor) -> None:
        """Compute rows `first` to `end` into `out`; other arguments as for `pieces`."""
        for piece, phase in self.pieces(take, first, end, height):
            target = self._phase(out, phase)
            if not self.tails:
                target.copy_(piece)
            for tail in self.tails:
                other = None if tail.other is None else self._phase(take(tail.other, first, end), phase)
                tail(piece, other, target)
                piece = target

    def _phase(self, rows: Tensor, phase: Phase | None) -> Tensor:
        return rows if phase is None else rows[:, :, phase[0] :: self.up, phase[1] :: self.up]


class Part(NamedTuple):
    """One phase's share of a convolution: a kernel with stride 1 or the convolution's.

    Attributes:
        top, left: where the kernel begins, from the place in the input that is the output's.
    """

    weight: Tensor
    bias: Tensor
    top: int
    left: int

    @property
    def cost(self) -> int:
        """Products for each place, as many as vectors make."""
        outputs, _, height, width = self.weight.shape
        return height * width * -(-outputs // VECTOR)


class Branch(NamedTuple):
    """A convolution that gives some phases, one behind the other in its channels; top and left as in `Part`."""

    kernel: Kernel
    top: int
    left: int
    phases: Sequence[Phase]


class Convolution(Step):
    """A convolution, a transposed one, or one with a pixel shuffle behind it."""

    def __init__(self, layer: Layer, inputs: tuple[int, ...], channels: int, shuffle: Layer | None = None) -> None:
        super().__init__(layer, inputs, channels)
        if shuffle is not None:
            self.layers.append(shuffle)
        transposed = layer.operation == "conv_transpose2d"
        self._stride = 1 if transposed else layer.integer("stride")
        self._groups = len(layer.tensors["weight"]) if layer.operation == "depthwise_conv2d" else 1
        self.up = layer.integer("stride") if transposed else 1 if shuffle is None else shuffle.integer("factor")
        phases = [(row, column) for row in range(self.up) for column in range(self.up)]
        parts = {phase: (_transposed_part if transposed else _shuffled_part)(layer, self.up, phase) for phase in phases}
        together = _together(list(parts.values()))
        if together.cost <= sum(part.cost for part in parts.values()):
            self._branches = [self._branch(together, phases)]
        else:
            self._branches = [self._branch(part, [phase]) for phase, part in parts.items()]

    def _branch(self, part: Part, phases: Sequence[Phase]) -> Branch:
        return Branch(Kernel(part.weight, part.bias, self._stride, self._groups), part.top, part.left, phases)

    def size(self, size: int, axis: int) -> int:
        layer = self.layers[0]
        if layer.operation != "conv_transpose2d":
            covered = layer.tensors["weight"].shape[axis] - 2 * layer.integer("padding")
            size = (size - covered) // self._stride + 1
        return size * self.up

    def pieces(self, take: Take, first: int, end: int, height: int) -> Iterator[tuple[Tensor, Phase | None]]:
        first, end = first // self.up, end // self.up
        for kernel, top, left, phases in self._branches:
            above, below = first * self._stride + top, (end - 1) * self._stride + top + kernel.size[0]
            # At least one row, although a phase may look at none but zeros.
            start, stop = min(max(above, 0), height - 1), max(min(below, height), 1)
            x = take(self.inputs[0], start, stop)
            columns = self.size(x.shape[3], 3) // self.up
            right = (columns - 1) * self._stride + left + kernel.size[1]
            rows, row = _padding(above - start, below - start, stop - start, self._stride)
            sides, column = _padding(left, right, x.shape[3], self._stride)
            y = kernel(x, (rows, sides))[:, :, row : row + end - first, column : column + columns]
            for number, phase in enumerate(phases):
                yield (y, None) if self.up == 1 else (y.narrow(1, number * self.channels, self.channels), phase)


def _shuffled_part(layer: Layer, up: int, phase: Phase) -> Part:
    """Of a convolution with a pixel shuffle behind it: every `up` x `up`th channel."""
    channels = slice(phase[0] * up + phase[1], None, up * up)
    padding = layer.integer("padding")
    return Part(layer.tensors["weight"][channels], layer.tensors["bias"][channels], -padding, -padding)


def _transposed_part(layer: Layer, up: int, phase: Phase) -> Part:
    """Of a transposed convolution: the taps that fall on this phase's places."""
    weight = layer.tensors["weight"].transpose(0, 1)
    (rows, top), (columns, left) = (
        transposed_taps(weight.shape[axis + 2], up, layer.integer("padding"), phase[axis]) for axis in (0, 1)
    )
    taken = weight[:, :, rows][:, :, :, columns]
    if not rows or not columns:
        # A kernel smaller than the stride leaves places without any tap.
        taken, top, left = weight.new_zeros((*weight.shape[:2], 1, 1)), 0, 0
    return Part(taken, layer.tensors["bias"], top, left)


def _together(parts: Sequence[Part]) -> Part:
    """One kernel for all, with zeros where one of them has no taps."""
    top, left = min(part.top for part in parts), min(part.left for part in parts)
    height = max(part.top + part.weight.shape[2] for part in parts) - top
    width = max(part.left + part.weight.shape[3] for part in parts) - left
    outputs, inputs = parts[0].weight.shape[:2]
    weight = parts[0].weight.new_zeros((len(parts), outputs, inputs, height, width))
    for own, part in zip(weight, parts, strict=True):
        own.narrow(2, part.top - top, part.weight.shape[2]).narrow(3, part.left - left, part.weight.shape[3]).copy_(
            part.weight
        )
    return Part(weight.flatten(0, 1), torch.cat([part.bias for part in parts]), top, left)


def _padding(first: int, end: int, size: int, stride: int) -> tuple[int, int]:
    """So many zeros on both sides of `size` inputs that windows from `first` to `end` fit, and how many outputs then
    stand before the one whose window begins at `first`."""
    padding = max(0, -first, end - size)
    padding += -(padding + first) % stride
    return padding, (padding + first) // stride
