"""`robuststream decode`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robuststream.cli.common import (
    DAMAGED,
    DEFAULT_PIXELS,
    FINE,
    STANDARD,
    ForceOption,
    HeaderFromOption,
    ModelOption,
    OutDirOption,
    PixelsOption,
    UsageError,
    check_output,
    each,
    label,
    load,
    named,
    pair_up,
    read_input,
    read_lender,
    say,
    write_output,
)
from robuststream.container.report import PROVEN, Outcome

if TYPE_CHECKING:
    from PIL.Image import Image

    from robuststream.container.report import StreamReport

EXTENSIONS = {"png": ".png", "jpg": ".jpg", "jpeg": ".jpg", "webp": ".webp", "tif": ".tif", "tiff": ".tif"}


def decode(
    paths: Annotated[list[Path], typer.Argument(metavar="IN... OUT", help="Streams, and the picture; - is a pipe.")],
    out_dir: OutDirOption = None,
    model: ModelOption = None,
    format: Annotated[
        str | None, typer.Option(help="png, jpeg, webp or tiff; by OUT's extension, else png, without it.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Write no picture when anything is damaged.")] = False,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Write a PNG that gives each pixel: 0 exact, 1 repaired, 2 concealed, 3 missing, 4 touched by a loss, "
            "5 unproven."
        ),
    ] = None,
    header_from: HeaderFromOption = None,
    force: ForceOption = False,
    max_pixels: PixelsOption = DEFAULT_PIXELS,
) -> None:
    """Decode streams into pictures. What is damaged is concealed, said, and ends in exit code 2."""
    if format is not None and format.lower() not in EXTENSIONS:
        raise UsageError(f"--format {format} is not one of png, jpeg, webp, tiff")
    extension = EXTENSIONS[format.lower() if format else "png"]
    if mask is not None:
        if len(paths) - (out_dir is None) > 1:
            raise UsageError("--mask takes one input at a time")
        check_output(mask, force)
    pairs = pair_up(paths, out_dir, extension, force)
    if mask is not None:
        _check_mask(mask, pairs[0][1])

    from robuststream import codec
    from robuststream.picture.io import picture_format

    kinds = {target: extension[1:] if format or target == STANDARD else picture_format(target) for _, target in pairs}
    decoder = load(model)
    lender = read_lender(header_from)

    def one(pair: tuple[Path, Path]) -> int:
        source, target = pair
        data = read_input(source)
        with named(source):
            decoded = codec.decode(data, decoder, strict=strict, max_pixels=max_pixels, header_from=lender)
        write_output(target, _file(decoded.image, kinds[target], target))
        if mask is not None:
            from PIL import Image

            write_output(mask, _file(Image.fromarray(decoded.mask), "png", mask))
        return _verdict(source, decoded.report)

    raise typer.Exit(each(pairs, one))


def _check_mask(mask: Path, target: Path) -> None:
    """The mask must not take the picture's place, and its folder must be there before any work is done."""
    if mask == target or (mask != STANDARD and target != STANDARD and mask.resolve() == target.resolve()):
        raise UsageError(f"{label(mask)}: the mask would take the picture's place: give it a name of its own")
    if mask != STANDARD and not mask.resolve().parent.is_dir():
        raise UsageError(f"{mask}: its folder does not exist")


def _file(image: Image, kind: str, target: Path) -> bytes:
    from robuststream.picture.io import write_picture

    file = io.BytesIO()
    file.name = "the picture" if target == STANDARD else str(target)
    write_picture(image, file, kind)
    return file.getvalue()


def _verdict(source: Path, report: StreamReport) -> int:
    if report.intact and report.verified:
        return FINE
    lost = report.header.tiles - sum(tile.outcome in PROVEN for tile in report.tiles)
    word = report.header.mode.proof
    repaired = sum(tile.outcome == Outcome.REPAIRED for tile in report.tiles)
    word += f" or repaired ({repaired})" if repaired else ""
    tiles = f"{lost} of {report.header.tiles} tiles are not {word}" if lost else f"damaged, but all tiles are {word}"
    first = f": {report.findings[0]}" if report.findings else ""
    more = len(report.findings) + report.findings_left_out - 1
    say("warning", f"{label(source)}: {tiles}{first}" + (f" (and {more} more)" if more > 0 else ""))
    return DAMAGED
