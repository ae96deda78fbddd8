"""Do latents decode the same elsewhere? Streams from one machine, checked on another, CompressAI's codec beside them.

    python tools/cross_machine.py encode DIR PHOTO...     # on one machine: streams, hashes, CompressAI's strings
    python tools/cross_machine.py decode DIR [settings]   # on another: one line per picture
    python tools/cross_machine.py matrix PHOTO...         # both, in child processes that are "other machines":
                                                          # instruction sets, threads, oneDNN, batching, order of sums

The model is the bundled one, a model file (`--model`), or one of tools/bars/small.py (`--small NAME FOLDER`); DIR
remembers which. `--device cuda` runs the transforms, and all of CompressAI's codec, there; `--tf32` lets CompressAI's
use it. `decode --codec` picks the codec: robuststream (exact), native, compressai, control.

`matrix` prints one row per pair of machines, and a control: the same networks in float64 without rounding.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent))

import robuststream as rs
from robuststream.compressai import thaw
from robuststream.container.reader import read_stream
from robuststream.container.report import Outcome
from robuststream.latents import BATCH, DecodedLatents, decode_latents
from robuststream.networks import convolution, exact
from robuststream.networks.fixedpoint import FRACTION_BITS, ONE
from robuststream.networks.pointwise import elementwise
from robuststream.picture.grid import Grid
from robuststream.picture.io import read_picture

#: A picture counts as broken below this PSNR against the encoder's own reconstruction; intact ones reach 90 dB.
BROKEN_DB = 45.0

#: Machines: environment variables and settings of `decode`.
MACHINES: dict[str, tuple[dict[str, str], list[str]]] = {
    "default": ({}, []),
    "AVX2": ({"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}, []),
    "SSE4.1": ({"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}, []),
    "1 thread": ({}, ["--threads", "1"]),
    "2 threads": ({}, ["--threads", "2"]),
    "oneDNN off": ({}, ["--no-onednn"]),
    "tiles one by one": ({}, ["--one-by-one"]),
    "MKL_CBWR=COMPATIBLE": ({"MKL_CBWR": "COMPATIBLE"}, []),
    "sums permuted": ({}, ["--permute"]),
}
ENCODERS = ("default", "AVX2", "SSE4.1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("encode")
    one.add_argument("directory", type=Path)
    one.add_argument("photos", type=Path, nargs="+")
    one.add_argument("--device", default="cpu")
    one.add_argument("--tf32", action="store_true")
    one.add_argument("--exact-only", action="store_true", help="no native streams, none of CompressAI's")
    _add_source(one)
    two = commands.add_parser("decode")
    two.add_argument("directory", type=Path)
    two.add_argument("--codec", choices=("robuststream", "native", "compressai", "control"), default="robuststream")
    two.add_argument("--device", default="cpu")
    two.add_argument("--threads", type=int)
    for flag in ("--no-onednn", "--one-by-one", "--permute", "--tf32"):
        two.add_argument(flag, action="store_true")
    three = commands.add_parser("matrix")
    three.add_argument("photos", type=Path, nargs="+")
    three.add_argument("--json", action="store_true")
    _add_source(three)
    arguments = parser.parse_args()
    if arguments.command == "encode":
        encode(arguments)
    elif arguments.command == "decode":
        decode(arguments)
    else:
        rows = matrix(arguments.photos, _source_arguments(vars(arguments)))
        print(json.dumps(rows, indent=1) if arguments.json else table(rows))


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="a model file")
    parser.add_argument("--small", nargs=2, metavar=("NAME", "FOLDER"), help="a model that tools/bars/small.py trained")


def _source_arguments(source: dict[str, Any]) -> list[str]:
    for name in ("model", "small"):
        if source.get(name):
            given = source[name]
            return [f"--{name}", *([given] if isinstance(given, str) else given)]
    return []


def _load(source: dict[str, Any], device: str) -> tuple[rs.Model, Any]:
    """The model, and CompressAI's net of it (None where there is only a model file that cannot be thawed)."""
    if source.get("small"):
        from bars import small

        net, model = small.load(source["small"][0], Path(source["small"][1]))
        return (model if device == "cpu" else rs.Model(model.parts, device)), net.to(device)
    model = rs.load_model(source.get("model"), device=device)
    net = None if model.parts.groups or model.parts.gains else thaw(model).to(device)
    return model, net


