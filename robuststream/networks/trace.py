"""From a torch.nn.Module to a list of layers, by torch.fx.

Layers are matched by their type, never by what fx would see inside them: fx drops masks as dead code, and GDN's
reparametrisation is resolved here once, so that a frozen model holds plain tensors.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from robuststream.errors import UnsupportedModel
from robuststream.networks.floating import FloatingNetwork
from robuststream.networks.graph import Layer, Network, check

#: How far module and traced network may differ on random input, relative to the largest value.
TOLERANCE = 1e-4


def trace(name: str, module: nn.Module, channels: int) -> Network:
    """Trace `module`, which maps (B, channels, H, W) to (B, ..., ..., ...), and see that the result computes the same.

    Raises:
        UnsupportedModel: naming the module that has no counterpart among the operations.
    """
    try:
        graph = _Tracer().trace(module)
    except Exception as error:  # fx runs the module's own forward, which may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        kind = type(module).__name__
        raise UnsupportedModel(f"network {name}: {kind} is not a chain of layers ({reason})") from error
    layers: list[Layer] = []
    last: fx.Node | None = None
    for node in graph.nodes:
        if node.op == "output":
            _expect(node.args[0] is last, name, node, "returns something other than its last layer's output")
        elif node.op == "placeholder":
            _expect(last is None, name, node, "takes more than one input")
            last = node
        else:
            _expect(list(node.all_input_nodes) == [last], name, node, "is not a chain of layers")
            layers.append(_convert(name, module, node))
            last = node
    network = Network(name, layers)
    check(network, exact=False)
    _compare(network, module, channels)
    return network


class _Tracer(fx.Tracer):
    """Looks into modules made of modules only: what a layer's own `forward` does is not for fx to guess."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _converter(m) is not None or next(m.children(), None) is None


def _convert(name: str, root: nn.Module, node: fx.Node) -> Layer:
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        converter = _converter(module)
        _expect(converter is not None, name, node, f"of type {type(module).__name__} is not known")
        assert converter is not None
        return converter(f"{name}.{node.target}", module)
    if node.op == "call_function" and node.target in (torch.abs, operator.abs):
        return Layer("abs")
    raise UnsupportedModel(
        f"network {name}: {node.op} {node.target} has no counterpart, so it cannot be frozen for exact decoding"
    )


def _converter(module: nn.Module) -> Callable[[str, Any], Layer] | None:
    # By name as well as by type: the type lives in compressai, which decoding never needs.
    if type(module).__name__ == "GDN" and hasattr(module, "beta_reparam"):
        return _gdn
    return _CONVERTERS.get(type(module))


def _conv2d(where: str, module: nn.Conv2d) -> Layer:
    attributes = {"stride": _square(where, module.stride), "padding": _square(where, module.padding)}
    return Layer("conv2d", attributes, _convolution_tensors(where, module, module.out_channels))


def _conv_transpose2d(where: str, module: nn.ConvTranspose2d) -> Layer:
    names = ("stride", "padding", "output_padding")
    attributes = {name: _square(where, getattr(module, name)) for name in names}
    return Layer("conv_transpose2d", attributes, _convolution_tensors(where, module, module.out_channels))


def _convolution_tensors(where: str, module: nn.Conv2d | nn.ConvTranspose2d, outputs: int) -> dict[str, Tensor]:
    if module.groups != 1 or _square(where, module.dilation) != 1 or module.padding_mode != "zeros":
        raise UnsupportedModel(f"{where}: groups, dilation and padding other than zeros are not supported")
    bias = torch.zeros(outputs) if module.bias is None else module.bias
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
}


def _square(where: str, pair: Any) -> int:
    values = set(pair) if isinstance(pair, tuple) else {pair}
    if len(values) != 1 or not isinstance(next(iter(values)), int):
        raise UnsupportedModel(f"{where}: {pair} is not the same whole number for both directions")
    return int(values.pop())


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).clone().contiguous()


def _expect(holds: bool, name: str, node: fx.Node, problem: str) -> None:
    if not holds:
        raise UnsupportedModel(f"network {name}: {node.op} {node.target} {problem}")


@torch.no_grad()
def _compare(network: Network, module: nn.Module, channels: int) -> None:
    parameter = next(module.parameters())
    size = 64 * network.scale[1] // network.scale[0] if network.scale[1] > 1 else 8
    x = torch.randn((2, channels, size, size), generator=torch.Generator().manual_seed(1))
    expected = module(x.to(parameter)).float().cpu()
    error = (FloatingNetwork(network)(x) - expected).abs().max() / expected.abs().max().clamp(min=1e-9)
    if not error < TOLERANCE:
        raise UnsupportedModel(
            f"network {network.name}: the traced layers differ from the module by {error:.1e}: "
            "a layer does more than its type says"
        )
