"""Whether a header is one to decode by: the size it declares, and the model it names. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robuststream.container.packets import MAX_PIXELS, Header
from robuststream.errors import DamagedStream, ImageError, ModelMismatch
from robuststream.modelstore import find_model
from robuststream.tiling import Grid

if TYPE_CHECKING:
    from robuststream.model import Model


def fitting(header: Header, model: Model | None, max_pixels: int) -> tuple[Model, Grid]:
    """The model that a header names, or this one if it is that, and the header's tiles. Raises as `decode`."""
    check_size(header.width, header.height, max_pixels)
    if model is None:
        model = find_model(header.parameters_digest, header.synthesis_digest)
    check_model(header, model)
    grid = Grid.of(header, model.latent_stride, model.factor)
    check_padded_size(grid, max_pixels)
    return model, grid


def check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"{width} x {height} pixels are more than the limit of {max_pixels}: "
            "raise it with max_pixels (--max-pixels) if you trust the source"
        )


def check_padded_size(grid: Grid, max_pixels: int) -> None:
    """A picture one pixel high is small until it is padded."""
    padded = grid.latents.scaled(grid.stride)
    check_size(padded.width, padded.height, max(max_pixels, MAX_PIXELS))


def check_model(header: Header, model: Model) -> None:
    theirs = f"the stream was encoded with model {header.model_name!r} ({header.parameters_digest.hex()})"
    if header.parameters_digest != model.parameters_digest:
        raise ModelMismatch(
            f"{theirs}, this is {model.name!r} ({model.parameters_digest.hex()}): use the one that encoded it"
        )
    if header.synthesis_digest != model.synthesis_digest:
        raise ModelMismatch(
            f"{theirs}: this model, {model.name!r}, has the same entropy networks but another synthesis transform "
            f"({model.synthesis_digest.hex()}, not {header.synthesis_digest.hex()}), so its pixels would be wrong"
        )
    if header.tile % model.factor or header.checkpoints != model.prior.checkpoints:
        raise DamagedStream(
            f"a tile of {header.tile} pixels with {header.checkpoints} checkpoints does not fit the model it names"
        )
    if header.quality >= model.qualities:
        raise DamagedStream(f"quality index {header.quality} does not fit the model it names, with {model.qualities}")
