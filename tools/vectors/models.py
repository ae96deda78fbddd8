"""Tiny frozen models for the test vectors: one of each prior, a few kB, the same bytes on every machine.

Their numbers are drawn from SHA-256. What runs in float32 (g_a, h_a, and in native mode h_s) has few bits, so that its
sums are exact in any order and the vectors do not depend on a machine's kernels. Nothing here is trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from robuststream.entropy.tables import CdfTables
from robuststream.model.frozen import Model
from robuststream.model.parts import ModelParts
from robuststream.networks.fixedpoint import ONE
from robuststream.networks.graph import Layer, Network
from robuststream.priors.channel_groups import Group
from robuststream.priors.gain import Gains

#: Channels of z; Gaussian rows; quality indexes.
N, ROWS, QUALITIES = 3, 8, 3
#: Between what scales of few bits can be: no machine's float32 moves one across.
THRESHOLDS = [896 * k + 1032 for k in range(ROWS - 1)]
BOTH, TURNED, SCALES = ("scales", "means"), ("means", "scales"), ("scales",)


class Draw:
    """Whole numbers from SHA-256 of a name and a counter."""

    def __init__(self, name: str) -> None:
        self._words = self._stream(name)

    @staticmethod
    def _stream(name: str) -> Iterator[int]:
        counter = 0
        while True:
            block = hashlib.sha256(f"{name} {counter}".encode()).digest()
            yield from np.frombuffer(block, "<u4").tolist()
            counter += 1

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        """int64, from low to high - 1."""
        count = int(np.prod(shape))
        return np.array([low + next(self._words) % (high - low) for _ in range(count)], np.int64).reshape(shape)

    def bytes(self, count: int) -> bytes:
        return self.integers(0, 256, count).astype(np.uint8).tobytes()


class Builder:
    """Networks of one model."""

    def __init__(self, name: str) -> None:
        self.draw = Draw(name)
        self.networks: dict[str, Network] = {}

    def add(self, name: str, *layers: Layer) -> None:
        self.networks[name] = Network(name, layers)

    def floating(self, shape: tuple[int, int], kernel: int, stride: int, padding: int, up: bool = False) -> Layer:
        """A convolution from shape[0] to shape[1] channels with weights in sixteenths."""
        weight, bias = (self._sixteenths(-8, 9, *sizes) for sizes in self._sizes(shape, kernel, up))
        return _convolution(weight, bias, stride, padding, up)

    def exact(
        self,
        shape: tuple[int, int],
        kernel: int,
        stride: int = 1,
        up: bool = False,
        coarse: bool = False,
        lift: int = 0,
    ) -> Layer:
        """The same with integer weights up to 1/2, at 2^-14 or in sixteenths; `lift` is added to every bias."""
        bits, most = (4, 8) if coarse else (14, 1 << 13)
        sizes = self._sizes(shape, kernel, up)
        weight = self.draw.integers(-most, most + 1, *sizes[0])
        bias = (self.draw.integers(-16, 17, *sizes[1]) + 16 * lift) << bits + 12 - 4
        padding = kernel // 2 if stride == 1 else (kernel - stride) // 2
        return _convolution(
            torch.from_numpy(weight.astype(np.int32)), torch.from_numpy(bias), stride, padding, up, bits
        )

    def gdn(self, channels: int) -> Layer:
        beta, gamma = self._sixteenths(8, 24, channels), self._sixteenths(0, 3, channels, channels)
        return Layer("gdn", {"inverse": True}, {"beta": beta, "gamma": gamma})

    def masked(self, channels: int, out: int, side: int, context: str) -> Layer:
        """A context prediction: weights are 0 where format.md, section 15.3, hides them."""
        layer = self.exact((channels, out), side)
        down, across = np.mgrid[:side, :side] - side // 2
        raster = (down < 0) | ((down == 0) & (across < 0))
        sees = raster if context == "raster-scan" else (down + across) % 2 == 1
        return Layer(
            layer.operation,
            layer.attributes,
            layer.tensors | {"weight": layer.tensors["weight"] * torch.from_numpy(sees)},
        )

    def _sizes(self, shape: tuple[int, int], kernel: int, up: bool) -> tuple[tuple[int, ...], tuple[int]]:
        return ((*shape, kernel, kernel) if up else (*shape[::-1], kernel, kernel)), (shape[1],)

    def _sixteenths(self, low: int, high: int, *shape: int) -> Tensor:
        return torch.from_numpy((self.draw.integers(low, high, *shape) / 16).astype(np.float32))

    def tables(self, gaussian: int, bottleneck: int) -> CdfTables:
        """Rows of 3, 5, … regular symbols, then those of z, or of a factorized y, with 9."""
        rows = [2 * k + 3 for k in range(gaussian)] + [9] * bottleneck
        cdf, offsets = [], []
        for inner in rows:
            weights = np.concatenate((self.draw.integers(40, 100, inner), [4]))
            sums = np.concatenate(([0], np.cumsum(weights)))
            cdf.append((sums << 16) // sums[-1])
            offsets.append(-(inner // 2))
        lengths = [len(row) for row in cdf]
        return CdfTables(*(np.array(values, np.int32) for values in (np.concatenate(cdf), lengths, offsets)))


def _convolution(weight: Tensor, bias: Tensor, stride: int, padding: int, up: bool, bits: int | None = None) -> Layer:
    attributes: dict[str, int | bool | str] = {"stride": stride, "padding": padding}
    attributes |= {"output_padding": 0} if up else {}
    attributes |= {} if bits is None else {"fraction_bits": bits}
    return Layer("conv_transpose2d" if up else "conv2d", attributes, {"weight": weight, "bias": bias})


LEAKY, RELU = Layer("leaky_relu", {"slope": "0.01"}), Layer("relu")
ABS = Layer("abs")


def make(name: str) -> Model:
    """The model of that name, a key of MODELS: latents of 4 pixels, of z 8."""
    prior, groups = MODELS[name]
    builder = Builder(name)
    m = sum(group.channels for group in groups)
    builder.add("g_a", builder.floating((3, m), 5, 4, 1))
    up = [builder.floating(shape, 4, 2, 1, up=True) for shape in ((m, 4), (4, 3))]
    builder.add("g_s", up[0], builder.gdn(4), up[1])
    hyper = prior != "factorized"
    if hyper:
        down = builder.floating((m, N), 3, 2, 1)
        builder.add("h_a", *([ABS, down] if prior == "scale-hyperprior" else [down]))
        _add_hyper_synthesis(builder, name, m)
    if prior == "context-model":
        for number, group in enumerate(groups):
            _add_group(builder, number, group, groups)
    gains = _gains(builder) if name == "variable-rate" else None
    tables = builder.tables(ROWS, QUALITIES * N if gains else N) if hyper else builder.tables(0, m)
    medians = torch.from_numpy(builder.draw.integers(-8, 9, N if hyper else m) << 8).int()
    thresholds = torch.tensor(THRESHOLDS if hyper else [], dtype=torch.int32)
    texts = {"name": f"vector-{name}", "licence": "BSD-3-Clause", "attribution": "", "origin": "tools/make_vectors.py"}
    groups = groups if prior == "context-model" else ()
    return Model(ModelParts(prior, builder.networks, tables, medians, thresholds, groups, gains, texts))


SIDE = 4
MODELS: dict[str, tuple[str, tuple[Group, ...]]] = {
    "factorized": ("factorized", (Group(4),)),
    "scale-hyperprior": ("scale-hyperprior", (Group(4, SCALES),)),
    "mean-scale-hyperprior": ("mean-scale-hyperprior", (Group(4, BOTH),)),
    "raster-scan": ("context-model", (Group(3, BOTH, "raster-scan"),)),
    "checkerboard": ("context-model", (Group(3, TURNED, "checkerboard"),)),
    "channel-groups": (
        "context-model",
        (
            Group(2, BOTH),
            Group(1, TURNED, "checkerboard", (0,)),
            Group(2, SCALES, "raster-scan", (0, 1)),
            Group(1, BOTH, "checkerboard-odd", (1,)),
        ),
    ),
    "variable-rate": ("context-model", (Group(3, BOTH, "raster-scan"),)),
}


def _add_hyper_synthesis(builder: Builder, name: str, m: int) -> None:
    if name == "mean-scale-hyperprior":
        # One layer of few bits: exact in float32 too, for the vector in native mode.
        builder.add("h_s", builder.exact((N, 2 * m), 4, 2, up=True, coarse=True, lift=1))
        return
    out = m if name == "scale-hyperprior" else SIDE
    up = builder.exact((N, 4), 4, 2, up=True)
    builder.add("h_s", up, LEAKY, builder.exact((4, out), 3, lift=1))


def _add_group(builder: Builder, number: int, group: Group, groups: tuple[Group, ...]) -> None:
    """Its networks; a group without any takes the side parameters for its entropy parameters."""
    known = SIDE
    if group.takes:
        taken = sum(groups[other].channels for other in group.takes)
        builder.add(f"y{number}.channel_context", builder.exact((taken, 2), 3), RELU, builder.exact((2, 3), 3))
        known += 3
    if group.context != "none":
        side = 5 if group.context == "raster-scan" else 3
        builder.add(f"y{number}.context_prediction", builder.masked(group.channels, 3, side, group.context))
        out = group.channels * len(group.chunks)
        layers = builder.exact((known + 3, 5), 1), LEAKY, builder.exact((5, out), 1, lift=1)
        builder.add(f"y{number}.entropy_parameters", *layers)


def _gains(builder: Builder) -> Gains:
    def integers(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32)

    bias = torch.from_numpy(builder.draw.integers(-ONE, ONE, QUALITIES, 3)).int()
    offsets = torch.from_numpy(builder.draw.integers(-ONE // 4, ONE // 4, QUALITIES, ROWS)).int()
    return Gains(
        integers([1 << 15, 3 << 15, 5 << 15]),
        integers([1 << 17, (1 << 17) // 3, (1 << 17) // 5]),
        integers([ONE, 3 * ONE // 4, ONE // 2]),
        bias,
        offsets,
        z_tables=True,
    )
