"""Runs a network in float32: the analysis and synthesis transforms, whose last bits may differ between machines."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from robuststream.networks.convolution import convolve, is_convolution
from robuststream.networks.graph import Network
from robuststream.networks.lowered import Lowered
from robuststream.networks.pointwise import elementwise


class FloatingNetwork:
    """A network on a device. Threads may share it."""

    def __init__(self, network: Network, device: torch.device | str = "cpu") -> None:
        self.network = network
        self.device = torch.device(device)

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """float32 (B, C, H, W) to float32, on this network's device."""
        # A caller's autocast would change the pixels; this touches no setting outside.
        with torch.autocast(self.device.type, enabled=False):
            return self._run(x.to(self.device))

    @cached_property
    def _run(self) -> Lowered | _Layers:
        """Made when it is first needed: a decoder never runs an analysis."""
        return Lowered(self.network) if self.device.type == "cpu" else _Layers(self.network, self.device)


class _Layers:
    """Layer by layer, by torch's own operations: for devices whose kernels want no help."""

    def __init__(self, network: Network, device: torch.device) -> None:
        self._network = network
        self._tensors = [
            {name: tensor.to(device) for name, tensor in layer.tensors.items()} for layer in network.layers
        ]

    def __call__(self, x: Tensor) -> Tensor:
        return self._network.run(x, self._operate)

    def _operate(self, number: int, inputs: list[Tensor]) -> Tensor:
        layer, tensors, x = self._network.layers[number], self._tensors[number], inputs[0]
        if is_convolution(layer):
            return convolve(layer, x, tensors["weight"], tensors["bias"])
        if layer.operation == "gdn":
            # Generalised divisive normalisation: Ballé, Laparra, Simoncelli, arXiv:1511.06281.
            norm = F.conv2d(x * x, tensors["gamma"][:, :, None, None], tensors["beta"])
            return x * (torch.sqrt(norm) if layer.attributes["inverse"] else torch.rsqrt(norm))
        return elementwise(layer, inputs)


def noise(shape: tuple[int, ...]) -> Tensor:
    """float32, the same whenever it is asked for: to see what a network makes of it."""
    generator = torch.Generator("cpu").manual_seed(1)
    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
