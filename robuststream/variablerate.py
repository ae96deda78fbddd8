"""CompressAI's -vbr models: their gains and quantisation offsets as integers (spec/model.md, section 4)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robuststream.errors import UnsupportedModel
from robuststream.networks.fixedpoint import FRACTION_BITS, quantise
from robuststream.priors.gain import Gains
from robuststream.priors.quantiser import GAIN_BITS


@torch.no_grad()
def freeze_gains(net: Any) -> Gains:
    """The gains of a ScaleHyperpriorVbr or a class derived from it, at its whole quality indexes.

    Raises:
        UnsupportedModel: settings of the class that its own decoder does not have either.
    """
    if not getattr(net, "ste_recursive", True):
        raise UnsupportedModel("ste_recursive=False is not supported: contexts without quantisation offsets")
    gains = net.Gain.detach().abs().double()
    steps = torch.ones_like(gains)
    if net.vr_entbttlnck:
        steps = net.lower_bound_zqstep(net.gayn2zqstep((1 / net.Gain.detach().abs())[:, None]))[:, 0].double()
    bias = torch.zeros((len(gains), 0))
    if getattr(net, "scl2ctx", False):
        bias = net.scale_to_context(net.Gain.detach().abs()[:, None])
    return Gains(
        _integers(gains, GAIN_BITS),
        _integers(1 / gains, GAIN_BITS),
        _integers(steps, FRACTION_BITS),
        _integers(bias, FRACTION_BITS),
        bound=int(quantise(net.gaussian_conditional.lower_bound_scale.bound, FRACTION_BITS)),
        z_tables=bool(net.vr_entbttlnck),
    )


def offset_module(net: Any) -> nn.Module:
    """The quantisation offset's network, (B, 2, H, W) to (B, 1, H, W): linear layers as 1 x 1 convolutions."""
    layers: list[nn.Module] = []
    for layer in net.QuantABCD:
        if isinstance(layer, nn.Linear):
            convolution = nn.Conv2d(layer.in_features, layer.out_features, 1)
            convolution.weight = nn.Parameter(layer.weight.detach().clone()[:, :, None, None])
            convolution.bias = nn.Parameter(layer.bias.detach().clone())
            layers.append(convolution)
        else:
            layers.append(layer)
    last = layers[-1]
    assert isinstance(last, nn.Conv2d)
    # CompressAI takes the network's output away from the symbol's size.
    with torch.no_grad():
        last.weight.neg_()
        assert last.bias is not None
        last.bias.neg_()
    return nn.Sequential(*layers)


def _integers(x: Tensor, bits: int) -> Tensor:
    return quantise(x, bits).clamp(-(2**31), 2**31 - 1).to(torch.int32)
