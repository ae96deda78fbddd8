"""Whole encodes and decodes against CompressAI's, on a CPU and on a GPU: ratios, where the time goes, and the limit.

Ratios are of medians, of one run, in which all take turns after a warm-up. Where the time goes is printed as a table
on standard error, and drawn to the folder that the environment variable FIGURES names (build/ if there is none).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import robuststream as rs
from bars import breakdown, limits, stages, zoo
from bars.common import ROOT, Figure, interleaved, photographs
from robuststream.compressai import thaw
from robuststream.errors import UnsupportedModel

BUNDLED = "bundled model"
#: Pictures of a batch.
BATCH = 24


@dataclass(frozen=True)
class Case:
    """A model to measure, how often at most, and the shares of CompressAI's time that are wanted."""

    name: str
    rounds: int
    encode: float | None = None
    decode: float | None = None


#: Those without a raster-scan context first: where time runs out, they are there.
CPU = (
    Case("mbt2018-mean", 9, encode=0.5, decode=0.45),
    Case(BUNDLED, 9),
    Case("elic2022-official", 5, decode=0.8),
    Case("mbt2018", 3, decode=0.12),
    Case("cheng2020-attn", 3, decode=0.3),
)
GPU = (Case("mbt2018-mean", 15, decode=0.25), Case("elic2022-official", 9, decode=0.2), Case(BUNDLED, 15))
CPU_BATCH, GPU_BATCH = 0.35, 100
#: Of torch's peak, for the synthesis of mbt2018-mean on a CPU.
OF_THE_LIMIT = 0.8


