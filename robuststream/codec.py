"""encode(), decode(), verify(): pictures to streams and back."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt
from torch import Tensor

from robuststream.coding.arguments import whole_number
from robuststream.coding.batches import Batch, Failure, OnError, refuse_single, runs
from robuststream.coding.opening import open_stream, read_lender
from robuststream.coding.refusals import damage, refuse_empty, refuse_nothing
from robuststream.coding.settings import DEFAULT_MODE, DEFAULT_PARITY, Settings
from robuststream.container.packets import DEFAULT_CHECKPOINTS, DEFAULT_TILE, MAX_PIXELS, Header, Metadata, Mode, Tile
from robuststream.container.repair import Restored
from robuststream.container.report import PROVEN, StreamReport
from robuststream.container.stream import Stream
from robuststream.container.writer import write_stream
from robuststream.errors import warn_of_damage
from robuststream.files.sources import Source, read_source
from robuststream.latents import DecodedLatents, decode_all, decode_latents, encode_all
from robuststream.model.frozen import Model
from robuststream.model.store import load_model
from robuststream.picture.concealment import fill_missing, pixel_mask
from robuststream.picture.grid import Grid
from robuststream.picture.io import read_picture, to_image
from robuststream.picture.limits import check_padded_size, check_size
from robuststream.picture.transforms import analyse, synthesise, to_bytes
from robuststream.transfers.reading import restore
from robuststream.workers import ahead

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

#: Of a batch, tiles of so many latents in one channel are coded together, while the pictures before and behind them
#: are transformed: 16 tiles of 256 pixels.
TOGETHER = 16 * 16 * 16


def encode(
    image: Any,
    model: Model | None = None,
    *,
    tile: int = DEFAULT_TILE,
    mode: str = DEFAULT_MODE,
    quality: int | None = None,
    parity: float = DEFAULT_PARITY,
    checkpoints: int = DEFAULT_CHECKPOINTS,
    max_pixels: int = MAX_PIXELS,
) -> bytes:
    """Encode a picture into a stream.

    More than 8 bits a channel are rounded, and not all that a picture says beside its pixels is carried: one
    PictureWarning and one log record name what is lost.

    Args:
        image: PIL image, path, binary file, uint8 array (H, W, 3), uint8 tensor (3, H, W), or float tensor (3, H, W) in
            [0, 1], tensors on any device; of one channel, or (H, W), for grey.
        model: a frozen model; the bundled default when None.
        tile: side of a tile in pixels, a multiple of the model's downsampling factor. Smaller tiles lose less to
            damage and cost more bytes.
        mode: "exact": entropy parameters in integers, equal on every machine. "native": in float32, as CompressAI
            computes them, for models with modules that have no exact form; a decoder that computes others finds it
            out, repairs a little drift, and conceals the rest.
        quality: index of the rate, from 0, for models of variable rate (`Model.qualities`); the middle one when None.
        parity: RaptorQ repair symbols (RFC 6330), as a share of the stream's own bytes, up to 4: `decode` and `repair`
            give back what was lost, up to about so much. Describing them costs some bytes more.
        checkpoints: inside y of each tile, 0 to 15, at 2 bytes each: of a damaged tile, what stands before the last one
            that is whole is kept.
        max_pixels: larger pictures are refused, since decoders would refuse them; Pillow's own limit does not count.

    Returns:
        The stream; the same latents and settings give the same bytes (spec/format.md).

    Raises:
        ImageError: the picture cannot be read or is of a kind that cannot be coded.
        UnsupportedModel: exact mode for a model that has modules without an exact form.
        ImportError: parity without the package `raptorq`.
        ValueError: `tile`, `mode`, `quality`, `parity`, `checkpoints` or `max_pixels` is not possible, or no number.
    """
    model = model or load_model()
    settings = Settings.of(
        model, tile=tile, mode=mode, quality=quality, parity=parity, checkpoints=checkpoints, max_pixels=max_pixels
    )
    header, metadata, latents = _analysed(image, model, settings)
    (tiles,) = encode_all([latents], model, mode=settings.mode, quality=settings.quality)
    return write_stream(header, tiles, metadata)


@overload
def encode_batch(
    images: Iterable[Any],
    model: Model | None = ...,
    *,
    tile: int = ...,
    mode: str = ...,
    quality: int | None = ...,
    parity: float = ...,
    checkpoints: int = ...,
    max_pixels: int = ...,
    on_error: Literal["raise"] = ...,
) -> list[bytes]: ...


@overload
def encode_batch(
    images: Iterable[Any],
    model: Model | None = ...,
    *,
    tile: int = ...,
    mode: str = ...,
    quality: int | None = ...,
    parity: float = ...,
    checkpoints: int = ...,
    max_pixels: int = ...,
    on_error: OnError,
) -> list[bytes | Failure]: ...


def encode_batch(
    images: Iterable[Any],
    model: Model | None = None,
    *,
    tile: int = DEFAULT_TILE,
    mode: str = DEFAULT_MODE,
    quality: int | None = None,
    parity: float = DEFAULT_PARITY,
    checkpoints: int = DEFAULT_CHECKPOINTS,
    max_pixels: int = MAX_PIXELS,
    on_error: OnError = "raise",
) -> list[bytes] | list[bytes | Failure]:
    """Encode pictures into streams, one each: faster than one by one, and in exact mode the same bytes. Tiles of some
    pictures are coded together while the next are transformed.

    Other arguments and errors as for `encode`.

    Args:
        images: a list, a generator, ...; of a generator's pictures one at a time is held.
        on_error: "raise": the first picture that cannot be encoded ends it. "return": its error, a RobustStreamError or
            OSError, stands in the place of its stream, and all others are encoded.
    """
    refuse_single(images, "pictures")
    model = model or load_model()
    settings = Settings.of(
        model, tile=tile, mode=mode, quality=quality, parity=parity, checkpoints=checkpoints, max_pixels=max_pixels
    )
    batch = Batch[bytes](on_error)
    code = partial(encode_all, model=model, mode=settings.mode, quality=settings.quality)

    def coded(run: Mapping[int, _Analysed]) -> tuple[Mapping[int, _Analysed], dict[int, list[Tile]]]:
        return run, batch.together({number: item.latents for number, item in run.items()}, code)

    analysed = batch.each(images, lambda image: _analysed(image, model, settings))
    for run, coded_tiles in ahead(coded, runs(analysed, lambda item: (item.latents[1].latents.area, None), TOGETHER)):
        for number, tiles in coded_tiles.items():
            with batch.item(number):
                batch.done[number] = write_stream(run[number].header, tiles, run[number].metadata)
    return batch.results()


class _Analysed(NamedTuple):
    """A picture whose entropy is to be coded."""

    header: Header
    metadata: Metadata
    latents: tuple[Tensor, Grid]


def _analysed(image: Any, model: Model, settings: Settings) -> _Analysed:
    picture = read_picture(image, settings.max_pixels)
    height, width = picture.pixels.shape[1:]
    check_size(width, height, settings.max_pixels)
    grid = Grid(width, height, settings.tile, model.latent_stride, model.factor)
    check_padded_size(grid, settings.max_pixels)
    header = Header(
        width=width,
        height=height,
        tile=settings.tile,
        parameters_digest=model.parameters_digest,
        synthesis_digest=model.synthesis_digest,
        mode=settings.mode,
        colour=picture.colour,
        z_checkpoint=model.prior.has_z,
        quality=settings.quality,
        checkpoints=settings.checkpoints,
        parity=settings.parity,
        model_name=model.name,
    )
    return _Analysed(header, picture.metadata, (analyse(picture.pixels, model, grid), grid))


@dataclass(frozen=True)
class Decoded:
    """A decoded picture, and the truth about it.

    Attributes:
        image: PIL image, RGB or L, with ICC, EXIF and XMP in its `info`.
        tensor: float32 (3, H, W) in [0, 1], before rounding to 8 bits.
        latents: int32 (M, h, w) at 2^-12, of the padded picture: where the mask says so, equal on every machine.
        mask: uint8 (H, W): 0 exact (native mode: verified), 1 repaired, 2 concealed from z, 3 missing, 4 touched by a
            neighbour's loss, 5 decoded but unproven, since header and tiles contradict each other or the header is not
            confirmed.
        report: findings, and each tile's state and outcome.
    """

    image: Image
    tensor: Tensor
    latents: Tensor
    mask: npt.NDArray[np.uint8]
    report: StreamReport


def decode(
    data: Source,
    model: Model | None = None,
    *,
    strict: bool = False,
    max_pixels: int = MAX_PIXELS,
    header_from: Source | Stream | None = None,
    stream: int = 0,
) -> Decoded:
    """Decode a stream, damaged or not. One or two flipped bits in a tile are put right where the decode proves it; what
    is lost is concealed. Both are said in `mask` and `report`.

    A decode whose latents are not all proven also emits a DamageWarning and a log record.

    Args:
        data: the stream: a path, bytes or anything else with the buffer protocol, a uint8 tensor (N,), or a binary
            file from where it stands.
        model: the model that encoded it; found by the digest in the stream when None.
        strict: raise instead of concealing.
        max_pixels: larger declared pictures are refused before anything is allocated.
        header_from: another stream of the same size, tile side, model and settings, whose header is taken where every
            HEADER of this one is gone. Tiles prove that they fit it; unless all are there and the stream id proves the
            header too, they are `unproven`: size and place are the other stream's. (spec/format.md, section 10.2)
        stream: which one, where `data` holds several that have a header: 0 is the first, as `read_streams` lists them.

    Raises:
        OSError: the path or file cannot be read. TypeError: `data` is no source.
        NotARobustStream, UnsupportedVersion: it is no stream of this format.
        DamagedStream: no header or no tile survived, or the borrowed header does not fit; with `strict`, anything is
            wrong or missing.
        ContextDesync: with `strict`, the entropy parameters differ from the encoder's.
        ModelNotFound, ModelMismatch: no model, or the wrong one.
        ImageError: the declared picture is too large.
        StreamNotFound: there are not so many streams.
    """
    opened = open_stream(data, model, whole_number("max_pixels", max_pixels), read_lender(header_from), stream)
    return decode_stream(*opened, strict)


def decode_stream(stream: Stream, model: Model, grid: Grid, strict: bool) -> Decoded:
    """As `decode`, of what the container's reader found; its declared size and model are checked."""
    refuse_empty(stream)
    return _picture(stream, decode_latents(stream, model, grid), model, grid, strict)


