"""The operations without tensors, on real numbers of any type."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robuststream.networks.graph import Layer, rearrange

#: Those at each place by itself.
POINTWISE = ("relu", "leaky_relu", "abs", "sigmoid", "add", "mul", "round")


def elementwise(layer: Layer, inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
    """A layer's output, of inputs (B, C, H, W). One of POINTWISE also writes to `out`, which may be an input."""
    x = inputs[0]
    if layer.operation == "relu":
        return torch.clamp_min(x, 0, out=out)
    if layer.operation == "leaky_relu":
        # Slopes are from 0 to 1.
        return torch.maximum(x, x * float(layer.attributes["slope"]), out=out)
    if layer.operation == "abs":
        return torch.abs(x, out=out)
    if layer.operation == "sigmoid":
        return torch.sigmoid(x, out=out)
    if layer.operation == "add":
        return torch.add(x, inputs[1], out=out)
    if layer.operation == "mul":
        return torch.mul(x, inputs[1], out=out)
    if layer.operation == "round":
        # Of an exact network that runs in real numbers: nothing is rounded there.
        return x if out is None else out.copy_(x)
    return rearrange(layer, inputs)