@torch.no_grad()
def encode(arguments: argparse.Namespace) -> None:
    directory = arguments.directory
    directory.mkdir(parents=True, exist_ok=True)
    source = {"model": arguments.model, "small": arguments.small}
    (directory / "source.json").write_text(json.dumps(source))
    _allow_tf32(arguments.tf32)
    model, net = _load(source, arguments.device)
    for photo in arguments.photos:
        path = directory / f"{photo.stem}.exact.robs"
        path.write_bytes(rs.encode(photo, model))
        (directory / f"{photo.stem}.sha256").write_text(_hash(_decoded(path, model).latents))
        if arguments.exact_only:
            continue
        path = directory / f"{photo.stem}.native.robs"
        path.write_bytes(rs.encode(photo, model, mode="native"))
        torch.save(_decoded(path, model).latents, directory / f"{photo.stem}.native.pt")
        if net is not None:
            x = _padded(read_picture(photo).pixels, model.factor).to(arguments.device)
            out = net.compress(x)
            x_hat = net.decompress(out["strings"], out["shape"])["x_hat"].cpu()
            torch.save(
                {"strings": out["strings"], "shape": out["shape"], "x_hat": x_hat}, directory / f"{photo.stem}.pt"
            )


def _allow_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def _padded(pixels: torch.Tensor, factor: int) -> torch.Tensor:
    height, width = pixels.shape[1:]
    return F.pad(pixels[None].float() / 255, (0, -width % factor, 0, -height % factor), mode="replicate")


@torch.no_grad()
def decode(arguments: argparse.Namespace) -> None:
    """One JSON line per picture: {"photo", "codec", "same", ...}."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.permute:
        convolution.F = PermutedSums()
    _allow_tf32(arguments.tf32)
    decoders = {
        "robuststream": decode_robuststream,
        "native": decode_native,
        "compressai": decode_compressai,
        "control": decode_control,
    }
    with torch.backends.mkldnn.flags(enabled=False) if arguments.no_onednn else contextlib.nullcontext():
        source = json.loads((arguments.directory / "source.json").read_text())
        model, net = _load(source, arguments.device)
        for path in sorted(arguments.directory.glob("*.exact.robs")):
            stem = path.name.removesuffix(".exact.robs")
            outcome = decoders[arguments.codec](arguments.directory / stem, model, net, arguments)
            print(json.dumps({"photo": stem, "codec": arguments.codec, **outcome}), flush=True)


def _decoded(path: Path, model: rs.Model, batch: int = BATCH) -> DecodedLatents:
    stream = read_stream(path.read_bytes())
    if stream.header.parameters_digest != model.parameters_digest:
        raise SystemExit(f"{path}: this machine made another model of the same weights; compare one model file")
    return decode_latents(stream, model, Grid.of(stream.header, model.latent_stride, model.factor), batch=batch)


def decode_robuststream(stem: Path, model: rs.Model, net: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    decoded = _decoded(stem.with_name(f"{stem.name}.exact.robs"), model, 1 if arguments.one_by_one else BATCH)
    same = _hash(decoded.latents) == stem.with_name(f"{stem.name}.sha256").read_text() and decoded.report.exact
    return {"same": bool(same)}


def decode_native(stem: Path, model: rs.Model, net: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """`drifted`: tiles whose parameters differed, found by their digests. `silent`: other latents, no word of it."""
    decoded = _decoded(stem.with_name(f"{stem.name}.native.robs"), model)
    expected = torch.load(stem.with_name(f"{stem.name}.native.pt"), weights_only=True)
    outcomes = [tile.outcome for tile in decoded.report.tiles]
    # Means are float32: they may differ in the last of twelve bits where every symbol is the encoder's.
    same = bool((decoded.latents - expected).abs().max() <= 8)
    verified = bool(decoded.report.verified)
    drifted = sum(outcome != Outcome.VERIFIED for outcome in outcomes)
    repaired = sum(outcome == Outcome.REPAIRED for outcome in outcomes)
    return {"same": same and verified, "silent": verified and not same, "drifted": drifted, "repaired": repaired}


def decode_compressai(stem: Path, model: rs.Model, net: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    saved = torch.load(stem.with_name(f"{stem.name}.pt"), weights_only=False)
    x_hat = net.decompress(saved["strings"], saved["shape"])["x_hat"].cpu()
    error = torch.mean((x_hat - saved["x_hat"]) ** 2).item()
    psnr = 99.0 if error == 0 else min(99.0, -10 * torch.log10(torch.tensor(error)).item())
    return {"same": psnr >= BROKEN_DB, "psnr": psnr}


def decode_control(stem: Path, model: rs.Model, net: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """The entropy networks in float64 without rounding: does even that differ? A hash, compared by the parent."""
    inputs: list[tuple[exact.ExactNetwork, torch.Tensor]] = []
    run = exact.ExactNetwork.__call__

    def recording(network: exact.ExactNetwork, x: torch.Tensor) -> torch.Tensor:
        inputs.append((network, x))
        return run(network, x)

    exact.ExactNetwork.__call__ = recording
    try:
        _decoded(stem.with_name(f"{stem.name}.exact.robs"), model, 1 if arguments.one_by_one else BATCH)
    finally:
        exact.ExactNetwork.__call__ = run
    return {"hash": _hash(torch.cat([_unrounded(network, x).flatten() for network, x in inputs]))}


def _unrounded(network: exact.ExactNetwork, x: torch.Tensor) -> torch.Tensor:
    """Real-valued weights such as training yields (not sums of powers of two), in float64, nowhere rounded."""

    def operate(number: int, inputs: list[torch.Tensor]) -> torch.Tensor:
        layer, tensors = network.network.layers[number], network._tensors[number]
        if not tensors:
            return elementwise(layer, inputs)
        bits = layer.integer("fraction_bits")
        weight = tensors["weight"] * 2.0**-bits / 3.0
        bias = tensors["bias"] * 2.0 ** -(bits + FRACTION_BITS)
        return convolution.convolve(layer, inputs[0], weight, bias)

    return network.network.run(x.double() / ONE, operate)


class PermutedSums:
    """torch.nn.functional with the input channels of every convolution in another order."""

    def __getattr__(self, name: str) -> Any:
        return getattr(F, name)

    def conv2d(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, **rest: Any) -> torch.Tensor:
        order = self._order(x)
        return F.conv2d(x[:, order], weight[:, order], bias, **rest)

    def conv_transpose2d(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, **rest: Any) -> torch.Tensor:
        order = self._order(x)
        return F.conv_transpose2d(x[:, order], weight[order], bias, **rest)

    @staticmethod
    def _order(x: torch.Tensor) -> torch.Tensor:
        return torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(7))


def matrix(
    photos: list[Path], source: Sequence[str] = (), beside: Sequence[str] = tuple(MACHINES)
) -> list[dict[str, Any]]:
    """Every encoder against every decoder; CompressAI and the control from the default encoder only, on `beside`."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for encoder in ENCODERS:
            directory = Path(temporary) / encoder
            more = [] if encoder == "default" else ["--exact-only"]
            _child(encoder, ["encode", str(directory), *map(str, photos), *source, *more])
            control: dict[str, str] = {}
            for decoder in MACHINES:
                row: dict[str, Any] = {"encoder": encoder, "decoder": decoder, "photos": len(photos)}
                lines = _decode_child(decoder, directory, "robuststream")
                row["identical"] = sum(line["same"] for line in lines)
                if encoder == "default" and decoder in beside:
                    row |= _beside(decoder, directory, len(photos))
                    lines = _decode_child(decoder, directory, "control")
                    hashes = {line["photo"]: line["hash"] for line in lines}
                    control = control or hashes
                    row["control_differs"] = sum(hashes[photo] != control[photo] for photo in hashes)
                rows.append(row)
                print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return rows


