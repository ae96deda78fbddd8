"""What a machine can do at most: operations and bytes of a model's networks over the measured peaks."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bars import stages


@dataclass(frozen=True)
class Work:
    """Of one stage: floating-point operations (two for a product and its sum, zeros of a transposed convolution not
    counted), and the bytes of each layer's weights, inputs and outputs, once in float32."""

    operations: float
    bytes: float


@dataclass(frozen=True)
class Peaks:
    """Measured on this device: operations a second by type, as torch's own kernels do them, and bytes a second that a
    copy reads and writes; on a GPU also bytes a second from and to the host."""

    operations: dict[str, float]
    memory: float
    from_host: float | None = None
    to_host: float | None = None

    def seconds(self, work: Work) -> float:
        """The least that the work can take in float32: by its operations, or by its bytes where that is more."""
        return max(work.operations / self.operations["float32"], work.bytes / self.memory)

    def carrying(self, elements: int) -> float:
        """The least that latents can take on their way to rANS, which is the CPU's, and back: for each 2 bytes of index
        and 4 of mean, and 4 of symbol. None where all is on the CPU.
        """
        if not self.from_host or not self.to_host:
            return 0.0
        return 6 * elements / self.to_host + 4 * elements / self.from_host

    def __str__(self) -> str:
        told = [f"{name} {rate / 1e9:.0f} G/s" for name, rate in self.operations.items()]
        told.append(f"copy {self.memory / 1e9:.1f} GB/s")
        if self.from_host and self.to_host:
            told.append(f"from and to the host {self.from_host / 1e9:.1f}, {self.to_host / 1e9:.1f} GB/s")
        return ", ".join(told)


@torch.no_grad()
def work(net: Any, x: Tensor) -> dict[str, Work]:
    """What each stage's networks of a CompressAI net have to do for pixels x, (1, 3, H, W)."""
    operations: Counter[str] = Counter()
    moved: Counter[str] = Counter()
    begun: dict[nn.Module, int] = {}
    hooks = []
    with FlopCounterMode(display=False) as counter:

        def begin(module: nn.Module, inputs: Any) -> None:
            begun[module] = counter.get_total_flops()

        def end(stage: str, module: nn.Module, inputs: Any, out: Any) -> None:
            operations[stage] += counter.get_total_flops() - begun[module]

        def move(stage: str, module: nn.Module, inputs: Any, out: Any) -> None:
            tensors = [t for t in (*inputs, out, *module.parameters()) if isinstance(t, Tensor)]
            moved[stage] += sum(4 * t.numel() for t in tensors)

        for network, stage in stages.networks(net).items():
            hooks.append(network.register_forward_pre_hook(begin))
            hooks.append(network.register_forward_hook(lambda *a, stage=stage: end(stage, *a)))
            # A layer is what has weights: what stands between can be computed on the way.
            for layer in network.modules():
                if next(layer.parameters(recurse=False), None) is not None:
                    hooks.append(layer.register_forward_hook(lambda *a, stage=stage: move(stage, *a)))
        net(x)
    for hook in hooks:
        hook.remove()
    return {stage: Work(operations[stage], moved[stage]) for stage in operations}


@torch.no_grad()
def peaks(device: torch.device | str = "cpu", size: int | None = None) -> Peaks:
    """Measure: the better of a large matrix product and a convolution such as synthesis transforms have.

    Args:
        size: of the square matrices; in proportion to it, of all else.
    """
    on_gpu = torch.device(device).type == "cuda"
    size = size or (8192 if on_gpu else 2048)
    rates = {}
    for name, kind in (("float32", torch.float32), ("float64", torch.float64)):
        side = size if kind == torch.float32 else size // 2
        a, b = (torch.rand(side, side, dtype=kind, device=device) for _ in range(2))
        rates[name] = 2 * side**3 / _least(lambda a=a, b=b: a @ b, on_gpu)
    channels, height = size // 16, size // 16
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.rand(1, channels, height, height, device=device).to(memory_format=layout)
        w = torch.rand(channels, channels, 3, 3, device=device).to(memory_format=layout)
        done = 2 * 9 * channels**2 * height**2
        rates["float32"] = max(rates["float32"], done / _least(lambda x=x, w=w: F.conv2d(x, w, padding=1), on_gpu))
    # Not on every device, and slow on some: then the figure says so, or there is none.
    with contextlib.suppress(RuntimeError, NotImplementedError, AttributeError):
        a, b = (torch.randint(-64, 64, (size, size), dtype=torch.int8, device=device) for _ in range(2))
        rates["int8"] = 2 * size**3 / _least(lambda: torch._int_mm(a, b), on_gpu)
    large = torch.rand(16 * size**2 // (1 if on_gpu else 2), device=device)
    target = torch.empty_like(large)
    memory = 2 * 4 * large.numel() / _least(lambda: target.copy_(large), on_gpu)
    if not on_gpu:
        return Peaks(rates, memory)
    host = torch.empty(large.numel() // 8, pin_memory=True)
    part = large[: host.numel()]
    there, back = _least(lambda: part.copy_(host), True), _least(lambda: host.copy_(part), True)
    return Peaks(rates, memory, 4 * host.numel() / there, 4 * host.numel() / back)


def _least(action: Callable[[], object], on_gpu: bool, runs: int = 12) -> float:
    """Seconds of the fastest of some runs, after a warm-up."""
    times = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        action()
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return min(times[1:])
