"""Machines that this one can stand for: environment variables of a child process, and flags of its command."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

import robuststream

Machine = tuple[dict[str, str], list[str]]
SSE41 = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
#: oneDNN without VNNI and AMX, in which int8 products are other instructions; ATen's as they are.
AVX512 = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
WITHOUT_ONEDNN = ["--no-onednn"]

MACHINES: dict[str, Machine] = {
    "default": ({}, []),
    "AVX512_CORE": (AVX512, []),
    "AVX2": (AVX2, []),
    "SSE4.1": (SSE41, []),
    "oneDNN off": ({}, WITHOUT_ONEDNN),
    "AVX512_CORE, oneDNN off": (AVX512, WITHOUT_ONEDNN),
    "AVX2, oneDNN off": (AVX2, WITHOUT_ONEDNN),
    "SSE4.1, oneDNN off": (SSE41, WITHOUT_ONEDNN),
    "ATen AVX2": ({"ATEN_CPU_CAPABILITY": "avx2"}, []),
    "ATen default": ({"ATEN_CPU_CAPABILITY": "default"}, []),
    "1 thread": ({}, ["--threads", "1"]),
    "2 threads": ({}, ["--threads", "2"]),
    "tiles one by one": ({}, ["--one-by-one"]),
    "MKL_CBWR=COMPATIBLE": ({"MKL_CBWR": "COMPATIBLE"}, []),
    "sums permuted": ({}, ["--permute"]),
}
ENCODERS = ("default", "AVX2", "SSE4.1")
#: Says with which arithmetic exact networks run, where the library lets it be chosen.
CHOICE = "ROBUSTSTREAM_EXACT"
ENGINES = ("int8", "float64", "float32", "int64")


def engines() -> dict[str, Machine]:
    """Each engine of exact networks as a machine; none where the library has no choice of them."""
    package = Path(robuststream.__file__).parent
    if not any(CHOICE in path.read_text() for path in package.rglob("*.py")):
        return {}
    return {f"engine {name}": ({CHOICE: name}, []) for name in ENGINES}


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int)
    for flag in ("--no-onednn", "--one-by-one", "--permute", "--tf32"):
        parser.add_argument(flag, action="store_true")


@contextlib.contextmanager
def machine(arguments: argparse.Namespace) -> Iterator[None]:
    """Inside, this process is the machine that the flags say."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with contextlib.ExitStack() as stack:
        stack.enter_context(tf32(arguments.tf32))
        if arguments.no_onednn:
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        if arguments.permute:
            stack.enter_context(PermutedSums())
        yield


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Products of float32 on a GPU may round their factors to 11 bits, as many programs allow it."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


class PermutedSums(TorchFunctionMode):
    """Inside, convolutions and matrix products add up in another order, whoever calls them in this thread."""

    def __torch_function__(self, function: Any, types: Any, inputs: Any = (), options: Any = None) -> Any:
        name, options = getattr(function, "__name__", ""), options or {}
        if name in ("conv2d", "conv_transpose2d") and len(inputs) > 1:
            x, weight, *rest = inputs
            transposed = name == "conv_transpose2d"
            # The fifth of the rest, in both; where channels are in groups, they stay.
            if (rest[4] if len(rest) > 4 else options.get("groups", 1)) == 1:
                order = _order(x.shape[1], x.device)
                inputs = (x[:, order], weight[order] if transposed else weight[:, order], *rest)
        elif name in ("mm", "_int_mm", "matmul", "__matmul__", "bmm") and all(t.dim() > 1 for t in inputs[:2]):
            a, b, *rest = inputs
            order = _order(a.shape[-1], a.device)
            inputs = (a[..., order], b[..., order, :], *rest)
        return function(*inputs, **options)


def _order(length: int, device: torch.device) -> torch.Tensor:
    return torch.randperm(length, generator=torch.Generator().manual_seed(7)).to(device)
