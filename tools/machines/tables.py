"""Every machine against every other, in child processes; the CPU against another device, in this one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from machines import coding
from machines.settings import ENCODERS, MACHINES, Machine, engines, tf32

CHILD = Path(__file__).parent.parent / "cross_machine.py"
Row = dict[str, Any]


def matrix(
    photos: Sequence[Path],
    model: str | None = None,
    trained: Sequence[str] | None = None,
    beside: Sequence[str] = tuple(MACHINES),
) -> list[Row]:
    """Every encoder against every decoder; CompressAI and the control from the default encoder only, on `beside`.

    Machines share one model file: whether they would make the same one is another question, `digests`.
    """
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        codec = coding.Codec.load(model, trained)
        file = Path(temporary) / "model.safetensors"
        codec.model.save(file)
        source = ["--model", str(file), *(("--small", *trained) if trained else ())]
        for encoder in (*ENCODERS, *engines()):
            folder = Path(temporary) / encoder
            more = [] if encoder == "default" else ["--beside", "0"]
            child(encoder, ["encode", str(folder), *map(str, photos), *source, *more])
            control: dict[str, str] = {}
            # What an engine encoded need not be decoded by all: it is the same or it is not.
            for decoder in (*MACHINES, *engines()) if encoder in ENCODERS else ("default",):
                row: Row = {"encoder": encoder, "decoder": decoder, "photos": len(photos)}
                told = decoded(decoder, folder, "robuststream")
                row["identical"] = sum(line["same"] for line in told)
                if encoder == "default" and decoder in beside and codec.net is not None:
                    row |= _beside(decoder, folder, len(photos))
                    hashes = {line["photo"]: line["hash"] for line in decoded(decoder, folder, "control")}
                    control = control or hashes
                    row["control_differs"] = sum(hashes[photo] != control[photo] for photo in hashes)
                if told and "engines" in told[0]:
                    row["engines"] = told[0]["engines"]
                rows.append(row)
                print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return rows


def native_matrix(photos: Sequence[Path]) -> list[Row]:
    """CompressAI and native mode, encoded under default kernels, decoded under AVX2 and SSE4.1."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        child("default", ["encode", str(folder), *map(str, photos)])
        for decoder in ("AVX2", "SSE4.1"):
            rows.append({"encoder": "default", "decoder": decoder, "photos": len(photos)})
            rows[-1] |= _beside(decoder, folder, len(photos))
    return rows


