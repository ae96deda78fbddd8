"""encode(), decode(), verify(): pictures to streams and back."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from robuststream.checks import check_padded_size, check_size, fitting
from robuststream.concealment import fill_missing, pixel_mask
from robuststream.container.packets import (
    DEFAULT_CHECKPOINTS,
    DEFAULT_TILE,
    MAX_PARITY,
    MAX_PIXELS,
    MAX_TILE,
    MAX_Y_CHECKPOINTS,
    Header,
    Mode,
)
from robuststream.container.parity import require_raptorq
from robuststream.container.reader import Stream
from robuststream.container.repair import Restored, read_restored, restore
from robuststream.container.report import PROVEN, Finding, Outcome, Rule, StreamReport
from robuststream.container.writer import write_stream
from robuststream.errors import (
    ContextDesync,
    DamagedStream,
    DamageWarning,
    RobustStreamError,
)
from robuststream.images import read_picture, to_image
from robuststream.latents import DecodedLatents, decode_all, decode_latents, encode_all
from robuststream.model import Model
from robuststream.modelstore import load_model
from robuststream.sources import Source, read_lender, read_source
from robuststream.tiling import Grid
from robuststream.transforms import analyse, synthesise, to_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)


def encode(
    image: Any,
    model: Model | None = None,
    *,
    tile: int = DEFAULT_TILE,
    mode: str = "exact",
    quality: int | None = None,
    parity: float = 0.0,
    checkpoints: int = DEFAULT_CHECKPOINTS,
    max_pixels: int = MAX_PIXELS,
) -> bytes:
    """Encode a picture into a stream.

    Args:
        image: PIL image, path, binary file, uint8 array (H, W, 3) or (H, W), uint8 tensor (3, H, W), or float tensor
            (3, H, W) in [0, 1]; tensors on any device.
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
        max_pixels: larger pictures are refused, since decoders would refuse them.

    Returns:
        The stream; the same latents and settings give the same bytes (spec/format.md).

    Raises:
        ImageError: the picture cannot be read or is of a kind that cannot be coded.
        UnsupportedModel: exact mode for a model that has modules without an exact form.
        ImportError: parity without the package `raptorq`.
        ValueError: `tile`, `mode`, `quality`, `parity` or `checkpoints` is not possible.
    """
    return encode_batch(
        [image],
        model,
        tile=tile,
        mode=mode,
        quality=quality,
        parity=parity,
        checkpoints=checkpoints,
        max_pixels=max_pixels,
    )[0]


def encode_batch(
    images: Sequence[Any],
    model: Model | None = None,
    *,
    tile: int = DEFAULT_TILE,
    mode: str = "exact",
    quality: int | None = None,
    parity: float = 0.0,
    checkpoints: int = DEFAULT_CHECKPOINTS,
    max_pixels: int = MAX_PIXELS,
) -> list[bytes]:
    """Encode pictures into streams, one each, with their tiles coded together: faster, and in exact mode the same
    bytes as one by one. Memory for all of them at once is needed. Arguments and errors as for `encode`.
    """
    model = model or load_model()
    modes = {member.name.lower(): member for member in Mode}
    if not isinstance(mode, str) or mode not in modes:
        raise ValueError(f"mode {mode!r} is not known: use 'exact' or 'native'")
    if not isinstance(tile, int) or not 0 < tile <= MAX_TILE or tile % model.factor:
        factor = f"{model.factor}, the model's downsampling factor"
        raise ValueError(f"tile {tile} is not a positive multiple of {factor}, up to {MAX_TILE}")
    quality = model.qualities // 2 if quality is None else quality
    if not isinstance(quality, int) or not 0 <= quality < model.qualities:
        raise ValueError(f"quality {quality} is not one of the model's: 0 to {model.qualities - 1}")
    if not 0 <= parity <= MAX_PARITY:
        raise ValueError(f"parity {parity} is not between 0 and {MAX_PARITY}")
    if parity:
        require_raptorq()
    if not isinstance(checkpoints, int) or not 0 <= checkpoints <= MAX_Y_CHECKPOINTS:
        raise ValueError(f"checkpoints {checkpoints} are not 0 to {MAX_Y_CHECKPOINTS}")
    model.prior_for(modes[mode])
    headers, metadata, latents = [], [], []
    for number, image in enumerate(images):
        with _about(number, len(images)):
            picture = read_picture(image)
            height, width = picture.pixels.shape[1:]
            check_size(width, height, max_pixels)
            grid = Grid(width, height, tile, model.latent_stride, model.factor)
            check_padded_size(grid, max_pixels)
            latents.append((analyse(picture.pixels, model, grid), grid))
        metadata.append(picture.metadata)
        headers.append(
            Header(
                width=width,
                height=height,
                tile=tile,
                parameters_digest=model.parameters_digest,
                synthesis_digest=model.synthesis_digest,
                mode=modes[mode],
                colour=picture.colour,
                checkpoints=model.prior.checkpoints,
                quality=quality,
                y_checkpoints=checkpoints,
                parity=math.ceil(1000 * parity),
                model_name=model.name,
            )
        )
    coded = encode_all(latents, model, mode=modes[mode], quality=quality)
    return [write_stream(*parts) for parts in zip(headers, coded, metadata, strict=True)]


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
) -> Decoded:
    """Decode a stream, damaged or not. One or two flipped bits in a tile are put right where the decode proves it; what
    is lost is concealed. Both are said in `mask` and `report`.

    A decode whose latents are not all proven also emits a DamageWarning and a log record.

    Args:
        data: the stream: bytes, a path, or a binary file.
        model: the model that encoded it; found by the digest in the stream when None.
        strict: raise instead of concealing.
        max_pixels: larger declared pictures are refused before anything is allocated.
        header_from: another stream of the same size, tile side, model and settings, whose header is taken where every
            HEADER of this one is gone. Tiles prove that they fit it; unless all are there and the stream id proves the
            header too, they are `unproven`: size and place are the other stream's. (spec/format.md, section 10.2)

    Raises:
        NotARobustStream, UnsupportedVersion: it cannot be read at all.
        DamagedStream: no header or no tile survived, or the borrowed header does not fit; with `strict`, anything is
            wrong or missing.
        ContextDesync: with `strict`, the entropy parameters differ from the encoder's.
        ModelNotFound, ModelMismatch: no model, or the wrong one.
        ImageError: the declared picture is too large.
    """
    opened = _open(data, model, max_pixels, read_lender(header_from))
    return _picture(opened, decode_latents(*opened), strict)


def decode_batch(
    streams: Sequence[Source],
    model: Model | None = None,
    *,
    strict: bool = False,
    max_pixels: int = MAX_PIXELS,
    header_from: Source | Stream | None = None,
) -> list[Decoded]:
    """Decode streams with their tiles decoded together: faster, and with the latents that `decode` gives each.

    Arguments and errors as for `decode`; the first stream that cannot be decoded ends it.
    """
    opened = []
    lender = read_lender(header_from)
    for number, data in enumerate(streams):
        with _about(number, len(streams)):
            opened.append(_open(data, model, max_pixels, lender))
    together: dict[tuple[Model, Mode, int], list[int]] = {}
    for number, (stream, its_model, _) in enumerate(opened):
        together.setdefault((its_model, stream.header.mode, stream.header.quality), []).append(number)
    decoded: dict[int, DecodedLatents] = {}
    for (its_model, _, _), numbers in together.items():
        latents = decode_all([(opened[number][0], opened[number][2]) for number in numbers], its_model)
        decoded |= dict(zip(numbers, latents, strict=True))
    pictures = []
    for number in range(len(opened)):
        with _about(number, len(opened)):
            pictures.append(_picture(opened[number], decoded[number], strict))
    return pictures


@contextmanager
def _about(number: int, count: int) -> Iterator[None]:
    """Errors inside say which picture of a batch they are about."""
    try:
        yield
    except RobustStreamError as error:
        if count == 1:
            raise
        raise type(error)(f"picture {number}: {error}") from error


def _picture(opened: tuple[Stream, Model, Grid], decoded: DecodedLatents, strict: bool) -> Decoded:
    """From latents to pixels, saying what is lost."""
    stream, model, grid = opened
    report = decoded.report
    refuse_nothing(stream, report)
    if strict and not (report.intact and report.verified):
        raise damage(report.findings, report.findings_left_out)
    outcomes = report.outcomes()
    if not report.verified:
        lost = [index for index, outcome in outcomes.items() if outcome not in PROVEN]
        message = f"{len(lost)} of {grid.tiles} tiles are not exact ({report.findings[0]})"
        log.warning("%s", message)
        warnings.warn(message, DamageWarning, stacklevel=3)
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
) -> StreamReport:
    """Decode the entropy of every tile, compare all digests, and leave the pixels out.

    Arguments and errors as for `decode`.
    """
    opened = _open(data, model, max_pixels, read_lender(header_from))
    report = decode_latents(*opened).report
    refuse_nothing(opened[0], report)
    return report


def repair(*copies: Source, header_from: Source | Stream | None = None) -> Restored:
    """Put a damaged stream together again: from parity, and from what other damaged copies of it still have.

    Args:
        copies: one or more, each as bytes, a path or a binary file; the first HEADER says which stream is meant.
        header_from: another stream of the same series, whose header is tried where every HEADER is gone. It is taken
            only where the stream then is `whole`, which proves it.

    Returns:
        The stream, `whole` where it is what was written byte for byte, and else what is `missing`.

    Raises:
        NotARobustStream, UnsupportedVersion, DamagedStream: as `decode`; no header can be had, or none is proven.
        ImportError: parity is needed, and the package `raptorq` is not there.
        ValueError: no copy.
    """
    if not copies:
        raise ValueError("repair needs one damaged copy at least")
    return restore([read_source(data) for data in copies], read_lender(header_from))


def _open(data: Source, model: Model | None, max_pixels: int, lender: Stream | None) -> tuple[Stream, Model, Grid]:
    """Read the container, check the declared size, find the model and see that it is the right one."""
    stream = read_restored(read_source(data), lender)
    model, grid = fitting(stream.header, model, max_pixels)
    if not stream.tiles and not stream.salvaged and not stream.corrected:
        raise _nothing_left(stream)
    return stream, model, grid


def refuse_nothing(stream: Stream, report: StreamReport) -> None:
    """Bits were put right in the only tiles there are, or a header is borrowed, and no decode proves any of them."""
    borrowed = any(finding.rule == Rule.HEADER_BORROWED for finding in report.findings)
    guessed = borrowed or not (stream.tiles or stream.salvaged)
    if guessed and all(tile.outcome == Outcome.MISSING for tile in report.tiles):
        raise _nothing_left(stream)


def _nothing_left(stream: Stream) -> DamagedStream:
    return DamagedStream(f"none of the {stream.header.tiles} tiles survived ({stream.report.findings[0]})")


def damage(findings: Sequence[Finding], left_out: int = 0) -> RobustStreamError:
    """What a strict decode raises where something is wrong or missing."""
    for finding in findings:
        if finding.rule == Rule.DESYNC:
            return ContextDesync(
                f"tile {finding.tile}: the entropy parameters differ from those the encoder used, so this machine or "
                "model does not compute what the encoder's did; decode without strict to conceal the tile"
            )
    more = len(findings) + left_out - 1
    return DamagedStream(f"{findings[0]}" + (f" (and {more} more findings)" if more else ""))
