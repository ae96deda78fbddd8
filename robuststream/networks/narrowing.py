"""From a floating network to an exact one: weights of 14 bits, values of 24 (spec/format.md, section 14, Freezing)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from robuststream.errors import UnsupportedModel
from robuststream.networks.fixedpoint import LIMITS, SUM_BITS, WEIGHT_LIMIT, formats, output_bound, quantise
from robuststream.networks.graph import FORMAT, OPERATIONS, Layer, Network

#: Of all values inside a network of entropy parameters. No calibration is needed: they reach to +-4080.
INSIDE = {"fraction": 11, "bits": 24}
#: A weight's largest fraction: what is smaller than 2^-30 does not count, and a channel may be all zeros.
MAX_WEIGHT_FRACTION = 30


def freeze_exact(network: Network) -> Network:
    """The network in integers: each output channel's weights at the largest fraction at which they have 14 bits.

    Raises:
        UnsupportedModel: weights are too large, or an operation has no exact form.
    """
    layers = [_freeze_layer(network.name, number, layer) for number, layer in enumerate(network.layers)]
    # Layers count backwards, so one more in front takes the input's place and no other is renumbered.
    return Network(network.name, [Layer("round", INSIDE), *layers])


def _freeze_layer(name: str, number: int, layer: Layer) -> Layer:
    where = f"network {name}, layer {number} ({layer.operation})"
    kind = OPERATIONS[layer.operation]
    if not kind.exact:
        raise UnsupportedModel(f"{where}: has no exact form among entropy parameters")
    if not kind.rounds:
        return layer
    layer = replace(layer, attributes={**layer.attributes, **INSIDE})
    return _freeze_weights(where, layer) if layer.tensors else layer


def _freeze_weights(where: str, layer: Layer) -> Layer:
    weight, bias = layer.tensors["weight"], layer.tensors["bias"].double()
    axis = _along_outputs(layer).index(-1)
    most = weight.double().abs().amax(dim=[d for d in range(4) if d != axis])
    if float(most.max()) >= 2 ** (WEIGHT_LIMIT.bit_length()) or float(bias.abs().max()) >= 2.0 ** (SUM_BITS - 12):
        raise UnsupportedModel(f"{where}: its weights are too large for exact arithmetic")
    fraction = torch.zeros(len(most), dtype=torch.int64, device="cpu")
    for bits in range(1, MAX_WEIGHT_FRACTION + 1):
        # What 14 bits hold, and a bias that leaves room for the sum: each channel keeps the last that fits.
        small = bias.abs() * 2.0 ** (bits + INSIDE["fraction"]) < 2.0 ** (SUM_BITS - 1)
        fits = (quantise(most, bits) <= WEIGHT_LIMIT) & small
        fraction = torch.where(fits, bits, fraction)
    tensors = {
        "weight": quantise(weight, fraction.reshape(_along_outputs(layer))).to(torch.int16),
        "bias": quantise(bias, fraction + INSIDE["fraction"]),
        # Input and output stand at one fraction: what is to go is that of the weights.
        "shift": fraction.to(torch.int32),
    }
    frozen = replace(layer, tensors=tensors)
    if int(fraction.min()) < 1 or output_bound(frozen, LIMITS[INSIDE["bits"]]) >= 1 << SUM_BITS:
        raise UnsupportedModel(f"{where}: its weights are too large for exact arithmetic")
    return frozen


def in_real_numbers(network: Network) -> Network:
    """An exact network's weights as float32, for networks that run in floating point; a floating one as it is.

    Its `round` layers stay, and do nothing there.
    """
    known = formats(network)
    layers = []
    for number, layer in enumerate(network.layers):
        fractions = known[number + 1 - layer.inputs[0]].fraction, known[number + 1].fraction
        plain = {name: value for name, value in layer.attributes.items() if name not in FORMAT}
        tensors = _real_tensors(layer, *fractions) if "shift" in layer.tensors else layer.tensors
        layers.append(replace(layer, attributes=plain, tensors=tensors))
    return Network(network.name, layers)


def _real_tensors(layer: Layer, before: int, after: int) -> dict[str, Tensor]:
    """Weights and bias, of a layer from values at 2^-before to values at 2^-after."""
    unit = 2.0 ** -(layer.tensors["shift"].double() + after)
    weight = layer.tensors["weight"].double() * (unit * 2.0**before).reshape(_along_outputs(layer))
    return {"weight": weight.float(), "bias": (layer.tensors["bias"].double() * unit).float()}


def _along_outputs(layer: Layer) -> list[int]:
    """The shape in which one number for each output channel goes with its weights."""
    return [1, -1, 1, 1] if layer.operation == "conv_transpose2d" else [-1, 1, 1, 1]
