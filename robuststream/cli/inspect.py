"""`robuststream inspect`."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robuststream.cli.common import (
    BUG,
    DAMAGED,
    FINE,
    check_model,
    each,
    explain,
    load,
    named,
    one_line,
)
from robuststream.cli.parameters import FILE, WORD, argument, command, force_option, model_option, stream_option
from robuststream.cli.places import (
    PAGE,
    PICTURE,
    STANDARD,
    STREAM,
    Kind,
    UsageError,
    as_output,
    check_inputs,
    check_output,
    label,
    read_input,
    same_place,
    write_output,
)
from robuststream.cli.streams import StreamError
from robuststream.container.report import SCHEMA_VERSION
from robuststream.transfers.reading import read_stream

if TYPE_CHECKING:
    from robuststream.container.report import StreamReport
    from robuststream.container.stream import Stream
    from robuststream.views.policy import Policy, Violation

SUFFIX = STREAM.suffixes[0]


@dataclass(frozen=True)
class _Wanted:
    """What is to be shown of each file."""

    paths: Sequence[Path]
    verbose: bool
    hex: bool
    as_json: bool
    policy: Path | None
    model: Path | None
    stream: int
    force: bool
    demands: Policy | None = None
    map: Path | None = None
    html: Path | None = None

    @property
    def many(self) -> bool:
        return len(self.paths) > 1

    @property
    def reads(self) -> list[Path | None]:
        return [*self.paths, self.policy, self.model]


@command("inspect")
@argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=FILE,
    what="Streams, folders of them, patterns; - is standard input.",
)
@click.option("--verbose", "-v", is_flag=True, help="All packets with their places, and every field by name.")
@click.option("--hex", is_flag=True, help="The bytes at each finding, with what is wrong marked.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="A line of JSON for each file, also for one that cannot be read (spec/report.schema.json).",
)
@click.option(
    "--policy",
    type=FILE,
    help="A TOML file of demands, `min_parity = 0.1`; exit code 2 where one is not met: intact, mode, colour, quality, "
    "parameters_digest, synthesis_digest, min_parity, min_checkpoints, max_tile, max_pixels, max_bits_per_pixel.",
)
@click.option("--map", type=WORD, help="Write a PNG of the tiles, coloured by state.")
@click.option("--html", type=WORD, help="Write a page: the decoded picture, its tiles, the file's bytes. Needs torch.")
@model_option
@stream_option
@force_option
def inspect(
    files: tuple[Path, ...],
    verbose: bool,
    hex: bool,
    as_json: bool,
    policy: Path | None,
    map: str | None,
    html: str | None,
    model: Path | None,
    stream: int,
    force: bool,
) -> int:
    """Show what streams hold and what is wrong with them, from the container alone: of many files a line each."""
    paths = list(_expand(files))
    wanted = _Wanted(paths, verbose, hex, as_json, policy, model, stream, force)
    check_inputs(wanted.reads)
    map_file = _output("--map", map, wanted, PICTURE)
    page_file = _output("--html", html, wanted, PAGE)
    if map_file and page_file and same_place([map_file, page_file]):
        raise UsageError(f"--map and --html name the same file, {map_file}: name another")
    if page_file:
        check_model(model)
    wanted = replace(wanted, demands=_read_policy(policy), map=map_file, html=page_file)
    return each(paths, lambda path: _one(path, wanted))


def _output(option: str, word: str | None, wanted: _Wanted, kind: Kind) -> Path | None:
    """A file that an option names, checked. Raises UsageError."""
    if word is None:
        return None
    path = as_output(word)
    if path == STANDARD:
        raise UsageError(f"{option} -: standard output is for what inspect says: name a file")
    if len(wanted.paths) != 1:
        raise UsageError("--map and --html take one input at a time")
    check_output(path, wanted.force, kind, wanted.reads)
    return path


def _expand(paths: Iterable[Path]) -> Iterator[Path]:
    """Folders give the streams below them, and patterns, which not every shell expands, the files they match; a path
    that gives none is left, to be named in an error."""
    for path in paths:
        found: Sequence[Path] = ()
        if path.is_dir():
            found = sorted(below for below in path.rglob(f"*{SUFFIX}") if below.is_file())
        elif glob.has_magic(str(path)) and not path.exists():
            found = sorted(map(Path, glob.glob(str(path), recursive=True)))
        yield from found or (path,)


def _read_policy(path: Path | None) -> Policy | None:
    if path is None:
        return None
    from robuststream.views.policy import read_policy

    with named(path):
        return read_policy(read_input(path))


def _one(path: Path, wanted: _Wanted) -> int:
    try:
        return _show(path, wanted)
    except (BrokenPipeError, StreamError):
        raise
    except Exception as error:
        if wanted.as_json:
            print(json.dumps(_failure(path, error)))
        raise


def _show(path: Path, wanted: _Wanted) -> int:
    if path.is_dir():
        raise UsageError(f"{path}: no *{SUFFIX} file is in this folder")
    data = read_input(path)
    with named(path):
        stream = read_stream(data, number=wanted.stream)
        report = stream.report
        if wanted.map is not None:
            _write_map(report, _name(path), wanted)
        if wanted.html is not None:
            from robuststream.views.page import write_page

            page = write_page(data, stream, _name(path), load(wanted.model))
            write_output(wanted.html, page, wanted.force)
    violations = wanted.demands.violations(report) if wanted.demands else []
    if wanted.as_json:
        print(json.dumps(_document(path, data, stream, wanted, violations)))
    elif wanted.many and not (wanted.verbose or wanted.hex):
        print(_line(label(path), report))
    else:
        _print(label(path), data, stream, wanted)
    if not wanted.as_json:
        for violation in violations:
            print(f"  {one_line(str(violation))}")
    return FINE if report.intact and not violations else DAMAGED


def _name(path: Path) -> str:
    """A file's name without its folders, for pages that are passed on to others."""
    return label(path) if path == STANDARD else path.name


