"""`robuststream verify`."""

from __future__ import annotations

from pathlib import Path

import click

from robuststream.cli.common import (
    DAMAGED,
    FINE,
    check_model,
    each,
    load,
    named,
    one_line,
    passing,
    read_lender,
)
from robuststream.cli.parameters import (
    FILE,
    argument,
    command,
    header_from_option,
    model_option,
    pixels_option,
    stream_option,
)
from robuststream.cli.places import check_input, check_inputs, label, read_input
from robuststream.container.report import Outcome
from robuststream.transfers.reading import read_stream


@command("verify")
@argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE, what="Streams; - is standard input.")
@click.option("--decode", is_flag=True, help="Decode the entropy as well and compare all digests; needs the model.")
@model_option
@header_from_option
@stream_option
@pixels_option
def verify(
    files: tuple[Path, ...],
    decode: bool,
    model: Path | None,
    header_from: Path | None,
    stream: int,
    max_pixels: int,
) -> int:
    """Check streams: every byte of the container, and with --decode every entropy parameter."""
    check_inputs([*files, header_from])
    ready, worst = list(files), FINE
    if decode:
        check_model(model)
        ready, worst = passing(files, check_input)
        if not ready:
            return worst
    lender = read_lender(header_from)
    decoder = load(model) if decode else None

    def one(path: Path) -> int:
        data = read_input(path)
        with named(path):
            if decode:
                from robuststream import codec

                report = codec.verify(data, decoder, max_pixels=max_pixels, header_from=lender, stream=stream)
            else:
                report = read_stream(data, lender, stream).report
        good = report.intact and (report.verified or not decode)
        what = f"every tile is {report.header.mode.proof}" if decode else "the container is whole"
        findings = len(report.findings) + report.findings_left_out
        verdict = f"ok, {what}" if good else f"damaged, {findings} finding{'s' * (findings != 1)}"
        repaired = sum(tile.outcome == Outcome.REPAIRED for tile in report.tiles)
        verdict += f", {repaired} of its tiles repaired" if repaired else ""
        print(f"{one_line(label(path))}: {verdict} ({report.header.tiles} tiles, {report.file_bytes} bytes)")
        for finding in report.findings:
            print(f"  {one_line(str(finding))}")
        if report.findings_left_out:
            print(f"  and {report.findings_left_out} more")
        return FINE if good else DAMAGED

    return max(worst, each(ready, one))
