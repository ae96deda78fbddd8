"""`robuststream damage`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robuststream.cli.common import ForceOption, UsageError, check_output, read_input, write_output


def damage(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A stream, or any file; - is standard input.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The damaged copy; - is standard output.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed does the same damage.")],
    drop_tiles: Annotated[int, typer.Option(metavar="N", min=0, help="Cut out N tiles.")] = 0,
    burst: Annotated[int, typer.Option(metavar="BYTES", min=0, help="Overwrite runs of so many bytes.")] = 0,
    bursts: Annotated[int, typer.Option(metavar="N", min=0, help="How many such runs.")] = 1,
    zero_sectors: Annotated[int, typer.Option(metavar="N", min=0, help="Zero N sectors of 512 bytes.")] = 0,
    flip: Annotated[int, typer.Option(metavar="N", min=0, help="Flip N bits.")] = 0,
    bit_error_rate: Annotated[float, typer.Option(metavar="P", min=0, max=1, help="Flip bits at this rate.")] = 0,
    truncate: Annotated[int | None, typer.Option(metavar="BYTES", min=0, help="Keep so many bytes.")] = None,
    force: ForceOption = False,
) -> None:
    """Damage a file on purpose, to see what becomes of it. Several kinds happen in the order listed here."""
    if not any((drop_tiles, burst, zero_sectors, flip, bit_error_rate)) and truncate is None:
        raise UsageError("say what damage: --drop-tiles, --burst, --zero-sectors, --flip, --bit-error-rate, --truncate")
    check_output(target, force)
    data = read_input(source)

    from robuststream import faults

    try:
        # Tiles are found by their checksums, so they go first.
        if drop_tiles:
            data = faults.drop_tiles(data, seed=seed, count=drop_tiles)
        if burst:
            data = faults.burst(data, seed=seed, length=burst, count=bursts)
        if zero_sectors:
            data = faults.zero_sectors(data, seed=seed, count=zero_sectors)
        if flip:
            data = faults.flip_bits(data, seed=seed, count=flip)
        if bit_error_rate:
            data = faults.flip_bits(data, seed=seed, rate=bit_error_rate)
        if truncate is not None:
            data = faults.truncate(data, truncate)
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from error
    write_output(target, data)
