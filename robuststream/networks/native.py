"""Native mode's networks: entropy parameters in float32, for modules the converter does not know, and for comparison.

They always run on the CPU, in float32, whatever autocast says: the fewer things that differ between encoder and
decoder, the fewer digests fail. What still differs is found by those (priors/walk.py).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from robuststream.networks.fixedpoint import ONE
from robuststream.networks.floating import FloatingNetwork, noise
from robuststream.networks.graph import Network
from robuststream.networks.narrowing import in_real_numbers


class LiveNetwork:
    """A module that is no data: it runs in native mode, and can neither be saved nor run exactly.

    Args:
        name: of the network.
        module: float32 (B, C, H, W) to (B, C', s H, s W). It is taken as it is, not copied.
        channels: C.
    """

    def __init__(self, name: str, module: nn.Module, channels: int) -> None:
        self.name = name
        self.module = module
        outputs = self(torch.zeros((1, channels, 8, 8), dtype=torch.float32, device="cpu"))
        self.channels = channels, int(outputs.shape[1])
        scale = Fraction(int(outputs.shape[2]), 8)
        self.scale = scale.numerator, scale.denominator

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        # What the module makes for itself is made on the CPU as well.
        with torch.autocast("cpu", enabled=False), torch.device("cpu"):
            return self.module(x.clone())  # type: ignore[no-any-return]

    def is_pointwise(self) -> bool:
        """Whether each output place depends on the same place of the input and nothing else, as far as can be seen."""
        x = noise((1, self.channels[0], 3, 3))
        whole, middle = self(x), self(x[:, :, 1:2, 1:2])
        return whole.shape[2:] == (3, 3) and torch.allclose(whole[:, :, 1:2, 1:2], middle, atol=1e-5)

    def description(self) -> list[dict[str, Any]]:
        """For the digest: what it prints as; its numbers are in `named_tensors`."""
        return [
            {"module": f"{type(self.module).__module__}.{type(self.module).__qualname__}", "text": repr(self.module)}
        ]

    def named_tensors(self) -> dict[str, Tensor]:
        state = self.module.state_dict()
        return {f"{self.name}.{key}": value.detach().cpu().float() for key, value in state.items()}


class NativeNetwork:
    """A network of entropy parameters in float32: values in units of 2^-12, real numbers, float64 in and out."""

    def __init__(self, network: Network | LiveNetwork) -> None:
        self._run = network if isinstance(network, LiveNetwork) else FloatingNetwork(in_real_numbers(network))

    def __call__(self, x: Tensor) -> Tensor:
        return self._run((x / ONE).float()).double() * ONE
