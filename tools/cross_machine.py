"""Do latents decode the same elsewhere? Streams from one machine, checked on another, CompressAI's codec beside them.

    python tools/cross_machine.py encode DIR PHOTO...     # on one machine: streams, hashes, CompressAI's strings
    python tools/cross_machine.py decode DIR [flags]      # on another: one line per picture
    python tools/cross_machine.py matrix PHOTO...         # both, in child processes that are "other machines":
                                                          # instruction sets, threads, oneDNN, batching, order of sums,
                                                          # and each engine of the exact networks, where there are more
    python tools/cross_machine.py devices PHOTO...        # both, the CPU against a GPU, five models
    python tools/cross_machine.py digests                 # the same nets frozen on each of those machines

The model is the bundled one, a model file (`--model`), or one of tools/bars/small.py (`--small NAME FOLDER`); DIR
keeps it. `--device cuda` runs the transforms, and all of CompressAI's codec, there; `--tf32` lets CompressAI's use it.
`decode --codec` picks the codec: robuststream (exact), native, compressai, control.

`matrix` prints one row per pair of machines, and a control: entropy networks in float64 without rounding. `devices`
and `digests` end with a line that says what holds; the exit code is 1 where something does not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from bars import small
from machines import coding, settings, tables

#: Trained for minutes by tools/bars/small.py, or random; the bundled model is the fifth.
BUNDLED = "bundled model"
TRAINED = ("mbt2018", "cheng2020-attn", "cheng2020-anchor-checkerboard", "elic2022-official")
RASTER = ("mbt2018", "cheng2020-attn")


def main() -> int:
    arguments = parse_arguments()
    return {
        "encode": encode,
        "decode": decode,
        "matrix": matrix,
        "devices": devices,
        "freeze": freeze,
        "digests": digests,
    }[arguments.command](arguments)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("encode")
    one.add_argument("directory", type=Path)
    one.add_argument("photos", type=Path, nargs="+")
    one.add_argument("--device", default="cpu")
    one.add_argument("--beside", type=int, metavar="N", help="native streams and CompressAI's of N pictures only")
    settings.add_flags(one)
    _add_source(one)
    two = commands.add_parser("decode")
    two.add_argument("directory", type=Path)
    two.add_argument("--codec", choices=tuple(coding.DECODERS), default="robuststream")
    two.add_argument("--device", default="cpu")
    settings.add_flags(two)
    three = commands.add_parser("matrix")
    three.add_argument("photos", type=Path, nargs="+")
    three.add_argument("--json", action="store_true")
    _add_source(three)
    four = commands.add_parser("devices")
    four.add_argument("photos", type=Path, nargs="+")
    four.add_argument("--device", default="cuda")
    four.add_argument("--folder", type=Path, default=small.FOLDER, help="of tools/bars/small.py")
    four.add_argument("--beside", type=int, metavar="N", help="CompressAI codes N pictures, not all")
    four.add_argument("--only", metavar="NAME", help="a child: of one model")
    four.add_argument("--raster", type=int, default=2, metavar="N", help="and N where it goes place by place")
    five = commands.add_parser("digests")
    five.add_argument("names", nargs="*", default=list(small.SIZES), metavar="NAME", help=", ".join(small.SIZES))
    six = commands.add_parser("freeze", help="a child of `digests`")
    six.add_argument("directory", type=Path)
    settings.add_flags(six)
    return parser.parse_args()


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="a model file")
    parser.add_argument("--small", nargs=2, metavar=("NAME", "FOLDER"), help="a model that tools/bars/small.py trained")


def encode(arguments: argparse.Namespace) -> int:
    codec = coding.Codec.load(arguments.model, arguments.small, arguments.device)
    with settings.machine(arguments):
        coding.encode(arguments.directory, arguments.photos, codec, arguments.device, arguments.beside)
    codec.model.save(arguments.directory / "model.safetensors")
    (arguments.directory / "source.json").write_text(json.dumps({"small": arguments.small}))
    return 0


def decode(arguments: argparse.Namespace) -> int:
    """One JSON line per picture."""
    with settings.machine(arguments):
        trained = json.loads((arguments.directory / "source.json").read_text())["small"]
        codec = coding.Codec.load(str(arguments.directory / "model.safetensors"), trained, arguments.device)
        for line in coding.decode(arguments.directory, arguments.codec, codec, arguments.one_by_one):
            print(json.dumps(line), flush=True)
    return 0


def matrix(arguments: argparse.Namespace) -> int:
    rows = tables.matrix(arguments.photos, arguments.model, arguments.small)
    print(json.dumps(rows, indent=1) if arguments.json else tables.table(rows))
    return int(any(row["identical"] < row["photos"] for row in rows))


def devices(arguments: argparse.Namespace) -> int:
    """One table a model, and a line that says what holds. Each model has a child: CompressAI may crash on what it
    misreads.
    """
    if arguments.only:
        return _one_model(arguments)
    held: list[bool] = []
    broken: list[str] = []
    for name in (BUNDLED, *TRAINED):
        flags = ["--device", arguments.device, "--folder", str(arguments.folder), "--only", name]
        beside = arguments.raster if name in RASTER else arguments.beside
        flags += [] if beside is None else ["--beside", str(beside)]
        command = ["devices", *map(str, arguments.photos), *flags]
        said = coding.lines(tables.child("default", command, may_crash=True))
        rows = said[-1]["rows"] if said else []
        print(f"\n{name}\n{tables.table(rows)}", flush=True)
        held.append(bool(rows) and all(row["identical"] == row["photos"] and not row["native_silent"] for row in rows))
        counts = [row["compressai_broken"] for row in rows if "compressai_broken" in row]
        told = f"{max(counts)} of {rows[0]['beside']}" if len(counts) == len(rows) > 0 else "not told"
        broken.append(told if len(said) == 2 else "crashed")
    what = f"cpu <-> {arguments.device}, {len(arguments.photos)} pictures, {len(held)} models"
    print(f"\n{what}: latents {_verdict(held)} (CompressAI: broken {', '.join(broken)})")
    return int(not all(held))


def _one_model(arguments: argparse.Namespace) -> int:
    trained = None if arguments.only == BUNDLED else [arguments.only, str(arguments.folder)]
    for rows in tables.devices(arguments.photos, arguments.device, trained, arguments.beside):
        print(json.dumps({"rows": rows}), flush=True)
    return 0


def _verdict(held: Sequence[bool]) -> str:
    return "identical" if all(held) else f"identical in {sum(held)} models, DIFFERENT in {len(held) - sum(held)}"


@torch.no_grad()
def freeze(arguments: argparse.Namespace) -> int:
    with settings.machine(arguments):
        print(json.dumps(coding.freeze(arguments.directory)), flush=True)
    return 0


def digests(arguments: argparse.Namespace) -> int:
    rows = tables.digests(arguments.names)
    print(tables.digest_table(rows))
    told = {kind: all(row[kind] == row["nets"] for row in rows) for kind in ("its tables", "no tables")}
    say = {True: "the same everywhere", False: "NOT the same everywhere"}
    print(f"\ndigests of nets with tables: {say[told['its tables']]}; without: {say[told['no tables']]}")
    return int(not all(told.values()))


if __name__ == "__main__":
    sys.exit(main())
