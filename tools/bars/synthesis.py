"""The transforms of mbt2018-mean 128/192 at 768x512, against CompressAI's own and against what the machine can do."""

from __future__ import annotations

from pathlib import Path

import torch
from compressai.models import MeanScaleHyperprior
from torch.nn import functional as F

from bars.common import Figure, interleaved
from robuststream.networks.floating import FloatingNetwork
from robuststream.networks.graph import Network
from robuststream.networks.trace import trace

SIZE = 512, 768
RUNS = 15


@torch.inference_mode()
def synthesis(photos: Path) -> list[Figure]:
    """g_s and g_a with random weights, and torch's own matmul and conv2d in the same rounds, each in the time of its
    median. Products with real taps count: 25 for a 5x5 kernel, and GDN's."""
    torch.manual_seed(1)
    net = MeanScaleHyperprior(128, 192).eval()
    y, x = torch.randn(1, 192, SIZE[0] // 16, SIZE[1] // 16), torch.rand(1, 3, *SIZE)
    g_s, g_a = trace("g_s", net.g_s, 192), trace("g_a", net.g_a, 3)
    ours_s, ours_a = FloatingNetwork(g_s), FloatingNetwork(g_a)
    square = torch.randn(2048, 2048)
    image = torch.randn(1, 128, 64, 96).to(memory_format=torch.channels_last)
    weight = torch.randn(128, 128, 5, 5).to(memory_format=torch.channels_last)
    times = interleaved(
        RUNS,
        lambda: ours_s(y),
        lambda: net.g_s(y),
        lambda: ours_a(x),
        lambda: net.g_a(x),
        lambda: square @ square,
        lambda: F.conv2d(image, weight, padding=2),
    )
    matmul, convolution = 2 * 2048**3 / times[4], 2 * 64 * 96 * weight.numel() / times[5]
    peak = max(matmul, convolution)
    figures = [Figure("peak: matmul, conv2d", f"{matmul / 1e9:.0f}, {convolution / 1e9:.0f} GFLOPS")]
    for name, network, size, ours, theirs in (
        ("g_s", g_s, SIZE[0] * SIZE[1] // 256, times[0], times[1]),
        ("g_a", g_a, SIZE[0] * SIZE[1], times[2], times[3]),
    ):
        share = flops(network, size) / peak / ours
        figures += [
            Figure(f"{name}: milliseconds, ours and CompressAI's", f"{1000 * ours:.0f}, {1000 * theirs:.0f}"),
            Figure(f"{name} against CompressAI's", f"{ours / theirs:.2f} of its time"),
            Figure(
                f"{name} against the peak",
                f"{share:.2f} of it",
                ">= 0.8" if name == "g_s" else "",
                share >= 0.8 if name == "g_s" else None,
            ),
        ]
    return figures


def flops(network: Network, places: int) -> float:
    """Two for each product and each sum, of an input of so many places; none for zeros of a stretched input."""
    total = 0.0
    for number, layer in enumerate(network.layers):
        if layer.tensors:
            before, after = network.shapes[number + 1 - layer.inputs[0]], network.shapes[number + 1]
            # A transposed convolution's taps are each used once for each input, another's for each output.
            scale = before.scale if layer.operation == "conv_transpose2d" else after.scale
            taps = max(tensor.numel() for tensor in layer.tensors.values())
            total += 2 * taps * float(scale) ** 2 * places
    return total
