"""Runs a network in integers: the same result on every machine (spec/format.md, section 14).

Every value is an integer, and every sum of products is an integer that no engine rounds (`fixedpoint.prove`). So the
order of summation, the batch, the thread count, the kernel and the device cannot matter. What could is a kernel that is
not a sum of products (Winograd, FFT): products of matrices have none, and they are all that is asked of a library here.

Between layers values are int32 (B, H, W, C): channels last, as products of matrices leave them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robuststream.networks.choice import engine_for
from robuststream.networks.engines import Engine
from robuststream.networks.fixedpoint import (
    LIMIT,
    OUTSIDE,
    Format,
    LayerBound,
    formats,
    prove,
    slope_integer,
)
from robuststream.networks.graph import Layer, Network
from robuststream.networks.integers import NO_SLOPE, IntegerConvolution, activated, convolution
from robuststream.networks.phases import phases_of


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

    def _convolution(self, number: int) -> IntegerConvolution:
        layer, follower = self.network.layers[number], self._folded.get(number)
        slope = NO_SLOPE if follower is None else _slope(self.network.layers[follower])
        limit, phases = self._formats[number + 1].limit, self._phases.get(number)
        return convolution(layer, phases, limit, slope, self.engine, self.device)

    def _operate(self, number: int, inputs: list[Tensor]) -> Tensor:
        layer, x = self.network.layers[number], inputs[0]
        if number in self._convolutions:
            return self._convolutions[number](x)
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
