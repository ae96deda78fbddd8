"""Which inputs an output hangs on, along one axis: how far a layer, or a whole network, looks."""

from __future__ import annotations

from robuststream.networks.graph import Layer, Network


def needed(network: Network, first: int, last: int) -> tuple[int, int]:
    """The inputs, first to last along one axis, that outputs `first` to `last` depend on (before clipping)."""
    #: By value: 0 is the network's input, n + 1 layer n's output.
    reach: dict[int, tuple[int, int]] = {len(network.layers): (first, last)}
    for number in reversed(range(len(network.layers))):
        if number + 1 not in reach:
            continue
        layer = network.layers[number]
        span = needed_by(layer, *reach.pop(number + 1))
        for value in (number + 1 - back for back in layer.inputs):
            other = reach.get(value, span)
            reach[value] = min(span[0], other[0]), max(span[1], other[1])
    return reach[0]


def needed_by(layer: Layer, first: int, last: int) -> tuple[int, int]:
    """As `needed`, of one layer."""
    if layer.operation == "pixel_shuffle":
        factor = layer.integer("factor")
        return first // factor, last // factor
    if layer.operation == "pixel_unshuffle":
        factor = layer.integer("factor")
        return first * factor, last * factor + factor - 1
    if "weight" not in layer.tensors:
        return first, last
    kernel = max(layer.tensors["weight"].shape[2:])
    stride, padding = layer.integer("stride"), layer.integer("padding")
    if layer.operation != "conv_transpose2d":
        return first * stride - padding, last * stride - padding + kernel - 1
    return -((kernel - 1 - padding - first) // stride), (last + padding) // stride
