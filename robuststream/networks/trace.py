"""From a torch.nn.Module to a network of layers, by torch.fx.

Layers are matched by their type, never by what fx would see inside them: fx drops masks as dead code, and GDN's
reparametrisation is resolved here once, so that a frozen model holds plain tensors.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from robuststream.errors import UnsupportedModel, first_line
from robuststream.networks.checks import check
from robuststream.networks.floating import FloatingNetwork, noise
from robuststream.networks.graph import OPERATIONS, Layer, Network

#: How far module and traced network may differ on random input, relative to the largest value.
TOLERANCE = 1e-4


def trace(name: str, module: nn.Module, channels: int) -> Network:
    """Trace `module`, which maps (B, channels, H, W) to (B, ..., ..., ...), and see that the result computes the same.

    Raises:
        UnsupportedModel: naming the module that has no counterpart among the operations.
    """
    if _converter(module) is not None:
        module = nn.Sequential(module)  # fx would look inside a single layer
    try:
        graph = _Tracer().trace(module)
    except Exception as error:  # fx runs the module's own forward, which may raise anything
        reason = first_line(error)
        kind = type(module).__name__
        raise UnsupportedModel(f"network {name}: {kind} cannot be traced ({reason})") from error
    network = Network(name, _Conversion(name, module).layers_of(graph))
    check(network, exact=False)
    _compare(network, module, channels)
    return network


class _Tracer(fx.Tracer):
    """Looks into modules made of modules only: what a layer's own `forward` does is not for fx to guess."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _converter(m) is not None or next(m.children(), None) is None


class _Conversion:
    """Turns the nodes of an fx graph into layers, one after the other."""

    def __init__(self, name: str, module: nn.Module) -> None:
        self._name = name
        self._module = module
        self._layers: list[Layer] = []
        #: What each node gives: the network's input is value 0, layer n's output value n + 1.
        self._values: dict[fx.Node, int] = {}
        #: Nodes that give a tuple: a value, and into how many parts it is cut.
        self._chunks: dict[fx.Node, tuple[int, int]] = {}

    def layers_of(self, graph: fx.Graph) -> list[Layer]:
        for node in graph.nodes:
            if node.op == "output":
                whole = bool(self._layers) and self._values.get(node.args[0]) == len(self._layers)
                self._expect(whole, node, "returns something other than its last layer's output")
            elif node.op == "placeholder":
                self._expect(not self._values, node, "takes more than one input")
                self._values[node] = 0
            elif node.op == "call_module":
                self._module_call(node)
            else:
                self._function_call(node)
        return self._layers

    def _module_call(self, node: fx.Node) -> None:
        module = self._module.get_submodule(str(node.target))
        if isinstance(module, nn.Identity):
            self._values[node] = self._value(node, node.args[0])
            return
        converter = _converter(module)
        self._expect(converter is not None, node, f"of type {type(module).__name__} is not known")
        assert converter is not None
        self._expect(len(node.args) == 1 and not node.kwargs, node, "is called with other arguments than its input")
        self._append(node, converter(f"{self._name}.{node.target}", module), node.args)

    def _function_call(self, node: fx.Node) -> None:
        target, arguments = node.target, node.args
        if target in _FUNCTIONS:
            layer = _FUNCTIONS[target]
            self._expect(len(arguments) == OPERATIONS[layer.operation].inputs, node, "with other arguments")
            self._append(node, layer, arguments)
        elif target is torch.cat:
            inputs, dim = _argument(node, 0, "tensors"), _argument(node, 1, "dim")
            self._expect(dim == 1 and isinstance(inputs, (list, tuple)), node, "joins another dimension")
            self._append(node, Layer("cat"), tuple(inputs))
        elif target in ("chunk", torch.chunk):
            parts, dim = _argument(node, 1, "chunks"), _argument(node, 2, "dim")
            self._expect(dim == 1 and isinstance(parts, int), node, "cuts another dimension")
            self._chunks[node] = self._value(node, _argument(node, 0, "input")), int(parts)
        elif target is operator.getitem and arguments[0] in self._chunks:
            self._part(node, arguments[0], arguments[1])  # type: ignore[arg-type]
        else:
            reason = f"{node.op} {target} has no counterpart, so it cannot be frozen for exact decoding"
            raise UnsupportedModel(f"network {self._name}: {reason}")

    def _part(self, node: fx.Node, tuple_node: fx.Node, part: Any) -> None:
        """One part of a tuple that `chunk` gives."""
        value, parts = self._chunks[tuple_node]
        channels = Network(self._name, self._layers).shapes[value].channels
        self._expect(isinstance(part, int) and channels % parts == 0, node, "takes no even part")
        size = channels // parts
        layer = Layer(
            "slice", {"first": part % parts * size, "channels": size}, inputs=(len(self._layers) + 1 - value,)
        )
        self._layers.append(layer)
        self._values[node] = len(self._layers)

    def _append(self, node: fx.Node, layer: Layer, arguments: tuple[Any, ...]) -> None:
        number = len(self._layers)
        inputs = tuple(number + 1 - self._value(node, argument) for argument in arguments)
        self._layers.append(replace(layer, inputs=inputs))
        self._values[node] = number + 1

    def _value(self, node: fx.Node, argument: Any) -> int:
        known = isinstance(argument, fx.Node) and argument in self._values
        self._expect(known, node, f"takes {argument}, which is no layer's output")
        return self._values[argument]

    def _expect(self, holds: bool, node: fx.Node, problem: str) -> None:
        if not holds:
            raise UnsupportedModel(f"network {self._name}: {node.op} {node.target} {problem}")


