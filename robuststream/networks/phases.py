r"""A convolution as matrix products: which places of the input each output is a sum over, and with which weights.

All outputs of a convolution of stride t are sums over the same taps, places t apart:

    output   0     1     2            x: places of the input, p: padding
             │     │     │
    taps    xxx   xxx   xxx           t = 2, kernel 3

Of a transposed convolution of stride t the outputs fall into t x t phases, each with some of the kernel's weights: no
product with the zeros that a transposed convolution is said to insert is ever made.

    input    0     1     2
             │\   /│\   /│
    output   0  1  2  3  4  5         t = 2: even outputs are one phase, odd ones another

Weights are one matrix (taps x channels in, channels out) for each phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from robuststream.networks.graph import Layer


@dataclass(frozen=True, eq=False)
class Phase:
    """Outputs at the places (row + up * i, column + up * j).

    Attributes:
        row, column: of the first.
        taps: places (rows, columns) of the input, counted from (step * i, step * j); at least one.
        weight: integers (len(taps) * C, O): for each tap, all channels.
    """

    row: int
    column: int
    taps: Sequence[tuple[int, int]]
    weight: Tensor


@dataclass(frozen=True, eq=False)
class Phases:
    """A convolution in all its phases.

    Attributes:
        step: how many places of the input one output of a phase is from the next.
        up: how many places of the output.
        margins: how many places all taps together reach beyond the input: above, below, left, right.
    """

    step: int
    up: int
    phases: Sequence[Phase]
    margins: tuple[int, int, int, int]

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Of each phase's outputs, of an input of this size."""
        return height // self.step, width // self.step

    def padded(self, x: Tensor) -> Tensor:
        """x (B, H, W, C) with zeros for all places that taps reach."""
        above, below, left, right = self.margins
        return pad(x, (0, 0, left, right, above, below))

    def columns(self, phase: Phase, padded: Tensor, size: tuple[int, int]) -> Tensor:
        """What a phase's weights are multiplied with: (B * rows * columns, taps * C)."""
        above, _, left, _ = self.margins
        seen = []
        for down, across in phase.taps:
            top, start = down + above, across + left
            rows = padded[:, top : top + self.step * (size[0] - 1) + 1 : self.step]
            seen.append(rows[:, :, start : start + self.step * (size[1] - 1) + 1 : self.step])
        # One tap alone would be a view of the input, which no matrix product needs to have copied.
        return (torch.cat(seen, dim=3) if len(seen) > 1 else seen[0]).reshape(-1, phase.weight.shape[0])


def phases_of(layer: Layer) -> Phases:
    """Of a `conv2d` or a `conv_transpose2d` that keeps sizes in proportion (checks.py)."""
    stride, padding = layer.integer("stride"), layer.integer("padding")
    weight = layer.tensors["weight"]
    if layer.operation == "conv2d":
        # Output r is the sum over a of w[a] x[t r + a - p].
        taps = _cross(*([a - padding for a in range(size)] for size in weight.shape[2:]))
        matrix = weight.permute(2, 3, 1, 0).reshape(-1, len(weight))
        return _joined(stride, 1, [Phase(0, 0, taps, matrix)])
    found = []
    for row in range(stride):
        for column in range(stride):
            (downs, top), (acrosses, left) = (
                transposed_taps(size, stride, padding, place)
                for place, size in zip((row, column), weight.shape[2:], strict=True)
            )
            taps = _cross(range(top, top + len(downs)), range(left, left + len(acrosses)))
            pieces = [weight[:, :, a, b] for a, b in _cross(downs, acrosses)]
            # Where a kernel is smaller than its stride, some outputs are their bias alone.
            nothing = [torch.zeros_like(weight[:, :, 0, 0])]
            found.append(Phase(row, column, taps or [(0, 0)], torch.cat(pieces or nothing)))
    return _joined(1, stride, found)


def transposed_taps(kernel: int, stride: int, padding: int, phase: int) -> tuple[list[int], int]:
    """Of a transposed convolution along one axis: the places of its kernel that make outputs number stride x n + phase,
    in the order of the inputs they take, and how far from input n the first of these is."""
    first = (phase + padding) % stride
    taps = list(range(first, kernel, stride))[::-1]
    return taps, (phase + padding) // stride - len(taps) + 1


def _cross(rows: Sequence[int], columns: Sequence[int]) -> list[tuple[int, int]]:
    return [(row, column) for row in rows for column in columns]


def _joined(step: int, up: int, phases: list[Phase]) -> Phases:
    downs = [down for phase in phases for down, _ in phase.taps]
    acrosses = [across for phase in phases for _, across in phase.taps]
    # An output's first place is at most step - 1 before the input's end.
    below, right = (max(0, max(taps) - step + 1) for taps in (downs, acrosses))
    return Phases(step, up, phases, (max(0, -min(downs)), below, max(0, -min(acrosses)), right))
