"""`robuststream decode`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robuststream.cli.common import DAMAGED, FINE, check_model, each, load, named, passing, read_lender, say
from robuststream.cli.parameters import (
    WORD,
    argument,
    command,
    force_option,
    header_from_option,
    model_option,
    out_dir_option,
    pixels_option,
    stream_option,
)
from robuststream.cli.places import (
    PICTURE,
    STANDARD,
    UsageError,
    as_output,
    check_input,
    check_output,
    label,
    output_label,
    pair_up,
    read_input,
    same_place,
    write_output,
)
from robuststream.container.report import PROVEN, Outcome

if TYPE_CHECKING:
    from PIL.Image import Image

    from robuststream.container.report import StreamReport

#: Of pictures, by the name of their format; the names are extensions as well.
EXTENSIONS = {"png": ".png", "jpg": ".jpg", "jpeg": ".jpg", "webp": ".webp", "tif": ".tif", "tiff": ".tif"}


@command("decode")
@argument(
    "paths", metavar="IN... OUT", nargs=-1, required=True, type=WORD, what="Streams, and the picture; - is a pipe."
)
@out_dir_option
@model_option
@click.option(
    "--format",
    type=click.Choice(list(EXTENSIONS), case_sensitive=False),
    help="By OUT's extension, else png, without it.",
)
@click.option("--strict", is_flag=True, help="Write no picture when anything is damaged.")
@click.option(
    "--mask",
    type=WORD,
    help="Write a PNG that gives each pixel: 0 exact, 1 repaired, 2 concealed, 3 missing, 4 touched by a loss, "
    "5 unproven.",
)
@header_from_option
@stream_option
@force_option
@pixels_option
def decode(
    paths: tuple[str, ...],
    out_dir: Path | None,
    model: Path | None,
    format: str | None,
    strict: bool,
    mask: str | None,
    header_from: Path | None,
    stream: int,
    force: bool,
    max_pixels: int,
) -> int:
    """Decode streams into pictures. What is damaged is concealed, said, and ends in exit code 2."""
    extension = EXTENSIONS[format or "png"]
    if mask is not None and len(paths) - (out_dir is None) > 1:
        raise UsageError("--mask takes one input at a time")
    pairs = pair_up(paths, out_dir, extension, force, PICTURE, [model, header_from])
    kinds = {target: extension[1:] if format else _format(target) for _, target in pairs.items}
    mask_file = None if mask is None else as_output(mask)
    if mask_file is not None:
        ((source, target),) = pairs.items
        if same_place([mask_file, target]):
            raise UsageError(f"{output_label(mask_file)}: the mask would take the picture's place: name another")
        check_output(mask_file, force, PICTURE, [source, model, header_from])
    check_model(model)
    ready, worst = passing(pairs.items, lambda pair: check_input(pair[0]))
    if not ready:
        return worst
    lender = read_lender(header_from)
    pairs.make_folder()

    from robuststream import codec

    decoder = load(model)

    def one(pair: tuple[Path, Path]) -> int:
        source, target = pair
        data = read_input(source)
        with named(source):
            decoded = codec.decode(
                data, decoder, strict=strict, max_pixels=max_pixels, header_from=lender, stream=stream
            )
        write_output(target, _file(decoded.image, kinds[target], target), force)
        if mask_file is not None:
            from PIL import Image

            write_output(mask_file, _file(Image.fromarray(decoded.mask), "png", mask_file), force)
        return _verdict(source, decoded.report)

    return max(worst, each(ready, one))


def _format(target: Path) -> str:
    """What a picture is written as where --format is not given, by its extension; known before torch is imported."""
    if target == STANDARD:
        return "png"
    suffix = target.suffix.lower()
    if suffix[1:] not in EXTENSIONS:
        names = ", ".join(f".{name}" for name in EXTENSIONS)
        raise UsageError(f"{target}: {suffix or 'no extension'} names no format to write: use one of {names}")
    return suffix[1:]


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
