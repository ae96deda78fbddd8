"""Runs a network in integers: the same result on every machine (spec/format.md, section 14).

Every value is an integer, and every sum of products is an integer that no engine rounds (`fixedpoint.prove`). So the
order of summation, the batch, the thread count, the kernel and the device cannot matter. What could is a kernel that is
not a sum of products (Winograd, FFT): products of matrices have none, and they are all that is asked of a library here.

Between layers values are int32 (B, H, W, C): channels last, as products of matrices leave them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from robuststream.networks.choice import engine_for
from robuststream.networks.engines import Engine
from robuststream.networks.fixedpoint import (
    LIMIT,
    OUTSIDE,
    SLOPE_BITS,
    Format,
    LayerBound,
    formats,
    prove,
    slope_integer,
)
from robuststream.networks.graph import Layer, Network
from robuststream.networks.limbs import LimbConvolution
from robuststream.networks.phases import Phases, phases_of

#: Columns of a convolution that are gathered at once, in elements: 64 MB of float64.
GATHERED = 1 << 23
#: A slope of 1: no activation follows.
NO_SLOPE = 1 << SLOPE_BITS


class ExactNetwork:
    """An exact network, ready to run. Calls share nothing that changes, so threads may share it.

    Args:
        bounds: what `prove` said of this network, or of one that has all its weights and more; it is asked here if not.
        device: where it runs.
        engine: what multiplies; on a CPU int8 limbs have kernels of their own.

    Raises:
        UnsupportedModel: sums could leave the exact range.
    """

    def __init__(
        self,
        network: Network,
        bounds: Sequence[LayerBound] | None = None,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ) -> None:
        self.network = network
        self.bounds = prove(network) if bounds is None else bounds
        self.device = torch.device(device)
        self._phases = {
            number: phases_of(layer)
            for number, layer in enumerate(network.layers)
            if layer.operation in ("conv2d", "conv_transpose2d")
        }
        matrices = [phase.weight for phases in self._phases.values() for phase in phases.phases]
        self.engine = engine or engine_for(self.device, [(len(matrix), matrix.shape[1]) for matrix in matrices])
        self._formats = formats(network)
        self._folded = _folded_activations(network)
        weighted = [number for number, layer in enumerate(network.layers) if "weight" in layer.tensors]
        self._convolutions = {number: self._convolution(number) for number in weighted}

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Integers at 2^-12, any dtype, (B, C, H, W), to float64 integers at 2^-12 within +-2^24, on the network's
        device."""
        x = x.to(self.device, torch.float64).clamp(-LIMIT, LIMIT).to(torch.int32)
        values = self.network.run(x.permute(0, 2, 3, 1).contiguous(), self._operate)
        output = in_format(values, self._formats[-1], OUTSIDE)
        # Channel by channel in memory, as symbols are coded.
        return output.permute(0, 3, 1, 2).to(torch.float64, memory_format=torch.contiguous_format)

    def _convolution(self, number: int) -> Any:
        layer, slope = self.network.layers[number], NO_SLOPE
        follower = self._folded.get(number)
        if follower is not None:
            slope = _slope(self.network.layers[follower])
        limit = self._formats[number + 1].limit
        if layer.operation == "depthwise_conv2d":
            return DepthwiseConvolution(layer, limit, slope, self.device)
        if self.device.type == "cpu" and self.engine.name == "int8":
            return LimbConvolution(self._phases[number], layer, limit, slope)
        return Convolution(self._phases[number], layer, limit, slope, self.engine, self.device)

    def _operate(self, number: int, inputs: list[Tensor]) -> Tensor:
        layer, x = self.network.layers[number], inputs[0]
        if number in self._convolutions:
            return self._convolutions[number](x)  # type: ignore[no-any-return]
        if number in self._folded.values():
            return x
        known = [self._formats[number + 1 - back] for back in layer.inputs]
        own = self._formats[number + 1]
        if layer.operation in ("relu", "leaky_relu"):
            return activated(x.to(torch.int64), _slope(layer)).to(torch.int32)
        if layer.operation == "round":
            return in_format(x, known[0], own)
        if layer.operation == "add":
            return _sum(inputs, known, own)
        if layer.operation == "cat":
            return torch.cat([in_format(*pair, own) for pair in zip(inputs, known, strict=True)], dim=3)
        return _moved(layer, x)


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
        padded = phases.padded(x)
        rows, columns = phases.size(*x.shape[1:3])
        outputs = len(self._bias)
        out = x.new_empty((len(x), rows * phases.up, columns * phases.up, outputs))
        for phase, weight in zip(phases.phases, self._weights, strict=True):
            together = max(1, GATHERED // (len(x) * columns * phase.weight.shape[0]))
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


def in_format(x: Tensor, before: Format, after: Format) -> Tensor:
    """The values in another format: floor(x * 2^(after - before) + 1/2), saturated; int32."""
    return rounded_to(x.to(torch.int64), before.fraction, after)


def rounded_to(x: Tensor, fraction: int, after: Format) -> Tensor:
    """The same of int64 values at 2^-fraction."""
    bits = fraction - after.fraction
    x = (x + (1 << bits - 1)) >> bits if bits > 0 else x << -bits
    return x.clamp(-after.limit, after.limit).to(torch.int32)


def _sum(inputs: Sequence[Tensor], known: Sequence[Format], own: Format) -> Tensor:
    """At the larger fraction the sum has no error; it is rounded once."""
    fraction = max(format.fraction for format in known)
    aligned = [x.to(torch.int64) << fraction - format.fraction for x, format in zip(inputs, known, strict=True)]
    return rounded_to(aligned[0] + aligned[1], fraction, own)


def _moved(layer: Layer, x: Tensor) -> Tensor:
    """The operations that compute nothing, of (B, H, W, C)."""
    if layer.operation == "slice":
        first = layer.integer("first")
        return x[..., first : first + layer.integer("channels")]
    factor = layer.integer("factor")
    batch, height, width, channels = x.shape
    if layer.operation == "pixel_shuffle":
        cells = x.reshape(batch, height, width, -1, factor, factor).permute(0, 1, 4, 2, 5, 3)
        return cells.reshape(batch, height * factor, width * factor, -1)
    assert layer.operation == "pixel_unshuffle"
    cells = x.reshape(batch, height // factor, factor, width // factor, factor, channels).permute(0, 1, 3, 5, 2, 4)
    return cells.reshape(batch, height // factor, width // factor, -1)


def _slope(layer: Layer) -> int:
    return 0 if layer.operation == "relu" else slope_integer(str(layer.attributes["slope"]))


def _folded_activations(network: Network) -> dict[int, int]:
    """Convolutions whose output goes through one activation and nowhere else, and those activations: made in one."""
    users: dict[int, list[int]] = {}
    for number, layer in enumerate(network.layers):
        for back in layer.inputs:
            users.setdefault(number - back, []).append(number)
    return {
        number: users[number][0]
        for number, layer in enumerate(network.layers)
        if "weight" in layer.tensors
        and len(users.get(number, ())) == 1
        and network.layers[users[number][0]].operation in ("relu", "leaky_relu")
    }
