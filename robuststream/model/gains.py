"""CompressAI's -vbr models: their gains and quantisation offsets as integers (spec/model.md, section 4)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from robuststream.errors import UnsupportedModel
from robuststream.networks.fixedpoint import FRACTION_BITS, check_finite, integers
from robuststream.priors.gain import MAX_GAIN, Gains
from robuststream.priors.quantiser import GAIN_BITS

#: The modules of such a class whose weights become the model's.
VARIABLE_RATE = ("QuantABCD", "gayn2zqstep", "scale_to_context")


@torch.no_grad()
def freeze_gains(net: Any) -> Gains:
    """The gains of a ScaleHyperpriorVbr or a class derived from it, at its whole quality indexes.

    Raises:
        UnsupportedModel: settings of the class that its own decoder does not have either.
    """
    if not getattr(net, "ste_recursive", True):
        raise UnsupportedModel("ste_recursive=False is not supported: contexts without quantisation offsets")
    check_finite("Gain", net.Gain)
    gains = net.Gain.detach().abs().double()
    steps = torch.ones_like(gains)
    if net.vr_entbttlnck:
        steps = net.lower_bound_zqstep(net.gayn2zqstep((1 / net.Gain.detach().abs())[:, None]))[:, 0].double()
    bias = torch.zeros((len(gains), 0), dtype=torch.float32, device="cpu")
    if getattr(net, "scl2ctx", False):
        bias = net.scale_to_context(net.Gain.detach().abs()[:, None])
    bound = net.gaussian_conditional.lower_bound_scale.bound
    return Gains(
        integers("Gain", gains, GAIN_BITS, MAX_GAIN),
        integers("the inverse of Gain", 1 / gains, GAIN_BITS, MAX_GAIN),
        integers("what gayn2zqstep makes of Gain", steps, FRACTION_BITS, MAX_GAIN),
        integers("what scale_to_context makes of Gain", bias, FRACTION_BITS),
        bound=int(integers("gaussian_conditional.lower_bound_scale.bound", bound, FRACTION_BITS)),
        z_tables=bool(net.vr_entbttlnck),
    )


def offset_module(net: Any) -> nn.Module:
    """The quantisation offset's network, (B, 2, H, W) to (B, 1, H, W): linear layers as 1 x 1 convolutions."""
    layers: list[nn.Module] = []
    for layer in net.QuantABCD:
        if isinstance(layer, nn.Linear):
            convolution = nn.Conv2d(layer.in_features, layer.out_features, 1, device="meta")
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
