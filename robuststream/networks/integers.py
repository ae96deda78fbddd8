"""Convolutions of integers: gathered columns times weights, by an engine, then rounded (spec/format.md, section 14).

    values ──►── columns ──►── sums ──►── + bias, rounded, saturated ──►── activation ──►── values
                        engine

Values are int32 (B, H, W, C): channels last, as products of matrices leave them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from robuststream.networks.engines import Engine
from robuststream.networks.fixedpoint import SLOPE_BITS
from robuststream.networks.graph import Layer
from robuststream.networks.limbs import LimbConvolution
from robuststream.networks.phases import Phases

#: Columns of a convolution that are gathered at once, in elements: 64 MB of float64.
GATHERED = 1 << 23
#: A slope of 1: no activation follows.
NO_SLOPE = 1 << SLOPE_BITS
IntegerConvolution = Callable[[Tensor], Tensor]


def convolution(
    layer: Layer, phases: Phases | None, limit: int, slope: int, engine: Engine, device: torch.device
) -> IntegerConvolution:
    """A layer with weights, ready to run.

    Args:
        phases: of the layer; None of a depthwise one.
        limit: at which its outputs saturate.
        slope: of the activation that follows, at 2^-16: 0 for a ReLU, NO_SLOPE for none.
    """
    if phases is None:
        return DepthwiseConvolution(layer, limit, slope, device)
    if device.type == "cpu" and engine.name == "int8":
        return LimbConvolution(phases, layer, limit, slope)
    return Convolution(phases, layer, limit, slope, engine, device)


class Convolution:
    """A convolution by products of matrices, on any device; as limbs.LimbConvolution."""

    def __init__(
        self, phases: Phases, layer: Layer, limit: int, slope: int, engine: Engine, device: torch.device
    ) -> None:
        self._phases = phases
        self._engine = engine
        self._weights = [engine.prepare(phase.weight, device) for phase in self._phases.phases]
        self._bias, self._shift = (layer.tensors[name].to(device, torch.int64) for name in ("bias", "shift"))
        self._limit, self._slope = limit, slope

    def __call__(self, x: Tensor) -> Tensor:
        phases = self._phases
        rows, columns = phases.size(*x.shape[1:3])
        line = columns * max(phase.weight.shape[0] for phase in phases.phases)
        if len(x) > 1 and len(x) * line > GATHERED:
            return torch.cat([self(picture) for picture in torch.split(x, max(1, GATHERED // line))])
        padded = phases.padded(x)
        outputs = len(self._bias)
        out = x.new_empty((len(x), rows * phases.up, columns * phases.up, outputs))
        for phase, weight in zip(phases.phases, self._weights, strict=True):
            together = max(1, GATHERED // max(1, len(x) * columns * phase.weight.shape[0]))
            for top in range(0, rows, together):
                size = min(together, rows - top), columns
                sums = self._engine.sums(phases.columns(phase, padded[:, top * phases.step :], size), weight)
                values = finished(sums[:, :outputs] + self._bias, self._shift, self._limit, self._slope)
                first = top * phases.up + phase.row
                target = out[:, first : first + size[0] * phases.up : phases.up, phase.column :: phases.up]
                target.copy_(values.reshape(len(x), *size, outputs))
        return out


class DepthwiseConvolution:
    """Each channel by itself: there is no product of matrices in it, so it is summed tap by tap, in int64."""

    def __init__(self, layer: Layer, limit: int, slope: int, device: torch.device) -> None:
        self._stride, self._padding = layer.integer("stride"), layer.integer("padding")
        self._weight, self._bias, self._shift = (
            layer.tensors[name].to(device, torch.int64) for name in ("weight", "bias", "shift")
        )
        self._limit, self._slope = limit, slope

    def __call__(self, x: Tensor) -> Tensor:
        stride, padding = self._stride, self._padding
        padded = pad(x, (0, 0, *[padding] * 4)).to(torch.int64)
        rows, columns = (size // stride for size in x.shape[1:3])
        total = self._bias
        for row in range(self._weight.shape[2]):
            for column in range(self._weight.shape[3]):
                seen = padded[:, row : row + stride * (rows - 1) + 1 : stride]
                seen = seen[:, :, column : column + stride * (columns - 1) + 1 : stride]
                total = total + seen * self._weight[:, 0, row, column]
        return finished(total, self._shift, self._limit, self._slope).to(torch.int32)


def finished(sums: Tensor, shift: Tensor, limit: int, slope: int) -> Tensor:
    """sat(floor(S * 2^-shift + 1/2)) of int64 sums (..., O), and the activation that follows."""
    rounded = (sums + (torch.ones_like(shift) << (shift - 1))) >> shift
    return activated(rounded.clamp(-limit, limit), slope)


def activated(x: Tensor, slope: int) -> Tensor:
    """x where it is not negative, else floor(x * slope * 2^-16 + 1/2)."""
    if slope == NO_SLOPE:
        return x
    if slope == 0:
        return x.clamp(min=0)
    return torch.where(x < 0, (x * slope + (1 << SLOPE_BITS - 1)) >> SLOPE_BITS, x)