def _argument(node: fx.Node, position: int, name: str) -> Any:
    return node.args[position] if position < len(node.args) else node.kwargs.get(name)


def _converter(module: nn.Module) -> Callable[[str, Any], Layer] | None:
    # By name as well as by type: the type lives in compressai, which decoding never needs.
    if type(module).__name__ == "GDN" and hasattr(module, "beta_reparam"):
        return _gdn
    if type(module).__name__ in ("MaskedConv2d", "CheckerboardMaskedConv2d") and hasattr(module, "mask"):
        return _masked_conv2d
    return _CONVERTERS.get(type(module))


def _conv2d(where: str, module: nn.Conv2d) -> Layer:
    attributes = {"stride": _square(where, module.stride), "padding": _square(where, module.padding)}
    depthwise = module.groups > 1 and module.groups == module.in_channels == module.out_channels
    if module.groups != 1 and not depthwise:
        raise UnsupportedModel(f"{where}: {module.groups} groups are not supported: 1, or one for each channel")
    operation = "depthwise_conv2d" if depthwise else "conv2d"
    return Layer(operation, attributes, _convolution_tensors(where, module, module.out_channels))


def _masked_conv2d(where: str, module: Any) -> Layer:
    # As plain weights: fx would drop the mask as dead code.
    layer = _conv2d(where, module)
    return replace(layer, tensors={**layer.tensors, "weight": layer.tensors["weight"] * _plain(module.mask)})


def _conv_transpose2d(where: str, module: nn.ConvTranspose2d) -> Layer:
    if module.groups != 1:
        raise UnsupportedModel(f"{where}: groups in a transposed convolution are not supported")
    names = ("stride", "padding", "output_padding")
    attributes = {name: _square(where, getattr(module, name)) for name in names}
    return Layer("conv_transpose2d", attributes, _convolution_tensors(where, module, module.out_channels))


def _convolution_tensors(where: str, module: nn.Conv2d | nn.ConvTranspose2d, outputs: int) -> dict[str, Tensor]:
    if _square(where, module.dilation) != 1 or module.padding_mode != "zeros":
        raise UnsupportedModel(f"{where}: dilation and padding other than zeros are not supported")
    bias = torch.zeros(outputs, dtype=torch.float32, device="cpu") if module.bias is None else module.bias
    return {"weight": _plain(module.weight), "bias": _plain(bias)}


def _gdn(where: str, module: Any) -> Layer:
    tensors = {"beta": module.beta_reparam(module.beta), "gamma": module.gamma_reparam(module.gamma)}
    return Layer("gdn", {"inverse": bool(module.inverse)}, {name: _plain(value) for name, value in tensors.items()})


def _leaky_relu(where: str, module: nn.LeakyReLU) -> Layer:
    return Layer("leaky_relu", {"slope": repr(float(module.negative_slope))})


_CONVERTERS: dict[type[nn.Module], Callable[[str, Any], Layer]] = {
    nn.Conv2d: _conv2d,
    nn.ConvTranspose2d: _conv_transpose2d,
    nn.ReLU: lambda where, module: Layer("relu"),
    nn.LeakyReLU: _leaky_relu,
    nn.Sigmoid: lambda where, module: Layer("sigmoid"),
    nn.PixelShuffle: lambda where, module: Layer("pixel_shuffle", {"factor": module.upscale_factor}),
    nn.PixelUnshuffle: lambda where, module: Layer("pixel_unshuffle", {"factor": module.downscale_factor}),
}

_FUNCTIONS: dict[Any, Layer] = {
    torch.abs: Layer("abs"),
    operator.abs: Layer("abs"),
    "abs": Layer("abs"),
    torch.sigmoid: Layer("sigmoid"),
    "sigmoid": Layer("sigmoid"),
    operator.add: Layer("add"),
    torch.add: Layer("add"),
    operator.mul: Layer("mul"),
    torch.mul: Layer("mul"),
}


def _square(where: str, pair: Any) -> int:
    values = set(pair) if isinstance(pair, tuple) else {pair}
    if len(values) != 1 or not isinstance(next(iter(values)), int):
        raise UnsupportedModel(f"{where}: {pair} is not the same whole number for both directions")
    return int(values.pop())


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).clone().contiguous()


@torch.no_grad()
def _compare(network: Network, module: nn.Module, channels: int) -> None:
    parameter = next(module.parameters())
    size = 16 * network.scale[1] if network.scale[1] > 1 else 8
    x = noise((2, channels, size, size))
    # A copy: a module may overwrite its input.
    expected = module(x.clone().to(parameter)).float().cpu()
    if not torch.isfinite(expected).all():
        raise UnsupportedModel(f"network {network.name}: gives values that are not finite: its weights are too large")
    error = (FloatingNetwork(network)(x) - expected).abs().max() / expected.abs().max().clamp(min=1e-9)
    if not error < TOLERANCE:
        raise UnsupportedModel(
            f"network {network.name}: the traced layers differ from the module by {error:.1e}: "
            "a layer does more than its type says"
        )
