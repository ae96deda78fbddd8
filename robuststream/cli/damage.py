"""`robuststream damage`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robuststream.cli.common import ForceOption
from robuststream.cli.places import (
    UsageError,
    as_output,
    check_inputs,
    check_output,
    kind_of_file,
    label,
    read_input,
    write_output,
)

if TYPE_CHECKING:
    from robuststream.faults import GilbertElliott

#: The four numbers of faults.GilbertElliott.
Channel = tuple[float, float, float, float]
CHANNEL = "P R G B"


def damage(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A stream, or any file; - is standard input.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="The damaged copy; - is standard output.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed does the same damage.")],
    drop_tiles: Annotated[int, typer.Option(metavar="N", min=0, help="Cut out N tiles.")] = 0,
    splice: Annotated[Path | None, typer.Option(metavar="FILE", help="Put packets of another stream in.")] = None,
    splices: Annotated[int, typer.Option(metavar="N", min=0, help="How many of them.")] = 1,
    splice_bytes: Annotated[
        int | None, typer.Option(metavar="BYTES", min=0, help="Not packets, but runs of so many of its bytes.")
    ] = None,
    duplicate: Annotated[int, typer.Option(metavar="N", min=0, help="Let N packets or datagrams stand twice.")] = 0,
    reorder: Annotated[int, typer.Option(metavar="N", min=0, help="Let N packets or datagrams change places.")] = 0,
    loss: Annotated[float, typer.Option(metavar="P", min=0, max=1, help="Lose datagrams at this rate.")] = 0,
    loss_channel: Annotated[
        Channel | None, typer.Option(metavar=CHANNEL, help="Lose datagrams in bursts (--channel says how).")
    ] = None,
    mtu: Annotated[
        int | None,
        typer.Option(
            metavar="BYTES",
            min=1,
            help="Size of datagrams: 1500 for losses; without it, --duplicate and --reorder take the stream's packets.",
        ),
    ] = None,
    lost: Annotated[str, typer.Option(help="What lost datagrams are: removed, or zeroed.")] = "removed",
    delete: Annotated[int, typer.Option(metavar="BYTES", min=0, help="Cut out runs of so many bytes.")] = 0,
    deletes: Annotated[int, typer.Option(metavar="N", min=0, help="How many such runs.")] = 1,
    insert: Annotated[int, typer.Option(metavar="BYTES", min=0, help="Put in runs of so many random bytes.")] = 0,
    inserts: Annotated[int, typer.Option(metavar="N", min=0, help="How many such runs.")] = 1,
    burst: Annotated[int, typer.Option(metavar="BYTES", min=0, help="Overwrite runs of so many bytes.")] = 0,
    bursts: Annotated[int, typer.Option(metavar="N", min=0, help="How many such runs.")] = 1,
    zero_sectors: Annotated[int, typer.Option(metavar="N", min=0, help="Zero N sectors.")] = 0,
    sector: Annotated[int, typer.Option(metavar="BYTES", min=1, help="Size of a sector.")] = 512,
    flip: Annotated[int, typer.Option(metavar="N", min=0, help="Flip N bits.")] = 0,
    bit_error_rate: Annotated[float, typer.Option(metavar="P", min=0, max=1, help="Flip bits at this rate.")] = 0,
    channel: Annotated[
        Channel | None,
        typer.Option(
            metavar=CHANNEL,
            help="Errors in bursts, by Gilbert and Elliott: probabilities of going from good to bad (P) and back (R), "
            "error rates in the good (G) and the bad state (B).",
        ),
    ] = None,
    channel_unit: Annotated[str, typer.Option(help="What the errors are of: bits or bytes.")] = "bits",
    cut_start: Annotated[int, typer.Option(metavar="BYTES", min=0, help="Cut off so many at the beginning.")] = 0,
    truncate: Annotated[int | None, typer.Option(metavar="BYTES", min=0, help="Keep so many bytes.")] = None,
    force: ForceOption = False,
) -> None:
    """Damage a file on purpose, to see what becomes of it. Several kinds happen in the order listed here."""
    wanted = {
        "drop-tiles": drop_tiles,
        "splice": splice,
        "duplicate": duplicate,
        "reorder": reorder,
        "loss": loss,
        "loss-channel": loss_channel,
        "delete": delete,
        "insert": insert,
        "burst": burst,
        "zero-sectors": zero_sectors,
        "flip": flip,
        "bit-error-rate": bit_error_rate,
        "channel": channel,
        "cut-start": cut_start,
    }
    if not any(wanted.values()) and truncate is None:
        raise UsageError(f"say what damage: {', '.join(f'--{name}' for name in (*wanted, 'truncate'))}")
    output = as_output(target)
    kind = kind_of_file(source)
    check_inputs([source, splice])
    # Any file may be damaged, into a file of any name; but not onto one of another kind.
    check_output(output, force, replace(kind, suffixes=()) if kind else None, [source, splice])
    data = read_input(source)
    other = b"" if splice is None else read_input(splice)

    from robuststream import faults

    size = faults.ETHERNET_MTU if mtu is None else mtu
    try:
        # Tiles and packets are found by their checksums, so what is done to them goes first.
        if drop_tiles:
            data = faults.drop_tiles(data, seed=seed, count=drop_tiles)
        if splice is not None:
            data = faults.splice(data, other=other, seed=seed, count=splices, length=splice_bytes)
        if duplicate:
            data = faults.duplicate(data, seed=seed, count=duplicate, mtu=mtu)
        if reorder:
            data = faults.reorder(data, seed=seed, count=reorder, mtu=mtu)
        if loss:
            data = faults.lose_datagrams(data, seed=seed, mtu=size, rate=loss, lost=lost)
        if loss_channel is not None:
            states = _channel(loss_channel)
            data = faults.lose_datagrams(data, seed=seed, mtu=size, channel=states, lost=lost)
        if delete:
            data = faults.delete(data, seed=seed, length=delete, count=deletes)
        if insert:
            data = faults.insert(data, seed=seed, length=insert, count=inserts)
        if burst:
            data = faults.burst(data, seed=seed, length=burst, count=bursts)
        if zero_sectors:
            data = faults.zero_sectors(data, seed=seed, count=zero_sectors, size=sector)
        if flip:
            data = faults.flip_bits(data, seed=seed, count=flip)
        if bit_error_rate:
            data = faults.flip_bits(data, seed=seed, rate=bit_error_rate)
        if channel is not None:
            data = faults.channel_errors(data, seed=seed, channel=_channel(channel), unit=channel_unit)
        if cut_start:
            data = faults.cut_start(data, length=cut_start)
        if truncate is not None:
            data = faults.truncate(data, truncate)
    except ValueError as error:
        raise UsageError(f"{label(source)}: {error}") from error
    write_output(output, data, force)


def _channel(numbers: Channel) -> GilbertElliott:
    from robuststream.faults import GilbertElliott

    to_bad, to_good, error_good, error_bad = numbers
    return GilbertElliott(to_bad=to_bad, to_good=to_good, error_good=error_good, error_bad=error_bad)