def native_matrix(photos: list[Path], source: Sequence[str] = ()) -> list[dict[str, Any]]:
    """CompressAI and native mode, encoded under default kernels, decoded under AVX2 and SSE4.1."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        _child("default", ["encode", str(directory), *map(str, photos), *source])
        for decoder in ("AVX2", "SSE4.1"):
            rows.append({"encoder": "default", "decoder": decoder, "photos": len(photos)})
            rows[-1] |= _beside(decoder, directory, len(photos))
    return rows


def _beside(decoder: str, directory: Path, photos: int) -> dict[str, Any]:
    """What CompressAI and native mode make of it."""
    theirs, lines = (_decode_child(decoder, directory, codec) for codec in ("compressai", "native"))
    return {
        "compressai_broken": photos - sum(line["same"] for line in theirs),
        "native_drifted": sum(line["drifted"] > 0 for line in lines),
        "native_broken": sum(not line["same"] for line in lines),
        "native_silent": sum(line["silent"] for line in lines),
    }


def _decode_child(decoder: str, directory: Path, codec: str) -> list[dict[str, Any]]:
    text = _child(
        decoder, ["decode", str(directory), "--codec", codec, *MACHINES[decoder][1]], may_crash=codec == "compressai"
    )
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def _child(machine: str, arguments: list[str], may_crash: bool = False) -> str:
    command = [sys.executable, "-W", "ignore", __file__, *arguments]
    done = subprocess.run(command, env={**os.environ, **MACHINES[machine][0]}, capture_output=True, text=True)
    if done.returncode and not may_crash:
        raise SystemExit(f"{' '.join(command)} failed on {machine}:\n{done.stderr}")
    return done.stdout


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| encoded with | decoded with | exact: identical | CompressAI: broken | native: drift found | native: broken "
        "| native: silent | unrounded float64: differs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    beside = ("compressai_broken", "native_drifted", "native_broken", "native_silent", "control_differs")
    for row in rows:
        cells = [f"{row[name]} of {row['photos']}" if name in row else "–" for name in ("identical", *beside)]
        lines.append(f"| {row['encoder']} | {row['decoder']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _hash(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


if __name__ == "__main__":
    main()