@overload
def decode_batch(
    streams: Iterable[Source],
    model: Model | None = ...,
    *,
    strict: bool = ...,
    max_pixels: int = ...,
    header_from: Source | Stream | None = ...,
    on_error: Literal["raise"] = ...,
) -> list[Decoded]: ...


@overload
def decode_batch(
    streams: Iterable[Source],
    model: Model | None = ...,
    *,
    strict: bool = ...,
    max_pixels: int = ...,
    header_from: Source | Stream | None = ...,
    on_error: OnError,
) -> list[Decoded | Failure]: ...


def decode_batch(
    streams: Iterable[Source],
    model: Model | None = None,
    *,
    strict: bool = False,
    max_pixels: int = MAX_PIXELS,
    header_from: Source | Stream | None = None,
    on_error: OnError = "raise",
) -> list[Decoded] | list[Decoded | Failure]:
    """Decode streams: faster than one by one, and with the latents that `decode` gives each. Tiles of some streams
    are decoded together while pixels are made of those before.

    Other arguments and errors as for `decode`.

    Args:
        streams: a list, a generator, ...
        on_error: "raise": the first stream that cannot be decoded ends it. "return": its error, a RobustStreamError or
            OSError, stands in the place of its picture, and all others are decoded.
    """
    refuse_single(streams, "streams")
    max_pixels = whole_number("max_pixels", max_pixels)
    batch = Batch[Decoded](on_error)
    lender = read_lender(header_from)

    def decoded(run: Mapping[int, _Opened]) -> tuple[Mapping[int, _Opened], dict[int, DecodedLatents]]:
        ((its_model, *_),) = {_size_and_kind(opened)[1] for opened in run.values()}
        parts = {number: (stream, grid) for number, (stream, _, grid) in run.items()}
        return run, batch.together(parts, partial(decode_all, model=its_model))

    opened = batch.each(streams, lambda data: open_stream(data, model, max_pixels, lender))
    for run, latents in ahead(decoded, runs(opened, _size_and_kind, TOGETHER)):
        for number, part in latents.items():
            with batch.item(number):
                stream, its_model, grid = run[number]
                batch.done[number] = _picture(stream, part, its_model, grid, strict)
    return batch.results()


