"""`robuststream inspect`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robuststream.cli.common import DAMAGED, FINE, each, label, named, one_line, read_input
from robuststream.container.reader import read_stream

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from robuststream.container.report import StreamReport

#: Of a long list of findings, as many are printed; --json gives all.
SHOWN = 20
#: Where no terminal sets a width, nothing is cut.
PIPE_WIDTH = 200


def inspect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Streams; - is standard input.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document a line for each file (spec/report.schema.json).")
    ] = False,
) -> None:
    """Show what streams hold and what is wrong with them, from the container alone."""

    def one(path: Path) -> int:
        data = read_input(path)
        with named(path):
            report = read_stream(data).report
        if as_json:
            print(json.dumps(report.to_json()))
        else:
            _print(label(path), report)
        return FINE if report.intact else DAMAGED

    raise typer.Exit(each(files, one))


def _print(name: str, report: StreamReport) -> None:
    from rich.console import Console

    # Names in a stream are not ours: nothing in them is taken for markup.
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False, width=width)
    verdict = "intact" if report.intact else f"DAMAGED, {len(report.findings) + report.findings_left_out} finding(s)"
    console.print(f"{one_line(name)}: {verdict}", style="bold green" if report.intact else "bold red")
    console.print(_summary(report))
    console.print(_tiles(report))
    _print_findings(console, report)


def _table() -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    return Table(box=SIMPLE, pad_edge=False, show_edge=False)


def _summary(report: StreamReport) -> Table:
    header = report.header
    framing = report.file_bytes - report.entropy_bytes - report.metadata_bytes
    bits = 8 * report.file_bytes / (header.width * header.height)
    table = _table()
    table.show_header = False
    for key, value in {
        "picture": f"{header.width} x {header.height} pixels, {header.colour.name}",
        "tiles": f"{header.tiles} ({header.columns} x {header.rows}) of {header.tile} x {header.tile} pixels",
        "bytes": f"{report.file_bytes} ({bits:.3f} bit per pixel): {report.entropy_bytes} entropy coded, "
        f"{report.metadata_bytes} metadata, {framing} framing and damage",
        "format": ".".join(map(str, header.version))
        + f", mode {header.mode.name.lower()}"
        + (f", quality {header.quality}" if header.quality else ""),
        "stream": report.stream_id,
        "model": f"{one_line(header.model_name) or 'no name'} (a hint; its digests count)",
        "parameters": header.parameters_digest.hex(),
        "synthesis": header.synthesis_digest.hex(),
        "packets": ", ".join(f"{count} {kind}" for kind, count in sorted(report.packets.items())),
        "other streams": ", ".join(report.other_streams),
    }.items():
        if value:
            table.add_row(key, value)
    return table


def _tiles(report: StreamReport) -> Table:
    table = _table()
    for heading in ("tile", "row", "column", "offset", "size"):
        table.add_column(heading, justify="right")
    table.add_column("state")
    for tile in report.tiles:
        row, column = divmod(tile.index, report.header.columns)
        places = ["-" if place is None else str(place) for place in (tile.offset, tile.size)]
        state = tile.state.value + (", z salvaged" if tile.z_salvaged else "")
        state += (
            f", {tile.y_salvaged} of {report.header.y_checkpoints + 1} parts of y salvaged" if tile.y_salvaged else ""
        )
        state += ", correctable" if tile.correctable else ""
        style = None if tile.state == "intact" else "red"
        table.add_row(str(tile.index), str(row), str(column), *places, state, style=style)
    return table


def _print_findings(console: Console, report: StreamReport) -> None:
    hidden = report.header.tiles - len(report.tiles)
    if hidden:
        console.print(f"{hidden} more tiles are missing")
    for finding in report.findings[:SHOWN]:
        console.print(one_line(str(finding)), soft_wrap=True)
    more = len(report.findings[SHOWN:]) + report.findings_left_out
    if more:
        console.print(f"and {more} more findings (--json lists them)")