@dataclass
class Bench:
    """One device's measurement. `small` is a dry run: tiny nets and pictures, one round, no bar holds or is missed."""

    device: str
    small: bool = False
    #: When no more rounds are begun, by time.perf_counter; those begun end.
    until: float = float("inf")
    peaks: limits.Peaks = field(init=False)
    rows: list[breakdown.Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.peaks = limits.peaks(self.device, 256 if self.small else None)

    def pictures(self, photos: Path, number: int) -> list[Any]:
        """uint8 (H, W, 3), 768x512."""
        height, width = (64, 128) if self.small else (512, 768)
        return [photo[:height, :width].copy() for photo in photographs(photos, number)]

    def wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()

    def times(self, rounds: int, *actions: Callable[[], object]) -> list[float]:
        def waited(action: Callable[[], object]) -> Callable[[], object]:
            return lambda: (action(), self.wait())

        return interleaved(1 if self.small else rounds, *map(waited, actions), until=self.until)

    def load(self, name: str, photos: Path) -> tuple[Any, rs.Model]:
        """CompressAI's net and our model of it, on the device."""
        if name == BUNDLED:
            net, model = bundled()
        else:
            net = zoo.load(name, photographs(photos, 1)[0], TINY[name] if self.small else None)
            model = rs.freeze(net)
        if self.device != "cpu":
            model = rs.Model.from_bytes(model.to_bytes(), self.device)
        return net.to(self.device), model

    def against(self, least: float | None, value: float, more: bool = False) -> tuple[str, bool | None]:
        """A bar's text, and whether it holds."""
        if least is None or self.small:
            return "", None
        return f"{'>=' if more else '<='} {least:g}", value >= least if more else value <= least


#: Sizes of a dry run.
TINY: dict[str, dict[str, Any]] = {
    "mbt2018-mean": {"N": 8, "M": 12},
    "mbt2018": {"N": 8, "M": 12},
    "cheng2020-attn": {"N": 8},
    "elic2022-official": {"N": 8, "M": 24, "groups": [2, 2, 4, 6, 10]},
}


def codec_cpu(photos: Path, small: bool = False) -> Iterator[Figure]:
    """One picture of 768x512 by each model, and a batch by the bundled one."""
    bench = Bench("cpu", small)
    threads = f"{torch.get_num_threads()} threads"
    yield Figure("this machine, at most", f"{threads}, {bench.peaks}")
    for case in CPU:
        yield from _single(bench, case, photos)
    yield from _batch(bench, BUNDLED, photos)
    yield _drawn(bench, "codec-cpu")


def codec_gpu(photos: Path, seconds: float = 80, small: bool = False) -> Iterator[Figure]:
    """As `codec_cpu`, with everything on the GPU, and batches of the larger model. No round begins after `seconds`;
    with `small` on the CPU, where there is no GPU, to see that it would run.
    """
    begin = time.perf_counter()
    if not torch.cuda.is_available() and not small:
        yield Figure("codec-gpu", "skipped: torch finds no CUDA device here")
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else "no GPU: a dry run on the CPU"
    bench = Bench(device, small, begin + seconds)
    yield Figure("device, and what it can do at most", f"{name}; torch {torch.__version__}; {bench.peaks}")
    for number, case in enumerate(GPU):
        if number == 1:
            yield from _batch(bench, GPU[0].name, photos)
        yield from _single(bench, case, photos)
    yield _drawn(bench, "codec-gpu")


def bundled() -> tuple[Any, rs.Model]:
    """The default model and its net; where CompressAI has no class of that, the first bundled model that it has."""
    found = [rs.load_model(), *map(rs.load_model, sorted((ROOT / "robuststream" / "models").glob("*.safetensors")))]
    for model in found:
        try:
            return thaw(model), model
        except UnsupportedModel as error:
            reason = error
    raise reason


@torch.no_grad()
def _single(bench: Bench, case: Case, photos: Path) -> list[Figure]:
    """Encode and decode one picture, by both."""
    if time.perf_counter() > bench.until:
        return [Figure(case.name, "skipped: no time was left")]
    (photo,) = bench.pictures(photos, 1)
    net, model = bench.load(case.name, photos)
    x = torch.from_numpy(photo).permute(2, 0, 1)[None].float().to(bench.device) / 255
    out, data = net.compress(x), rs.encode(photo, model)
    actions = {
        "encode": lambda: rs.encode(photo, model),
        "compress": lambda: net.compress(x),
        "decode": lambda: rs.decode(data, model).tensor,
        "decompress": lambda: net.decompress(out["strings"], out["shape"])["x_hat"],
    }
    encode, compress, decode, decompress = times = bench.times(case.rounds, *actions.values())
    exact = rs.decode(data, model).report.exact
    work = limits.work(net, x)
    least = {stage: bench.peaks.seconds(amount) for stage, amount in work.items()}
    least[stages.COPIES] = bench.peaks.carrying(net.g_a(x).numel())
    for (what, action), seconds in zip(actions.items(), times, strict=True):
        ours = what in ("encode", "decode")
        rounds = 1 if bench.small or seconds > 2 else 5
        spent = (
            stages.watched(rounds, action, bench.device)
            if ours
            else stages.watched_net(rounds, net, action, bench.device)
        )
        bench.rows.append(breakdown.Row(case.name, what, seconds, spent, least if ours else {}))
    print(breakdown.table(bench.rows[-len(actions) :]), file=sys.stderr, flush=True)
    reached = least[stages.SYNTHESIS] / bench.rows[-2].spent[stages.SYNTHESIS]
    wanted = OF_THE_LIMIT if (case.name, bench.device) == ("mbt2018-mean", "cpu") else None
    said = (
        ("whole encode against compress", encode / compress, case.encode, False),
        ("whole decode against decompress", decode / decompress, case.decode, False),
        ("synthesis, of the limit's speed", reached, wanted, True),
    )
    size = sum(len(string) for strings in out["strings"] for string in _flat(strings))
    figures = [
        Figure(f"{case.name}: {what}", f"{value:.2f}", *bench.against(least, value, more))
        for what, value, least, more in said
    ]
    shown = ", ".join(f"{1000 * seconds:.1f}" for seconds in times)
    return [
        *figures,
        Figure(f"{case.name}: milliseconds: encode, compress, decode, decompress", shown),
        Figure(f"{case.name}: bytes: ours, theirs; latents proven", f"{len(data)}, {size}; {exact}", "True", exact),
    ]


def _flat(strings: Any) -> list[bytes]:
    return [strings] if isinstance(strings, bytes) else [text for part in strings for text in _flat(part)]


@torch.no_grad()
def _batch(bench: Bench, name: str, photos: Path) -> list[Figure]:
    """A batch of pictures, against CompressAI one by one: so its users do, as pictures are of any size."""
    if time.perf_counter() > bench.until:
        return [Figure(f"{name}: batch", "skipped: no time was left")]
    pictures = bench.pictures(photos, 2 if bench.small else BATCH)
    net, model = bench.load(name, photos)
    inputs = [torch.from_numpy(p).permute(2, 0, 1)[None].float().to(bench.device) / 255 for p in pictures]
    coded, streams = [net.compress(x) for x in inputs], rs.encode_batch(pictures, model)
    actions = (
        lambda: rs.encode_batch(pictures, model),
        lambda: [net.compress(x) for x in inputs],
        lambda: [out.tensor for out in rs.decode_batch(streams, model)],
        lambda: [net.decompress(out["strings"], out["shape"]) for out in coded],
    )
    encode, compress, decode, decompress = bench.times(3, *actions)
    rate = len(pictures) / decode
    on_gpu = bench.device != "cpu"
    rated = bench.against(GPU_BATCH if on_gpu else None, rate, more=True)
    told = bench.against(None if on_gpu else CPU_BATCH, decode / decompress)
    what = f"{name}: {len(pictures)} pictures"
    return [
        Figure(f"{what}: decode_batch against a loop of decompress", f"{decode / decompress:.2f}", *told),
        Figure(f"{what}: encode_batch against a loop of compress", f"{encode / compress:.2f}"),
        Figure(f"{what}: decode_batch, pictures/s", f"{rate:.1f}", *rated),
        Figure(f"{what}: encode_batch, pictures/s", f"{len(pictures) / encode:.1f}"),
    ]


def _drawn(bench: Bench, name: str) -> Figure:
    """The picture of where the time goes, in a file."""
    folder = Path(os.environ.get("FIGURES", ROOT / "build"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    path.write_bytes(breakdown.figure(bench.rows))
    return Figure("where the time goes", str(path))