def devices(
    photos: Sequence[Path], device: str, trained: Sequence[str] | None = None, beside: int | None = None
) -> Iterator[list[Row]]:
    """Encoded on the CPU and decoded on the device, and the other way round, with TF32 and without.

    The rows come twice: without CompressAI's decodes, and with them, since those can end the process.

    Args:
        beside: how many pictures CompressAI codes as well; all where there is no number.
    """
    here = coding.Codec.load(None, trained)
    there = here.on(device)
    rows: list[Row] = []
    theirs: list[tuple[Row, Path, coding.Codec, bool]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for encoder, sender, decoder, receiver in (("cpu", here, device, there), (device, there, "cpu", here)):
            for allowed in (False, True):
                folder = Path(temporary) / str(len(rows))
                with tf32(allowed):
                    coding.encode(folder, photos, sender, encoder, beside)
                    ours, native = (list(coding.decode(folder, kind, receiver)) for kind in ("robuststream", "native"))
                row: Row = {"encoder": encoder, "decoder": decoder + (", TF32" if allowed else "")}
                row |= {"photos": len(photos), "beside": len(native)}
                row["identical"] = sum(line["same"] for line in ours)
                rows.append(row | _native(native))
                theirs.append((rows[-1], folder, receiver, allowed))
        yield rows
        for row, folder, receiver, allowed in theirs if here.net is not None else ():
            with tf32(allowed):
                told = coding.decode(folder, "compressai", receiver)
                row["compressai_broken"] = row["beside"] - sum(line["same"] for line in told)
        yield rows


def _native(told: Sequence[Row]) -> Row:
    return {
        "native_drifted": sum(line["drifted"] > 0 for line in told),
        "native_broken": sum(not line["same"] for line in told),
        "native_silent": sum(line["silent"] for line in told),
    }


def digests(names: Sequence[str]) -> list[Row]:
    """Nets frozen on each machine: how many have the digests that they have on the first."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with torch.no_grad():
            coding.unfrozen(folder, names)
        first: dict[str, str] = {}
        for machine in (*MACHINES, *engines()):
            (made,) = coding.lines(child(machine, ["freeze", str(folder), *_flags(machine)]))
            first = first or made
            row: Row = {"machine": machine}
            for tables in ("its tables", "no tables"):
                own = [name for name in made if name.endswith(tables)]
                row[tables] = sum(made[name] == first[name] for name in own)
                row["nets"] = len(own)
                row[f"other, {tables}"] = [name.split(",")[0] for name in own if made[name] != first[name]]
            rows.append(row)
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return rows


def _beside(decoder: str, folder: Path, photos: int) -> Row:
    """What CompressAI and native mode make of it."""
    theirs, told = (decoded(decoder, folder, codec) for codec in ("compressai", "native"))
    return {"compressai_broken": photos - sum(line["same"] for line in theirs), **_native(told)}


def decoded(decoder: str, folder: Path, codec: str) -> list[Row]:
    """What a child says of each picture. CompressAI's decoder may crash on what it misreads."""
    arguments = ["decode", str(folder), "--codec", codec, *_flags(decoder)]
    return coding.lines(child(decoder, arguments, may_crash=codec == "compressai"))


def child(machine: str, arguments: Sequence[str], may_crash: bool = False) -> str:
    command = [sys.executable, "-W", "ignore", str(CHILD), *arguments]
    environment = {**os.environ, **_all()[machine][0]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode and not may_crash:
        raise SystemExit(f"{' '.join(command)} failed on {machine}:\n{done.stderr}")
    if done.returncode:
        print(f"{' '.join(command)} ended with {done.returncode} on {machine}:\n{done.stderr}", file=sys.stderr)
    return done.stdout


def _all() -> dict[str, Machine]:
    return {**MACHINES, **engines()}


def _flags(machine: str) -> list[str]:
    return _all()[machine][1]


COLUMNS = {
    "identical": "exact: identical",
    "compressai_broken": "CompressAI: broken",
    "native_drifted": "native: drift found",
    "native_broken": "native: broken",
    "native_silent": "native: silent",
    "control_differs": "unrounded float64: differs",
    "engines": "engines",
}


def table(rows: Sequence[Row]) -> str:
    """Markdown, of the columns that any row has."""
    columns = [name for name in COLUMNS if any(name in row for row in rows)]
    lines = [
        f"| encoded with | decoded with | {' | '.join(COLUMNS[name] for name in columns)} |",
        "|" + "---|" * (len(columns) + 2),
    ]
    for row in rows:
        cells = [_cell(row, name) for name in columns]
        lines.append(f"| {row['encoder']} | {row['decoder']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Row, name: str) -> str:
    if name not in row:
        return "–"
    number = row["photos"] if name == "identical" else row.get("beside", row["photos"])
    return str(row[name]) if name == "engines" else f"{row[name]} of {number}"


def digest_table(rows: Sequence[Row]) -> str:
    lines = ["| frozen on | same digests: with tables | without | others |", "|---|---|---|---|"]
    for row in rows:
        others = ", ".join(sorted({*row["other, its tables"], *row["other, no tables"]})) or "–"
        cells = [f"{row[tables]} of {row['nets']}" for tables in ("its tables", "no tables")]
        lines.append(f"| {row['machine']} | {' | '.join(cells)} | {others} |")
    return "\n".join(lines)
