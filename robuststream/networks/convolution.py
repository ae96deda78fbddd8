"""The convolutions of floating networks, as a layer says, by torch's own kernels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from robuststream.networks.graph import Layer


def is_convolution(layer: Layer) -> bool:
    return layer.operation in ("conv2d", "conv_transpose2d", "depthwise_conv2d")


def convolve(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution layer of x (B, C, H, W), with tensors in place of its own, in the type and on the device of all."""
    stride, padding = layer.integer("stride"), layer.integer("padding")
    if layer.operation != "conv_transpose2d":
        groups = len(weight) if layer.operation == "depthwise_conv2d" else 1
        return F.conv2d(x, weight, bias, stride=stride, padding=padding, groups=groups)
    more = layer.integer("output_padding")
    return F.conv_transpose2d(x, weight, bias, stride=stride, padding=padding, output_padding=more)
