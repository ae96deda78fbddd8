"""`robuststream models`: what is installed, and files in and out of the model folder."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robuststream.cli.common import (
    DAMAGED,
    FINE,
    check_model,
    each,
    named,
    one_line,
)
from robuststream.cli.parameters import FILE, WORD, Group, argument, force_option
from robuststream.cli.places import (
    MODEL,
    STANDARD,
    UsageError,
    as_output,
    check_output,
    make_folder,
    names_folder,
    read_input,
    write_output,
)
from robuststream.errors import ModelMismatch, UnsupportedModel

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from robuststream.model.frozen import Model
    from robuststream.model.store import StoredModel

#: Where no terminal sets a width, nothing is cut.
PIPE_WIDTH = 200
#: Columns of numbers.
NUMBERS = ("bytes", "layers", "channels", "weights")

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")


class DamagedModel(UnsupportedModel):
    """A model file that a command is about is not valid: damage, where elsewhere it is a fault of the environment."""

    exit_code = DAMAGED


# --- Commands ------------------------------------------------------------------------------------------------------


@click.group("models", cls=Group, no_args_is_help=False)
def models() -> None:
    """List, show, install and export frozen models."""


@models.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List the bundled models and those in the model folder, as their headers describe them; `show` checks one."""
    from robuststream.model.store import FOLDER_VARIABLE, model_folder, stored_models

    found = list(stored_models())
    if as_json:
        print(json.dumps([_entry(stored) for stored in found]))
        return
    table = _table("name", "prior", "parameters", "synthesis", "bytes", "where")
    for stored in found:
        if not stored.problem:
            name = one_line(stored.name) or "no name"
            table.add_row(name, one_line(stored.prior), *stored.digests, str(stored.size), _where(stored))
    console = _console()
    console.print(table)
    for stored in found:
        if stored.problem:
            console.print(f"{one_line(str(stored.path))}: no valid model ({one_line(stored.problem)})", soft_wrap=True)
    folder = model_folder()
    place = one_line(str(folder)) if folder else f"none, since this user has no home: set {FOLDER_VARIABLE}"
    console.print(f"model folder: {place}", soft_wrap=True)


@models.command("show")
@argument("model", metavar="MODEL", what="A name, 6 digits or more of a digest, or a file.")
@json_option
def show(model: str, as_json: bool) -> None:
    """Check one model, and show everything about it and the proof that its entropy networks are exact."""
    from robuststream.model.store import pick_models

    facts = _facts(*_load(pick_models(model)))
    if as_json:
        print(json.dumps(facts))
    else:
        _print(facts)


@models.command("install")
@argument("files", metavar="[FILE]...", nargs=-1, type=FILE, what="Model files.")
@click.option("--zoo", help="Download and freeze this model of CompressAI's zoo.")
@click.option("--quality", type=int, help="Of the model of the zoo.")
@click.option("--metric", default="mse", help="Of the model of the zoo: mse or ms-ssim.")
@force_option
def install(files: tuple[Path, ...], zoo: str | None, quality: int | None, metric: str, force: bool) -> int:
    """Check model files and copy them to the model folder, where decoding finds them by digest."""
    if bool(files) == (zoo is not None) or (zoo is None) != (quality is None):
        raise UsageError("give model files, or --zoo NAME and --quality N (robuststream models install --help)")

    from robuststream.model import store as modelstore

    def one(path: Path) -> int:
        check_model(path)
        _, model = _load([path])
        _installed(path, *modelstore.install(model, read_input(path), force))
        return FINE

    if zoo is not None and quality is not None:
        # torch announces downloads on standard output, which is for what the command has to say.
        with contextlib.redirect_stdout(io.StringIO()):
            done = modelstore.install_pretrained(zoo, quality, metric, force)
        _installed(f"{zoo}, quality {quality}, {metric}", *done)
    return each(files, one)


@models.command("export")
@argument(
    "words",
    metavar="[MODEL] OUT",
    nargs=-1,
    required=True,
    type=WORD,
    what="A name, digest or file; and a file or folder.",
)
@click.option("--stream", type=FILE, help="Export the model that this stream names, instead of MODEL.")
@force_option
def export(words: tuple[str, ...], stream: Path | None, force: bool) -> None:
    """Check a model and write its file, to keep it beside the streams it decodes."""
    if len(words) != (2 if stream is None else 1):
        raise UsageError("give a model and an output, or --stream FILE and an output")

    from robuststream.model.store import pick_models

    paths = pick_models(words[0]) if stream is None else _named_by(stream)
    word = words[-1]
    folder = Path(word) if names_folder(word) or Path(word).is_dir() else None
    if folder is not None:
        make_folder(folder)
    out = as_output(word) if folder is None else folder / paths[0].name
    check_output(out, force, MODEL, [*paths, stream])
    path, model = _load(paths)
    data = read_input(path)
    write_output(out, data, force)
    if out != STANDARD:
        print(f"{one_line(str(out))}: {one_line(model.name) or 'no name'}, {len(data)} bytes")