_Opened = tuple[Stream, Model, Grid]


def _size_and_kind(opened: _Opened) -> tuple[int, tuple[Model, Mode, int]]:
    """Streams of one kind can be decoded together."""
    stream, model, grid = opened
    return grid.latents.area, (model, stream.header.mode, stream.header.quality)


def _picture(stream: Stream, decoded: DecodedLatents, model: Model, grid: Grid, strict: bool) -> Decoded:
    """From latents to pixels, saying what is lost."""
    report = decoded.report
    refuse_nothing(stream, report)
    if strict and not (report.intact and report.verified):
        raise damage(report.findings, report.findings_left_out)
    outcomes = report.outcomes()
    if not report.verified:
        lost = [index for index, outcome in outcomes.items() if outcome not in PROVEN]
        message = f"{len(lost)} of {grid.tiles} tiles are not exact ({report.findings[0]})"
        log.warning("%s", message)
        warn_of_damage(message)
    fill_missing(decoded.latents, grid, outcomes)
    tensor = synthesise(decoded.latents, model, grid)
    pixels = to_bytes(tensor)
    return Decoded(
        image=to_image(pixels, stream.header.colour, stream.metadata),
        tensor=tensor,
        latents=decoded.latents,
        mask=pixel_mask(grid, outcomes, model.synthesis.network),
        report=report,
    )


