"""From a source to a stream that can be decoded: its header is one to decode by, or one is lent. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robuststream.coding.arguments import whole_number
from robuststream.coding.refusals import refuse_empty
from robuststream.container.packets import Header
from robuststream.container.stream import Stream
from robuststream.errors import DamagedStream, ModelMismatch, RobustStreamError
from robuststream.files.sources import Source, read_source
from robuststream.model.store import find_model
from robuststream.picture.grid import Grid
from robuststream.picture.limits import check_padded_size, check_size
from robuststream.transfers.reading import read_restored, read_stream

if TYPE_CHECKING:
    from robuststream.model.frozen import Model


def open_stream(
    data: Source, model: Model | None, max_pixels: int, lender: Stream | None, number: int = 0
) -> tuple[Stream, Model, Grid]:
    """Read the container, check the declared size, find the model and see that it is the right one."""
    stream = read_restored(read_source(data), lender, whole_number("stream", number))
    model, grid = fitting(stream.header, model, max_pixels)
    refuse_empty(stream)
    return stream, model, grid


def read_lender(header_from: Source | Stream | None) -> Stream | None:
    """The stream whose header may be borrowed, read unless it is already. Raises OSError, TypeError and
    RobustStreamError."""
    if header_from is None or isinstance(header_from, Stream):
        return header_from
    try:
        return read_stream(read_source(header_from))
    except RobustStreamError as error:
        raise type(error)(f"there is no header to borrow: {error}") from error


def fitting(header: Header, model: Model | None, max_pixels: int) -> tuple[Model, Grid]:
    """The model that a header names, or this one if it is that, and the header's tiles. Raises as `decode`."""
    check_size(header.width, header.height, max_pixels)
    if model is None:
        model = find_model(header.parameters_digest, header.synthesis_digest)
    check_model(header, model)
    grid = Grid.of(header, model.latent_stride, model.factor)
    check_padded_size(grid, max_pixels)
    return model, grid


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
    if header.tile % model.factor or header.z_checkpoint != model.prior.has_z:
        after_z = "a" if header.z_checkpoint else "no"
        raise DamagedStream(
            f"a tile of {header.tile} pixels with {after_z} checkpoint after z does not fit the model it names"
        )
    if header.quality >= model.qualities:
        raise DamagedStream(f"quality index {header.quality} does not fit the model it names, with {model.qualities}")