# --- Work ----------------------------------------------------------------------------------------------------------


def _load(paths: list[Path]) -> tuple[Path, Model]:
    """The first copy of a model that is sound, and where it is."""
    from robuststream.model.store import first_sound

    try:
        return first_sound(paths)
    except UnsupportedModel as error:
        raise DamagedModel(str(error)) from error


def _installed(what: object, path: Path, written: bool) -> None:
    state = "installed as" if written else "there already, as"
    print(f"{one_line(str(what))}: {state} {one_line(str(path))}")


def _named_by(stream: Path) -> list[Path]:
    """The files of the model that coded a stream, and no other: not one with another synthesis transform."""
    from robuststream.model.store import find_stored
    from robuststream.transfers.reading import read_stream

    data = read_input(stream)
    with named(stream):
        header = read_stream(data).report.header
        found = list(find_stored(header.parameters_digest, header.synthesis_digest))
        if found[0].synthesis_digest != header.synthesis_digest.hex():
            raise ModelMismatch(
                f"its model's synthesis transform {header.synthesis_digest.hex()} is not installed; {found[0].path} "
                "decodes the same latents to other pixels: export it by its digest if it will do"
            )
        return [stored.path for stored in found]


def _where(stored: StoredModel) -> str:
    return "bundled" if stored.bundled else one_line(str(stored.path.parent))


def _entry(stored: StoredModel) -> dict[str, Any]:
    """A model in the JSON of `list`; of a file that is no model, null for what only models have."""
    fields = ("name", "prior", "parameters_digest", "synthesis_digest")
    described = {field: None if stored.problem else getattr(stored, field) for field in fields}
    place = {"bytes": stored.size, "where": _where(stored), "path": str(stored.path)}
    return described | place | {"problem": stored.problem or None}


def _facts(path: Path, model: Model) -> dict[str, Any]:
    """What `show` shows, as JSON has it."""
    networks: dict[str, Any] = {}
    for name in model.parts.networks:
        network = model.parts.network(name)
        bounds = model.bounds.get(name)
        networks[name] = {
            "layers": len(network.layers),
            "channels": list(network.channels),
            "scale": list(network.scale),
            "parameters": sum(tensor.numel() for tensor in network.named_tensors().values()),
            "bound_bits": None if bounds is None else max(bound.bits for bound in bounds),
        }
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "texts": dict(model.parts.texts),
        "prior": model.parts.prior,
        "parameters_digest": model.parameters_digest.hex(),
        "synthesis_digest": model.synthesis_digest.hex(),
        "groups": [group.description() for group in model.parts.groups],
        "networks": networks,
    }


# --- Tables --------------------------------------------------------------------------------------------------------


def _print(facts: dict[str, Any]) -> None:
    console = _console()
    summary = _table("", "")
    summary.show_header = False
    digests = {"parameters": facts["parameters_digest"], "synthesis": facts["synthesis_digest"]}
    place = {"prior": facts["prior"], **digests, "bytes": facts["bytes"], "file": facts["path"]}
    for key, value in (facts["texts"] | place).items():
        if value:
            summary.add_row(one_line(key), one_line(str(value)))
    console.print(summary)
    if facts["groups"]:
        groups = _table("group", "channels", "entropy parameters", "context", "takes groups")
        for number, group in enumerate(facts["groups"]):
            takes = ", ".join(map(str, group["takes"])) or "-"
            chunks = ", ".join(group["chunks"])
            groups.add_row(str(number), str(group["channels"]), chunks, group["context"], takes)
        console.print(groups)
    networks = _table("network", "layers", "channels", "scale", "weights", "arithmetic")
    for name, network in facts["networks"].items():
        bits = network["bound_bits"]
        arithmetic = "float32" if bits is None else f"exact: sums below 2^{bits:.2f} of 2^52"
        channels = "{} > {}".format(*network["channels"])
        scale = "{} / {}".format(*network["scale"])
        networks.add_row(name, str(network["layers"]), channels, scale, str(network["parameters"]), arithmetic)
    console.print(networks)


def _console() -> Console:
    from rich.console import Console

    # Names in files are not ours: nothing in them is taken for markup.
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(file=sys.stdout, markup=False, highlight=False, emoji=False, width=width)


def _table(*headings: str) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False, show_edge=False)
    for heading in headings:
        # Digests must not be cut where a terminal is narrow.
        table.add_column(heading, justify="right" if heading in NUMBERS else "left", overflow="fold")
    return table
