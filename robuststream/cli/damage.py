"""`robuststream damage`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robuststream.cli.common import FINE
from robuststream.cli.parameters import FILE, WORD, Decorated, argument, command, force_option
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


def _number(
    name: str, metavar: str, what: str, *, default: int | None = 0, least: int = 0
) -> Callable[[Decorated], Decorated]:
    """An option that takes a whole number; 0 is its default where it is damage that is not done."""
    return click.option(
        name, metavar=metavar, type=click.IntRange(least), default=default, show_default=bool(default), help=what
    )


def _rate(name: str, what: str) -> Callable[[Decorated], Decorated]:
    return click.option(name, metavar="P", type=click.FloatRange(0, 1), default=0.0, show_default=False, help=what)


@command("damage")
@argument("source", metavar="IN", type=FILE, what="A stream, or any file; - is standard input.")
@argument("target", metavar="OUT", type=WORD, what="The damaged copy; - is standard output.")
@click.option("--seed", type=click.IntRange(0), required=True, help="The same seed does the same damage.")
@_number("--drop-tiles", "N", "Cut out N tiles.")
@click.option("--splice", metavar="FILE", type=FILE, help="Put packets of another stream in.")
@_number("--splices", "N", "How many of them.", default=1)
@_number("--splice-bytes", "BYTES", "Not packets, but runs of so many of its bytes.", default=None)
@_number("--duplicate", "N", "Let N packets or datagrams stand twice.")
@_number("--reorder", "N", "Let N packets or datagrams change places.")
@_rate("--loss", "Lose datagrams at this rate.")
@click.option(
    "--loss-channel", metavar=CHANNEL, type=float, nargs=4, help="Lose datagrams in bursts (--channel says how)."
)
@_number(
    "--mtu",
    "BYTES",
    "Size of datagrams: 1500 for losses; without it, --duplicate and --reorder take the stream's packets.",
    default=None,
    least=1,
)
@click.option("--lost", type=click.Choice(["removed", "zeroed"]), default="removed", help="What lost datagrams are.")
@_number("--delete", "BYTES", "Cut out runs of so many bytes.")
@_number("--deletes", "N", "How many such runs.", default=1)
@_number("--insert", "BYTES", "Put in runs of so many random bytes.")
@_number("--inserts", "N", "How many such runs.", default=1)
@_number("--burst", "BYTES", "Overwrite runs of so many bytes.")
@_number("--bursts", "N", "How many such runs.", default=1)
@_number("--zero-sectors", "N", "Zero N sectors.")
@_number("--sector", "BYTES", "Size of a sector.", default=512, least=1)
@_number("--flip", "N", "Flip N bits.")
@_rate("--bit-error-rate", "Flip bits at this rate.")
@click.option(
    "--channel",
    metavar=CHANNEL,
    type=float,
    nargs=4,
    help="Errors in bursts, by Gilbert and Elliott: probabilities of going from good to bad (P) and back (R), error "
    "rates in the good (G) and the bad state (B).",
)
@click.option("--channel-unit", type=click.Choice(["bits", "bytes"]), default="bits", help="What the errors are of.")
@_number("--cut-start", "BYTES", "Cut off so many at the beginning.")
@_number("--truncate", "BYTES", "Keep so many bytes.", default=None)
@force_option
def damage(
    source: Path,
    target: str,
    seed: int,
    drop_tiles: int,
    splice: Path | None,
    splices: int,
    splice_bytes: int | None,
    duplicate: int,
    reorder: int,
    loss: float,
    loss_channel: Channel | None,
    mtu: int | None,
    lost: str,
    delete: int,
    deletes: int,
    insert: int,
    inserts: int,
    burst: int,
    bursts: int,
    zero_sectors: int,
    sector: int,
    flip: int,
    bit_error_rate: float,
    channel: Channel | None,
    channel_unit: str,
    cut_start: int,
    truncate: int | None,
    force: bool,
) -> int:
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
    return FINE


def _channel(numbers: Channel) -> GilbertElliott:
    from robuststream.faults import GilbertElliott

    to_bad, to_good, error_good, error_bad = numbers
    return GilbertElliott(to_bad=to_bad, to_good=to_good, error_good=error_good, error_bad=error_bad)