def verify(
    data: Source,
    model: Model | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    header_from: Source | Stream | None = None,
    stream: int = 0,
) -> StreamReport:
    """Decode the entropy of every tile, compare all digests, and leave the pixels out.

    Arguments and errors as for `decode`.
    """
    opened = open_stream(data, model, whole_number("max_pixels", max_pixels), read_lender(header_from), stream)
    report = decode_latents(*opened).report
    refuse_nothing(opened[0], report)
    return report


def repair(*copies: Source, header_from: Source | Stream | None = None) -> Restored:
    """Put a damaged stream together again: from parity, and from what other damaged copies of it still have.

    Args:
        copies: one or more, each as `decode` takes it; the first HEADER says which stream is meant.
        header_from: another stream of the same series, whose header is tried where every HEADER is gone. It is taken
            only where the stream then is `whole`, which proves it.

    Returns:
        The stream, `whole` where it is what was written byte for byte, and else what is `missing`.

    Raises:
        OSError, TypeError, NotARobustStream, UnsupportedVersion: as `decode`.
        DamagedStream: no header can be had, or none is proven.
        ImportError: parity is needed, and the package `raptorq` is not there.
        ValueError: no copy.
    """
    if not copies:
        raise ValueError("repair needs one damaged copy at least")
    return restore([read_source(data) for data in copies], read_lender(header_from))
