"""`robuststream encode`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from robuststream.cli.common import (
    DEFAULT_PIXELS,
    FINE,
    ForceOption,
    ModelOption,
    OutDirOption,
    PixelsOption,
    check_model,
    each,
    named,
    passing,
    require_parity,
)
from robuststream.cli.places import STANDARD, STREAM, UsageError, check_input, pair_up, read_input, write_output
from robuststream.container.packets import MAX_PARITY, MAX_TILE, MAX_Y_CHECKPOINTS


def encode(
    paths: Annotated[list[str], typer.Argument(metavar="IN... OUT", help="Pictures, and the stream; - is a pipe.")],
    out_dir: OutDirOption = None,
    tile: Annotated[int, typer.Option(help="Side of a tile in pixels; smaller ones lose less and cost more.")] = 256,
    mode: Annotated[
        str, typer.Option(help="exact: the same latents everywhere. native: entropy parameters in float32, checked.")
    ] = "exact",
    quality: Annotated[
        int | None, typer.Option(help="Index of the rate, from 0, for models of variable rate; the middle one.")
    ] = None,
    parity: Annotated[
        float, typer.Option(help="Repair symbols as a share of the stream, such as 0.1; needs robuststream[parity].")
    ] = 0.0,
    checkpoints: Annotated[
        int, typer.Option(help="Inside y of each tile, 0 to 15: a damaged tile keeps what stands before them.")
    ] = 3,
    model: ModelOption = None,
    force: ForceOption = False,
    max_pixels: PixelsOption = DEFAULT_PIXELS,
) -> None:
    """Encode pictures (PNG, JPEG, WebP, TIFF, ...) into streams."""
    if mode not in ("exact", "native"):
        raise UsageError(f"--mode {mode} is not known: use exact or native")
    if not 0 <= parity <= MAX_PARITY:
        raise UsageError(f"--parity {parity} is not between 0 and {MAX_PARITY}")
    if parity:
        require_parity()
    if not 0 <= checkpoints <= MAX_Y_CHECKPOINTS:
        raise UsageError(f"--checkpoints {checkpoints} is not between 0 and {MAX_Y_CHECKPOINTS}")
    pairs = pair_up(paths, out_dir, STREAM.suffixes[0], force, STREAM, [model])
    check_model(model)
    ready, worst = passing(pairs.items, lambda pair: check_input(pair[0]))
    if not ready:
        raise typer.Exit(worst)
    pairs.make_folder()

    from robuststream.codec import encode as encode_picture
    from robuststream.modelstore import load_model

    coder = load_model(model)
    if not 0 < tile <= MAX_TILE or tile % coder.factor:
        factor = f"{coder.factor}, the model's downsampling factor"
        raise UsageError(f"--tile {tile} is not a positive multiple of {factor}, up to {MAX_TILE}")

    if quality is not None and not 0 <= quality < coder.qualities:
        raise UsageError(f"--quality {quality} is not one of the model's: 0 to {coder.qualities - 1}")

    def one(pair: tuple[Path, Path]) -> int:
        source, target = pair
        with named(source), _pillows_limit(max_pixels):
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

    raise typer.Exit(max(worst, each(ready, one)))


@contextlib.contextmanager
def _pillows_limit(pixels: int) -> Iterator[None]:
    """Pillow has a limit of its own, at twice the number it begins to warn at: here it is the one asked for."""
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = -(-pixels // 2)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
