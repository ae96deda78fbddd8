"""Runs a network in float32: the analysis and synthesis transforms, whose last bits may differ between machines."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robuststream.networks.convolution import convolve, is_convolution
from robuststream.networks.graph import Layer, Network, rearrange


class FloatingNetwork:
    """A network on a device. Calls share nothing that changes, so threads may share it."""

    def __init__(self, network: Network, device: torch.device | str = "cpu") -> None:
        self.network = network
        self._tensors = [
            {name: tensor.to(device) for name, tensor in layer.tensors.items()} for layer in network.layers
        ]
        self.device = torch.device(device)

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """float32 (B, C, H, W) to float32, on this network's device."""
        # A caller's autocast would change the pixels; this touches no setting outside.
        with torch.autocast(self.device.type, enabled=False):
            return self.network.run(x.to(self.device), self._operate)

    def _operate(self, number: int, inputs: list[Tensor]) -> Tensor:
        layer, tensors, x = self.network.layers[number], self._tensors[number], inputs[0]
        if is_convolution(layer):
            return convolve(layer, x, tensors["weight"], tensors["bias"])
        if layer.operation == "gdn":
            # Generalised divisive normalisation: Ballé, Laparra, Simoncelli, arXiv:1511.06281.
            norm = F.conv2d(x * x, tensors["gamma"][:, :, None, None], tensors["beta"])
            return x * (torch.sqrt(norm) if layer.attributes["inverse"] else torch.rsqrt(norm))
        return elementwise(layer, inputs)


def elementwise(layer: Layer, inputs: list[Tensor]) -> Tensor:
    """The operations without tensors, on real numbers of any type."""
    if layer.operation == "relu":
        return F.relu(inputs[0])
    if layer.operation == "leaky_relu":
        return F.leaky_relu(inputs[0], float(layer.attributes["slope"]))
    if layer.operation == "abs":
        return inputs[0].abs()
    if layer.operation == "sigmoid":
        return torch.sigmoid(inputs[0])
    if layer.operation == "add":
        return inputs[0] + inputs[1]
    if layer.operation == "mul":
        return inputs[0] * inputs[1]
    if layer.operation == "round":
        return inputs[0]
    return rearrange(layer, inputs)


def noise(shape: tuple[int, ...]) -> Tensor:
    """float32, the same whenever it is asked for: to see what a network makes of it."""
    generator = torch.Generator("cpu").manual_seed(1)
    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
