"""CompressAI's -vbr models: what hangs on the quality index, as integers (spec/model.md, section 4).

The small networks of these classes, whose inputs are a gain and perhaps a scale, are run here, once, and their outputs
stand in the model file as tables. They are evaluated without rounding, so a checkpoint gives the same tables, and the
same digest, on every machine.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robuststream.errors import UnsupportedModel
from robuststream.networks.fixedpoint import FRACTION_BITS, ONE, check_finite, integers
from robuststream.priors.gain import MAX_GAIN, Gains
from robuststream.priors.quantiser import GAIN_BITS

#: The modules of such a class whose weights become the model's.
VARIABLE_RATE = ("QuantABCD", "gayn2zqstep", "scale_to_context")
#: Every float32 is a whole multiple of 2^-149.
FLOAT_BITS = 149


@torch.no_grad()
def freeze_z_steps(net: Any) -> Tensor | None:
    """Quantisation steps of z, int32 (Q,) at 2^-12, where a ScaleHyperpriorVbr's hang on the quality index; else None.

    Raises:
        UnsupportedModel: a gain or a step is no number, or too large.
    """
    if not net.vr_entbttlnck:
        return None
    steps = evaluated("gayn2zqstep", net.gayn2zqstep, (1 / _gains(net))[:, None])[:, 0]
    least = net.lower_bound_zqstep.bound.double()
    return integers("what gayn2zqstep makes of Gain", torch.maximum(steps, least), FRACTION_BITS, MAX_GAIN)


@torch.no_grad()
def freeze_gains(net: Any, z_steps: Tensor | None, thresholds: Tensor) -> Gains:
    """The gains of a ScaleHyperpriorVbr or a class derived from it, at its whole quality indexes.

    Args:
        z_steps: as `freeze_z_steps` gives them.
        thresholds: int32 (L - 1,) at 2^-12, between the L Gaussian rows.

    Raises:
        UnsupportedModel: settings of the class that its own decoder does not have either, or numbers that cannot be.
    """
    if not getattr(net, "ste_recursive", True):
        raise UnsupportedModel("ste_recursive=False is not supported: contexts without quantisation offsets")
    given = _gains(net)
    gains = integers("Gain", given, GAIN_BITS, MAX_GAIN)
    bias = torch.zeros((len(gains), 0), dtype=torch.float64, device="cpu")
    if getattr(net, "scl2ctx", False):
        bias = evaluated("scale_to_context", net.scale_to_context, given[:, None])
    return Gains(
        gains,
        integers("the inverse of Gain", 1 / given.double(), GAIN_BITS, MAX_GAIN),
        torch.full_like(gains, ONE) if z_steps is None else z_steps,
        integers("what scale_to_context makes of Gain", bias, FRACTION_BITS),
        _offsets(net, gains, thresholds),
        z_tables=z_steps is not None,
    )


def _gains(net: Any) -> Tensor:
    check_finite("Gain", net.Gain)
    if (net.Gain == 0).any():
        raise UnsupportedModel("Gain: a gain is 0: its quantisation step has no size")
    gains: Tensor = net.Gain.detach().abs()
    return gains


def _offsets(net: Any, gains: Tensor, thresholds: Tensor) -> Tensor:
    """int32 (Q, L) at 2^-12: what CompressAI computes for each element, for each row in its middle."""
    scales = _middles(thresholds, net.gaussian_conditional.lower_bound_scale.bound)
    if net.no_quantoffset:
        return torch.zeros((len(gains), len(scales)), dtype=torch.int32, device="cpu")
    pairs = torch.cartesian_prod(gains.double() / (1 << GAIN_BITS), scales / ONE).flip(1)
    # CompressAI takes the network's output away from the symbol's size.
    offsets = -evaluated("QuantABCD", net.QuantABCD, pairs)
    return integers("what QuantABCD makes of scales and Gain", offsets, FRACTION_BITS).reshape(len(gains), -1)


def _middles(thresholds: Tensor, bound: Tensor) -> Tensor:
    """A scale for each row, float64 (L,) at 2^-12: the middle between its thresholds.

    CompressAI raises scales to a bound first, so that is where the first row begins; the last has no end, and is taken
    at its beginning.
    """
    least = integers("gaussian_conditional.lower_bound_scale.bound", bound, FRACTION_BITS)
    begins = torch.cat((least.reshape(1), thresholds.clamp(min=int(least))))
    ends = torch.cat((begins[1:], begins[-1:]))
    return (begins.double() + ends) / 2


# --- Small networks without rounding ------------------------------------------------------------------------------


def evaluated(name: str, module: nn.Module, inputs: Tensor) -> Tensor:
    """Linear layers, ReLU and a last Softplus, in whole numbers of any size.

    Args:
        name: of the module, for messages.
        inputs: (n, features), whole multiples of 2^-149, as every float32 is.

    Returns:
        float64 (n, outputs): the numbers nearest to what the weights say, the same on every machine.

    Raises:
        UnsupportedModel: another layer, or an output beyond float64.
    """
    layers = list(module) if isinstance(module, nn.Sequential) else [module]
    softplus = isinstance(layers[-1], nn.Softplus) and layers[-1].beta == 1
    values, bits = _whole(inputs).T, FLOAT_BITS
    for number, layer in enumerate(layers[:-1] if softplus else layers):
        if isinstance(layer, nn.Linear):
            bias = _whole(layer.bias)[:, None] << bits if layer.bias is not None else 0
            values, bits = _whole(layer.weight) @ values + bias, bits + FLOAT_BITS
        elif isinstance(layer, nn.ReLU):
            values = np.maximum(values, 0)
        else:
            kind = type(layer).__name__
            raise UnsupportedModel(f"{name}, layer {number} ({kind}): only Linear, ReLU and a last Softplus are known")
    try:
        nearest = np.array([value / (1 << bits) for value in values.T.flat], np.float64)
    except OverflowError as error:
        raise UnsupportedModel(f"{name}: gives values beyond the range of numbers") from error
    if softplus:
        nearest = np.array([_softplus(value) for value in nearest], np.float64)
    return torch.from_numpy(nearest).reshape(len(inputs), -1)


def _whole(x: Tensor) -> Any:
    """Python's integers, x * 2^149, in an array of objects."""
    scaled = [int(math.ldexp(value, FLOAT_BITS)) for value in x.detach().double().flatten().tolist()]
    return np.array(scaled, object).reshape(tuple(x.shape))


def _softplus(x: float) -> float:
    """ln(1 + e^x), by Decimal: the last bits of a machine's own exp and log are its own affair."""
    context = Context(prec=40)
    small = context.exp(Decimal(-abs(x)))
    return max(x, 0.0) + float(context.ln(context.add(1, small)))
