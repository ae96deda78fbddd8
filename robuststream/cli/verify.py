"""`robuststream verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robuststream.cli.common import (
    DAMAGED,
    DEFAULT_PIXELS,
    FINE,
    HeaderFromOption,
    ModelOption,
    PixelsOption,
    check_model,
    each,
    load,
    named,
    one_line,
    passing,
    read_lender,
)
from robuststream.cli.places import check_input, check_inputs, label, read_input
from robuststream.container.reader import read_stream
from robuststream.container.report import Outcome


def verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Streams; - is standard input.")],
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode the entropy as well and compare all digests; needs the model.")
    ] = False,
    model: ModelOption = None,
    header_from: HeaderFromOption = None,
    max_pixels: PixelsOption = DEFAULT_PIXELS,
) -> None:
    """Check streams: every byte of the container, and with --decode every entropy parameter."""
    check_inputs([*files, header_from])
    ready, worst = files, FINE
    if decode:
        check_model(model)
        ready, worst = passing(files, check_input)
        if not ready:
            raise typer.Exit(worst)
    lender = read_lender(header_from)
    decoder = load(model) if decode else None

    def one(path: Path) -> int:
        data = read_input(path)
        with named(path):
            if decode:
                from robuststream import codec

                report = codec.verify(data, decoder, max_pixels=max_pixels, header_from=lender)
            else:
                report = read_stream(data, read_stream(lender) if lender else None).report
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

    raise typer.Exit(max(worst, each(ready, one)))
