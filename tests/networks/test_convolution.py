"""One place where layers' convolutions are run, for exact and floating networks; a lowered network has its own."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import robuststream
from robuststream.networks import convolution
from robuststream.networks.floating import _Layers
from robuststream.networks.graph import Layer, Network

PACKAGE = Path(robuststream.__file__).parent
ATTRIBUTES = {
    "conv2d": {"stride": 2, "padding": 1},
    "conv_transpose2d": {"stride": 3, "padding": 1, "output_padding": 2},
}


class Counting:
    """torch.nn.functional, saying what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, torch.dtype]] = []

    def __getattr__(self, name: str) -> Any:
        def counted(x: torch.Tensor, *rest: Any, **more: Any) -> Any:
            self.asked.append((name, x.dtype))
            return getattr(F, name)(x, *rest, **more)

        return counted


@pytest.mark.parametrize("operation", ATTRIBUTES)
def test_floating_networks_run_it(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    tensors = {"weight": torch.randn(4, 4, 3, 3) / 8, "bias": torch.randn(4)}
    network = Network("t", [Layer(operation, ATTRIBUTES[operation], tensors)])
    x = torch.randn(1, 4, 9, 7)
    expected = getattr(F, operation)(x, tensors["weight"], tensors["bias"], **ATTRIBUTES[operation])
    counting = Counting()
    monkeypatch.setattr(convolution, "F", counting)
    assert torch.equal(_Layers(network, torch.device("cpu"))(x), expected)
    assert counting.asked == [(operation, torch.float32)]


def test_no_other_module_runs_one() -> None:
    """But GDN's sum over channels, which is no layer of its own, and the kernels of a lowered network."""
    calls = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ATTRIBUTES:
                calls.append((str(path.relative_to(PACKAGE)), node.func.attr))
    assert sorted(calls) == [
        ("networks/convolution.py", "conv2d"),
        ("networks/convolution.py", "conv_transpose2d"),
        ("networks/floating.py", "conv2d"),
        ("networks/steps.py", "conv2d"),
    ]
