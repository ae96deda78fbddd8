"""Do latents decode the same elsewhere? Streams from one machine, checked on another, CompressAI's codec beside them.

    python tools/cross_machine.py encode DIR PHOTO...     # on one machine: streams, hashes, CompressAI's strings
    python tools/cross_machine.py decode DIR [settings]   # on another: one line per picture and codec
    python tools/cross_machine.py matrix PHOTO...         # both, in child processes that are "other machines":
                                                          # instruction sets, threads, oneDNN, batching, order of sums

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
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import robuststream as rs
from robuststream.codec import read_stream, synthesise
from robuststream.compressai import thaw
from robuststream.images import read_picture
from robuststream.latents import BATCH, decode_latents
from robuststream.networks import exact
from robuststream.networks.fixedpoint import FRACTION_BITS, ONE
from robuststream.networks.floating import elementwise
from robuststream.tiling import Grid

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
    two = commands.add_parser("decode")
    two.add_argument("directory", type=Path)
    two.add_argument("--codec", choices=("robuststream", "compressai", "control"), default="robuststream")
    two.add_argument("--device", default="cpu")
    two.add_argument("--threads", type=int)
    for flag in ("--no-onednn", "--one-by-one", "--permute"):
        two.add_argument(flag, action="store_true")
    three = commands.add_parser("matrix")
    three.add_argument("photos", type=Path, nargs="+")
    three.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.command == "encode":
        encode(arguments.directory, arguments.photos)
    elif arguments.command == "decode":
        decode(arguments)
    else:
        rows = matrix(arguments.photos)
        print(json.dumps(rows, indent=1) if arguments.json else table(rows))


@torch.no_grad()
def encode(directory: Path, photos: list[Path]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    model = rs.load_model()
    net: Any = thaw(model)
    for photo in photos:
        data = rs.encode(photo, model)
        (directory / f"{photo.stem}.robs").write_bytes(data)
        (directory / f"{photo.stem}.sha256").write_text(_hash(rs.decode(data, model).latents))
        x = _padded(read_picture(photo).pixels, model.factor)
        out = net.compress(x)
        torch.save({**out, "x_hat": net.decompress(**out)["x_hat"]}, directory / f"{photo.stem}.pt")


def _padded(pixels: torch.Tensor, factor: int) -> torch.Tensor:
    height, width = pixels.shape[1:]
    return F.pad(pixels[None].float() / 255, (0, -width % factor, 0, -height % factor), mode="replicate")


@torch.no_grad()
def decode(arguments: argparse.Namespace) -> None:
    """One JSON line per picture: {"photo", "codec", "same", ...}."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.permute:
        exact.F = PermutedSums()
    decoders = {"robuststream": decode_robuststream, "compressai": decode_compressai, "control": decode_control}
    with torch.backends.mkldnn.flags(enabled=False) if arguments.no_onednn else contextlib.nullcontext():
        model = rs.load_model(device=arguments.device)
        for path in sorted(arguments.directory.glob("*.robs")):
            outcome = decoders[arguments.codec](path, model, arguments)
            print(json.dumps({"photo": path.stem, "codec": arguments.codec, **outcome}), flush=True)


def decode_robuststream(path: Path, model: rs.Model, arguments: argparse.Namespace) -> dict[str, Any]:
    stream = read_stream(path.read_bytes())
    grid = Grid.of(stream.header, model.latent_stride, model.factor)
    decoded = decode_latents(stream, model, grid, batch=1 if arguments.one_by_one else BATCH)
    if arguments.device != "cpu":
        synthesise(decoded.latents, model, grid)
    same = _hash(decoded.latents) == path.with_suffix(".sha256").read_text() and decoded.report.exact
    return {"same": bool(same)}


def decode_compressai(path: Path, model: rs.Model, arguments: argparse.Namespace) -> dict[str, Any]:
    net: Any = thaw(model).to(arguments.device)
    saved = torch.load(path.with_suffix(".pt"), weights_only=True)
    x_hat = net.decompress(saved["strings"], saved["shape"])["x_hat"].cpu()
    error = torch.mean((x_hat - saved["x_hat"]) ** 2).item()
    psnr = 99.0 if error == 0 else min(99.0, -10 * torch.log10(torch.tensor(error)).item())
    return {"same": psnr >= BROKEN_DB, "psnr": psnr}


def decode_control(path: Path, model: rs.Model, arguments: argparse.Namespace) -> dict[str, Any]:
    """The entropy networks in float64 without rounding: does even that differ? A hash, compared by the parent."""
    stream = read_stream(path.read_bytes())
    grid = Grid.of(stream.header, model.latent_stride, model.factor)
    inputs: list[torch.Tensor] = []
    network = model.prior._hyper_synthesis
    model.prior._hyper_synthesis = lambda z_hat: (inputs.append(z_hat), network(z_hat))[1]
    decode_latents(stream, model, grid, batch=1 if arguments.one_by_one else BATCH)
    model.prior._hyper_synthesis = network
    outputs = torch.cat([_unrounded(network, z_hat).flatten() for z_hat in inputs])
    return {"hash": _hash(outputs)}


def _unrounded(network: exact.ExactNetwork, x: torch.Tensor) -> torch.Tensor:
    """Real-valued weights such as training yields (not sums of powers of two), in float64, nowhere rounded."""

    def operate(number: int, inputs: list[torch.Tensor]) -> torch.Tensor:
        layer, tensors = network.network.layers[number], network._tensors[number]
        if not tensors:
            return elementwise(layer, inputs)
        bits = layer.integer("fraction_bits")
        weight = tensors["weight"] * 2.0**-bits / 3.0
        bias = tensors["bias"] * 2.0 ** -(bits + FRACTION_BITS)
        stride, padding = layer.integer("stride"), layer.integer("padding")
        if layer.operation == "conv2d":
            return exact.F.conv2d(inputs[0], weight, bias, stride=stride, padding=padding)
        more = layer.integer("output_padding")
        return exact.F.conv_transpose2d(inputs[0], weight, bias, stride=stride, padding=padding, output_padding=more)

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


def matrix(photos: list[Path]) -> list[dict[str, Any]]:
    """Every encoder against every decoder; CompressAI and the control from the default encoder only."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for encoder in ENCODERS:
            directory = Path(temporary) / encoder
            _child(encoder, ["encode", str(directory), *map(str, photos)])
            control: dict[str, str] = {}
            for decoder in MACHINES:
                row: dict[str, Any] = {"encoder": encoder, "decoder": decoder, "photos": len(photos)}
                lines = _decode_child(decoder, directory, "robuststream")
                row["identical"] = sum(line["same"] for line in lines)
                if encoder == "default":
                    lines = _decode_child(decoder, directory, "compressai")
                    row["compressai_broken"] = len(photos) - sum(line["same"] for line in lines)
                    lines = _decode_child(decoder, directory, "control")
                    hashes = {line["photo"]: line["hash"] for line in lines}
                    control = control or hashes
                    row["control_differs"] = sum(hashes[photo] != control[photo] for photo in hashes)
                rows.append(row)
                print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return rows


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
        "| encoded with | decoded with | robuststream: identical | CompressAI: broken | unrounded float64: differs |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        total = row["photos"]
        broken = f"{row['compressai_broken']} of {total}" if "compressai_broken" in row else "–"
        differs = f"{row['control_differs']} of {total}" if "control_differs" in row else "–"
        lines.append(f"| {row['encoder']} | {row['decoder']} | {row['identical']} of {total} | {broken} | {differs} |")
    return "\n".join(lines)


def _hash(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


if __name__ == "__main__":
    main()
