"""`robuststream encode`."""

from __future__ import annotations

from pathlib import Path

import click

from robuststream.cli.common import FINE, check_model, each, named, passing, require_parity
from robuststream.cli.parameters import (
    WORD,
    argument,
    command,
    force_option,
    model_option,
    out_dir_option,
    pixels_option,
)
from robuststream.cli.places import STANDARD, STREAM, UsageError, check_input, pair_up, read_input, write_output
from robuststream.coding.settings import DEFAULT_MODE, DEFAULT_PARITY, MODES
from robuststream.container.packets import (
    DEFAULT_CHECKPOINTS,
    DEFAULT_TILE,
    MAX_CHECKPOINTS,
    MAX_PARITY,
    MAX_TILE,
)


@command("encode")
@argument(
    "paths", metavar="IN... OUT", nargs=-1, required=True, type=WORD, what="Pictures, and the stream; - is a pipe."
)
@out_dir_option
@click.option("--tile", default=DEFAULT_TILE, help="Side of a tile in pixels; smaller ones lose less and cost more.")
@click.option(
    "--mode",
    type=click.Choice(list(MODES)),
    default=DEFAULT_MODE,
    help="exact: the same latents everywhere. native: entropy parameters in float32, checked.",
)
@click.option("--quality", type=int, help="Index of the rate, from 0, for models of variable rate; the middle one.")
@click.option(
    "--parity",
    default=DEFAULT_PARITY,
    help="Repair symbols as a share of the stream, such as 0.1; needs robuststream[parity].",
)
@click.option(
    "--checkpoints",
    type=click.IntRange(0, MAX_CHECKPOINTS),
    default=DEFAULT_CHECKPOINTS,
    help="Inside y of each tile: a damaged tile keeps what stands before them.",
)
@model_option
@force_option
@pixels_option
def encode(
    paths: tuple[str, ...],
    out_dir: Path | None,
    tile: int,
    mode: str,
    quality: int | None,
    parity: float,
    checkpoints: int,
    model: Path | None,
    force: bool,
    max_pixels: int,
) -> int:
    """Encode pictures (PNG, JPEG, WebP, TIFF, ...) into streams."""
    if not 0 <= parity <= MAX_PARITY:
        raise UsageError(f"--parity {parity} is not between 0 and {MAX_PARITY}")
    if parity:
        require_parity()
    pairs = pair_up(paths, out_dir, STREAM.suffixes[0], force, STREAM, [model])
    check_model(model)
    ready, worst = passing(pairs.items, lambda pair: check_input(pair[0]))
    if not ready:
        return worst
    pairs.make_folder()

    from robuststream.codec import encode as encode_picture
    from robuststream.model.store import load_model

    coder = load_model(model)
    if not 0 < tile <= MAX_TILE or tile % coder.factor:
        factor = f"{coder.factor}, the model's downsampling factor"
        raise UsageError(f"--tile {tile} is not a positive multiple of {factor}, up to {MAX_TILE}")

    if quality is not None and not 0 <= quality < coder.qualities:
        raise UsageError(f"--quality {quality} is not one of the model's: 0 to {coder.qualities - 1}")

    def one(pair: tuple[Path, Path]) -> int:
        source, target = pair
        with named(source):
            picture = read_input(source) if source == STANDARD else source
            data = encode_picture(
                picture,
                coder,
                tile=tile,
                mode=mode,
                quality=quality,
                parity=parity,
                checkpoints=checkpoints,
                max_pixels=max_pixels,
            )
        write_output(target, data, force)
        return FINE

    return max(worst, each(ready, one))
