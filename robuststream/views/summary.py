"""What `robuststream inspect` says of one file: a summary, a table of tiles, the findings. Made for 80 columns."""

from __future__ import annotations

import os
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator

from robuststream.container.report import StreamReport, TileReport, TileState
from robuststream.views.text import one_line, printable

#: Of a long list of findings, as many are printed; --json gives all. Of tiles too; -v gives all.
SHOWN = 20
#: Where no terminal sets a width, nothing is cut.
PIPE_WIDTH = 200
#: Escape sequences of terminals.
RED, BOLD_RED, BOLD_GREEN = "31", "1;31", "1;32"


def print_summary(name: str, report: StreamReport, every_tile: bool = False) -> None:
    """Facts, and a table of the tiles: where there are many, of those that are not intact unless all are asked for."""
    verdict = "intact" if report.intact else f"DAMAGED, {len(report.findings) + report.findings_left_out} finding(s)"
    print(styled(f"{one_line(name)}: {verdict}", BOLD_GREEN if report.intact else BOLD_RED))
    for line in _table(facts(report), _width()):
        print(line)
    print_lines(_tiles(report, every_tile))
    hidden = report.header.tiles - len(report.tiles)
    if hidden:
        print(f"{hidden} more tiles are missing")


def print_lines(lines: Iterable[tuple[str, bool]]) -> None:
    """Plain lines; those that tell of damage stand out at a terminal."""
    for text, damage in lines:
        print(styled(printable(text), RED) if damage else printable(text))


def print_findings(report: StreamReport) -> None:
    for finding in report.findings[:SHOWN]:
        print(one_line(str(finding)))
    more = len(report.findings[SHOWN:]) + report.findings_left_out
    if more:
        print(f"and {more} more findings (--json lists them)")


def styled(text: str, style: str) -> str:
    """`text` in a style, where standard output shows styles and they are not switched off."""
    plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{style}m{text}\x1b[0m"


def _width() -> int:
    if not sys.stdout.isatty():
        return PIPE_WIDTH
    import shutil

    return shutil.get_terminal_size().columns


def facts(report: StreamReport) -> dict[str, str]:
    """The summary, by name; a text from the file may be anything."""
    header = report.header
    bits = 8 * report.file_bytes / (header.width * header.height)
    all_facts = {
        "picture": f"{header.width} x {header.height} pixels, {header.colour.name}",
        "tiles": f"{header.tiles} ({header.columns} x {header.rows}) of {header.tile} x {header.tile} pixels, "
        + _states(report),
        "bytes": f"{report.file_bytes}, {bits:.3f} bit per pixel",
        "of these": _shares(report),
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


def _states(report: StreamReport) -> str:
    counts = Counter(tile.state for tile in report.tiles)
    counts[TileState.MISSING] += report.header.tiles - len(report.tiles)
    if counts[TileState.INTACT] == report.header.tiles:
        return "all intact"
    return ", ".join(f"{counts[state]} {state.value}" for state in TileState if counts[state])


def _shares(report: StreamReport) -> str:
    """What the bytes of a file are for. In a whole one the rest is framing; else what is damaged is among it."""
    shares = {
        "entropy coded": report.entropy_bytes,
        "parity": report.parity_bytes,
        "metadata": report.metadata_bytes,
    }
    rest = report.file_bytes - sum(shares.values())
    shares["framing" if report.intact else "framing and damage"] = rest
    return ", ".join(f"{size} {name}" for name, size in shares.items() if size)


def _table(rows: dict[str, str], width: int) -> Iterator[str]:
    """Names and texts; what is too long goes on below, digests uncut."""
    wide = max(map(len, rows)) + 2
    for name, text in rows.items():
        lines = textwrap.wrap(text, max(20, width - wide), break_long_words=False, break_on_hyphens=False)
        for number, line in enumerate(lines):
            yield f"{'' if number else name:{wide}}{line}"


def _tiles(report: StreamReport, every_tile: bool) -> Iterator[tuple[str, bool]]:
    """A line for each tile, and whether it is damaged. There may be thousands, so they are made one by one."""
    tiles: Iterable[TileReport] = report.tiles
    left_out = 0
    if not every_tile and len(report.tiles) > SHOWN:
        damaged = [tile for tile in report.tiles if tile.state != TileState.INTACT]
        tiles, left_out = damaged[:SHOWN], len(damaged[SHOWN:])
        if not damaged:
            return
    wide = max(6, len(str(report.file_bytes)))
    yield "", False
    yield f"{'tile':>5}{'row':>5}{'column':>7}  {'offset':>{wide}}  {'size':>6}  state", False
    for tile in tiles:
        row, column = divmod(tile.index, report.header.columns)
        offset, size = ("-" if place is None else str(place) for place in (tile.offset, tile.size))
        line = f"{tile.index:5}{row:5}{column:7}  {offset:>{wide}}  {size:>6}  {_state(tile, report)}"
        yield line, tile.state != TileState.INTACT
    if left_out:
        yield f"and {left_out} more tiles that are not intact (-v lists all)", True


def _state(tile: TileReport, report: StreamReport) -> str:
    parts = ["z"] * tile.z_salvaged
    parts += [f"y {tile.y_salvaged}/{report.header.checkpoints + 1}"] * bool(tile.y_salvaged)
    salvaged = f", {'+'.join(parts)} salvaged" if parts else ""
    return tile.state.value + salvaged + ", correctable" * tile.correctable
