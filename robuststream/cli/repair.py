"""`robuststream repair`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robuststream.cli.common import (
    DAMAGED,
    FINE,
    ForceOption,
    HeaderFromOption,
    named,
    read_lender,
    say,
)
from robuststream.cli.places import (
    STREAM,
    UsageError,
    as_output,
    check_inputs,
    check_output,
    output_label,
    read_input,
    write_output,
)


def repair(
    paths: Annotated[list[str], typer.Argument(metavar="IN... [OUT]", help="Damaged copies of one stream.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="The stream; else the last of two files.")
    ] = None,
    header_from: HeaderFromOption = None,
    force: ForceOption = False,
) -> None:
    """Put a damaged stream together again, by its parity and from several damaged copies.

    What can be had is written; where that is not the whole stream, the exit code is 2.
    """
    if output is None:
        if len(paths) != 2:
            raise UsageError("give one input and one output, or many copies and -o OUT")
        *paths, output = paths
    sources, target = [Path(path) for path in paths], as_output(output)
    check_inputs([*sources, header_from])
    check_output(target, force, STREAM, [*sources, header_from])
    copies = [read_input(path) for path in sources]
    lender = read_lender(header_from)

    from robuststream.container.reader import read_stream
    from robuststream.container.repair import restore

    with named(sources[0]):
        try:
            restored = restore(copies, read_stream(lender) if lender else None)
        except ImportError as error:
            raise UsageError(str(error)) from error
    write_output(target, restored.data, force)
    name = output_label(target)
    if restored.whole:
        say("info", f"{name}: whole, byte for byte what was written ({len(restored.data)} bytes)")
        raise typer.Exit(FINE)
    lost = f"{', '.join(restored.missing[:8])}{', ...' * (len(restored.missing) > 8)}"
    what = f"missing are {lost}" if lost else "its packets do not all belong together"
    needed = restored.needed
    more = f"; {needed} more repair symbol{'s' * (needed != 1)} needed" if needed else ""
    say("warning", f"{name}: not whole, {what}{more}")
    raise typer.Exit(DAMAGED)