def _write_map(report: StreamReport, name: str, wanted: _Wanted) -> None:
    import io

    from robuststream.views.tilemap import draw_map

    assert wanted.map is not None
    buffer = io.BytesIO()
    draw_map(report, name).save(buffer, "PNG")
    write_output(wanted.map, buffer.getvalue(), wanted.force)


def _line(name: str, report: StreamReport) -> str:
    """A file in one line: verdict first."""
    header = report.header
    findings = len(report.findings) + report.findings_left_out
    verdict = "intact" if report.intact else f"DAMAGED, {findings} finding{'s' * (findings != 1)}"
    lost = sum(tile.state != "intact" for tile in report.tiles) + header.tiles - len(report.tiles)
    tiles = f"{header.tiles} tiles" if not lost else f"{header.tiles - lost} of {header.tiles} tiles"
    facts = [
        verdict,
        f"{header.width} x {header.height} {header.colour.name}",
        tiles,
        f"{report.file_bytes} bytes",
        f"{8 * report.file_bytes / (header.width * header.height):.3f} bit per pixel",
        f"mode {header.mode.name.lower()}",
        f"parity {header.parity / 10:g} %" if header.parity else "no parity",
    ]
    return f"{one_line(name)}: {', '.join(facts)}"


def _document(
    path: Path, data: bytes, stream: Stream, wanted: _Wanted, violations: Sequence[Violation]
) -> dict[str, Any]:
    document: dict[str, Any] = {"file": str(path)} | stream.report.to_json()
    if wanted.verbose:
        from robuststream.views.tree import plain_parts

        document |= plain_parts(data, stream)
    if wanted.policy is not None:
        document["policy"] = [asdict(violation) for violation in violations]
    return document


def _failure(path: Path, error: Exception) -> dict[str, Any]:
    """The line of a file of which there is no report."""
    message, code = explain(error) or (str(error), BUG)
    kind = type(error).__name__
    return {"file": str(path), "schema": SCHEMA_VERSION, "error": {"kind": kind, "message": message, "exit_code": code}}


def _print(name: str, data: bytes, stream: Stream, wanted: _Wanted) -> None:
    from robuststream.views.summary import print_findings, print_lines, print_summary

    print_summary(name, stream.report, wanted.verbose)
    if wanted.hex:
        from robuststream.views.hexdump import hexdump

        print_lines(hexdump(data, stream))
    else:
        print_findings(stream.report)
    if wanted.verbose:
        from robuststream.views.tree import tree

        print_lines(tree(data, stream))
