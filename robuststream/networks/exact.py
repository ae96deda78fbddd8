"""Runs a network in integers carried in float64: the same result on every machine (spec/format.md, section 14).

Only sums of products, maxima and floors are used; every value that occurs is an integer below 2^53 (proven by
`fixedpoint.prove`), or one scaled by a power of two, so no operation rounds. The order of summation, the batch, the
thread count and the kernel cannot matter. What could matter is a kernel that is not a sum of products (Winograd, FFT):
torch has none for float64 on a CPU, and these networks always run there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robuststream.networks.convolution import convolve, is_convolution
from robuststream.networks.fixedpoint import LayerBound, prove, rescale, saturate, slope_integer
from robuststream.networks.graph import Network, rearrange


class ExactNetwork:
    """An exact network, ready to run. Calls share nothing that changes, so threads may share it.

    Args:
        bounds: what `prove` said of this network, or of one that has all its weights and more; it is asked here if not.

    Raises:
        UnsupportedModel: sums could leave the exact range.
    """

    def __init__(self, network: Network, bounds: Sequence[LayerBound] | None = None) -> None:
        self.network = network
        self.bounds = prove(network) if bounds is None else bounds
        self._tensors = [{name: t.double() for name, t in layer.tensors.items()} for layer in network.layers]

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Integers at 2^-12, any dtype, (B, C, H, W), to float64 integers at 2^-12 within +-2^24."""
        return self.network.run(saturate(x.to("cpu", torch.float64)), self._operate)

    def _operate(self, number: int, inputs: list[Tensor]) -> Tensor:
        layer, tensors, x = self.network.layers[number], self._tensors[number], inputs[0]
        if is_convolution(layer):
            return rescale(convolve(layer, x, tensors["weight"], tensors["bias"]), layer.integer("fraction_bits"))
        if layer.operation == "relu":
            return x.clamp(min=0)
        if layer.operation == "leaky_relu":
            slope = slope_integer(str(layer.attributes["slope"]))
            return torch.where(x < 0, torch.floor(x * (slope * 2.0**-16) + 0.5), x)
        if layer.operation == "add":
            return saturate(x + inputs[1])
        return rearrange(layer, inputs)
