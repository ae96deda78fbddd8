"""`robuststream inspect`."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robuststream.cli.common import (
    DAMAGED,
    FINE,
    STANDARD,
    ForceOption,
    ModelOption,
    UsageError,
    check_output,
    each,
    label,
    load,
    named,
    one_line,
    read_input,
    write_output,
)
from robuststream.container.reader import read_stream

if TYPE_CHECKING:
    from robuststream.container.report import StreamReport
    from robuststream.container.stream import Stream
    from robuststream.views.policy import Policy, Violation

SUFFIX = ".robs"


@dataclass(frozen=True)
class _Wanted:
    """What is to be shown of each file."""

    many: bool
    verbose: bool
    hex: bool
    as_json: bool
    policy: Policy | None
    map: Path | None
    html: Path | None
    model: Path | None


def inspect(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Streams, folders of them, patterns; - is standard input."),
    ],
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="All packets with their places, and every field by name.")
    ] = False,
    hex: Annotated[bool, typer.Option("--hex", help="The bytes at each finding, with what is wrong marked.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document a line for each file (spec/report.schema.json).")
    ] = False,
    policy: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file of demands, `min_parity = 0.1`; exit code 2 where one is not met: intact, mode, colour, "
            "quality, parameters_digest, synthesis_digest, min_parity, min_checkpoints, max_tile, max_pixels, "
            "max_bits_per_pixel."
        ),
    ] = None,
    map: Annotated[Path | None, typer.Option(help="Write a PNG of the tiles, coloured by state.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page: the decoded picture, its tiles, the file's bytes. Needs torch.")
    ] = None,
    model: ModelOption = None,
    force: ForceOption = False,
) -> None:
    """Show what streams hold and what is wrong with them, from the container alone: of many files a line each."""
    paths = list(_expand(files))
    for output in (map, html):
        if output is not None:
            if len(paths) != 1:
                raise UsageError("--map and --html take one input at a time")
            check_output(output, force)
    wanted = _Wanted(len(paths) > 1, verbose, hex, as_json, _read_policy(policy), map, html, model)
    raise typer.Exit(each(paths, lambda path: _one(path, wanted)))


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
    if path.is_dir():
        raise UsageError(f"{path}: no *{SUFFIX} file is in this folder")
    data = read_input(path)
    with named(path):
        stream = read_stream(data)
        report = stream.report
        if wanted.map is not None:
            _write_map(report, _name(path), wanted.map)
        if wanted.html is not None:
            from robuststream.views.page import write_page

            write_output(wanted.html, write_page(data, stream, _name(path), load(wanted.model)))
    violations = wanted.policy.violations(report) if wanted.policy else []
    if wanted.as_json:
        _print_json(data, stream, wanted, violations)
    elif wanted.many and not (wanted.verbose or wanted.hex):
        print(_line(label(path), report))
    else:
        _print(label(path), data, stream, wanted)
    if not wanted.as_json:
        for violation in violations:
            print(f"  {one_line(str(violation))}")
    return FINE if report.intact and not violations else DAMAGED


def _name(path: Path) -> str:
    """For what is passed on: whose folders they were is nobody's business."""
    return label(path) if path == STANDARD else path.name


def _write_map(report: StreamReport, name: str, output: Path) -> None:
    import io

    from robuststream.views.tilemap import draw_map

    buffer = io.BytesIO()
    draw_map(report, name).save(buffer, "PNG")
    write_output(output, buffer.getvalue())


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
        header.mode.name.lower(),
        f"parity {header.parity / 10:g} %" if header.parity else "no parity",
    ]
    return f"{one_line(name)}: {', '.join(facts)}"


def _print_json(data: bytes, stream: Stream, wanted: _Wanted, violations: Sequence[Violation]) -> None:
    document: dict[str, Any] = stream.report.to_json()
    if wanted.verbose:
        from robuststream.views.tree import plain_parts

        document |= plain_parts(data, stream)
    if wanted.policy is not None:
        document["policy"] = [asdict(violation) for violation in violations]
    print(json.dumps(document))


def _print(name: str, data: bytes, stream: Stream, wanted: _Wanted) -> None:
    from robuststream.views.summary import print_findings, print_lines, print_summary

    print_summary(name, stream.report)
    if wanted.hex:
        from robuststream.views.hexdump import hexdump

        print_lines(hexdump(data, stream))
    else:
        print_findings(stream.report)
    if wanted.verbose:
        from robuststream.views.tree import tree

        print_lines(tree(data, stream))
