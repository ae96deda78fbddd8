"""`robuststream repair`."""

from __future__ import annotations

from pathlib import Path

import click

from robuststream.cli.common import (
    DAMAGED,
    FINE,
    named,
    read_lender,
    say,
)
from robuststream.cli.parameters import WORD, argument, command, force_option, header_from_option
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


@command("repair")
@argument("paths", metavar="IN... [OUT]", nargs=-1, required=True, type=WORD, what="Damaged copies of one stream.")
@click.option("--output", "-o", type=WORD, help="The stream; else the last of two files.")
@header_from_option
@force_option
def repair(paths: tuple[str, ...], output: str | None, header_from: Path | None, force: bool) -> int:
    """Put a damaged stream together again, by its parity and from several damaged copies.

    What can be had is written; where that is not the whole stream, the exit code is 2.
    """
    advice = "use --force to overwrite it"
    if output is None:
        if len(paths) != 2:
            raise UsageError("give one input and one output, or many copies and -o OUT")
        *words, output = paths
        advice = "if it is another copy, give -o OUT as well; else use --force to overwrite it"
    else:
        words = list(paths)
    sources, target = [Path(word) for word in words], as_output(output)
    check_inputs([*sources, header_from])
    check_output(target, force, STREAM, [*sources, header_from], advice)
    copies = [read_input(path) for path in sources]
    lender = read_lender(header_from)

    from robuststream.transfers.reading import restore

    with named(sources[0]):
        try:
            restored = restore(copies, lender)
        except ImportError as error:
            raise UsageError(str(error)) from error
    write_output(target, restored.data, force)
    name = output_label(target)
    for other in restored.left_out:
        say("warning", f"{name}: stream {other}, which stands in an input as well, is not in it")
    if restored.whole:
        say("info", f"{name}: whole, byte for byte what was written ({len(restored.data)} bytes)")
        return FINE
    lost = f"{', '.join(restored.missing[:8])}{', ...' * (len(restored.missing) > 8)}"
    what = f"missing are {lost}" if lost else "its packets do not all belong together"
    needed = restored.needed
    more = f"; {needed} more repair symbol{'s' * (needed != 1)} needed" if needed else ""
    say("warning", f"{name}: not whole, {what}{more}")
    return DAMAGED
