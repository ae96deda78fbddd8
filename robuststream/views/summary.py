"""What `robuststream inspect` says of one file: a summary, a table of tiles, the findings."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from robuststream.container.report import StreamReport, TileState
from robuststream.views.text import one_line, printable

#: Of a long list of findings, as many are printed; --json gives all.
SHOWN = 20
#: Where no terminal sets a width, nothing is cut.
PIPE_WIDTH = 200


def print_summary(name: str, report: StreamReport) -> None:
    console = _console()
    verdict = "intact" if report.intact else f"DAMAGED, {len(report.findings) + report.findings_left_out} finding(s)"
    console.print(f"{one_line(name)}: {verdict}", style="bold green" if report.intact else "bold red")
    console.print(_summary(report))
    print_lines(_tiles(report))
    hidden = report.header.tiles - len(report.tiles)
    if hidden:
        console.print(f"{hidden} more tiles are missing")


def print_lines(lines: Iterable[tuple[str, bool]]) -> None:
    """Plain lines; those that tell of damage stand out at a terminal."""
    colours = sys.stdout.isatty()
    for text, damage in lines:
        text = printable(text)
        print(typer.style(text, fg="red") if damage and colours else text)


def print_findings(report: StreamReport) -> None:
    console = _console()
    for finding in report.findings[:SHOWN]:
        console.print(one_line(str(finding)), soft_wrap=True)
    more = len(report.findings[SHOWN:]) + report.findings_left_out
    if more:
        console.print(f"and {more} more findings (--json lists them)")


def facts(report: StreamReport) -> dict[str, str]:
    """The summary, by name; a text from the file may be anything."""
    header = report.header
    framing = report.file_bytes - report.entropy_bytes - report.metadata_bytes
    bits = 8 * report.file_bytes / (header.width * header.height)
    all_facts = {
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
    }
    return {name: text for name, text in all_facts.items() if text}


def _console() -> Console:
    # Names in a stream are not ours: nothing in them is taken for markup.
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(file=sys.stdout, markup=False, highlight=False, emoji=False, width=width)


def _summary(report: StreamReport) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, show_edge=False, show_header=False)
    for name, text in facts(report).items():
        table.add_row(name, text)
    return table


def _tiles(report: StreamReport) -> Iterator[tuple[str, bool]]:
    """A line for each tile, and whether it is damaged. There may be thousands, and a table of rich takes 1 ms a row."""
    wide = max(6, len(str(report.file_bytes)))
    yield f"{'tile':>6}{'row':>6}{'column':>8}  {'offset':>{wide}}  {'size':>7}  state", False
    for tile in report.tiles:
        row, column = divmod(tile.index, report.header.columns)
        offset, size = ("-" if place is None else str(place) for place in (tile.offset, tile.size))
        state = tile.state.value + (", z salvaged" if tile.z_salvaged else "")
        parts = report.header.y_checkpoints + 1
        state += f", {tile.y_salvaged} of {parts} parts of y salvaged" if tile.y_salvaged else ""
        state += ", correctable" if tile.correctable else ""
        damage = tile.state != TileState.INTACT
        yield f"{tile.index:6}{row:6}{column:8}  {offset:>{wide}}  {size:>7}  {state}", damage
