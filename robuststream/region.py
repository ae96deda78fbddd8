"""Opens a stream without reading all of it, and decodes regions of its picture (spec/format.md, section 7).

A stream is opened once and asked for many regions, so these are two calls: what stands before the tiles is read and
checked when it is opened, and each region then costs its tiles. torch is imported by the first decode.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, overload

from robuststream.checks import check_size, fitting
from robuststream.container.access import read_front, read_tiles
from robuststream.container.packets import MAX_PIXELS, Colour, Header, Metadata
from robuststream.container.reader import read_restored
from robuststream.container.report import PROVEN, Finding, Outcome, StreamReport, TileReport
from robuststream.container.stream import Stream
from robuststream.errors import DamageWarning
from robuststream.sources import Source, read_lender, read_source
from robuststream.tiling import Box, Grid

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image
    from torch import Tensor

    from robuststream.codec import Decoded
    from robuststream.latents import DecodedLatents
    from robuststream.model import Model

#: left, top, right, bottom in pixels, as Pillow's `Image.crop` has them: right and bottom stand outside.
Region = tuple[int, int, int, int]


def open(
    source: Source, model: Model | None = None, *, max_pixels: int = MAX_PIXELS, header_from: Source | None = None
) -> StreamFile:
    """Open a stream to look at it, or to decode regions of it, without reading all of it; imports no torch.

        with robuststream.open("large.robs") as stream:
            out = stream.decode(region=(left, top, right, bottom))

    Args:
        source: the stream: a path, a binary file (from where it stands; best one that can seek), or bytes.
        model: the model that encoded it; found by the digest in the stream, at the first decode, when None.
        max_pixels: larger declared pictures are refused.
        header_from: another stream of the same series, as `robuststream.decode` takes it.

    Raises:
        OSError: it cannot be read.
        NotARobustStream, UnsupportedVersion, DamagedStream: no header can be read, or the borrowed one does not fit.
        ImageError: the declared picture is too large.
    """
    return StreamFile(source, model, max_pixels, None if header_from is None else read_source(header_from))


class StreamFile:
    """An open stream; made by `robuststream.open`. A context manager: what it opened it closes.

    Only HEADER, METADATA and INDEX are read at first. Where these are damaged the whole file is read at once, and what
    `decode` could use of it counts.

    Attributes:
        size: width and height in pixels.
        mode: of the decoded image, as Pillow names it: "RGB" or "L".
        header: everything else the stream says of itself: tile side, digests, model name, ...
        stream_id: 8 hexadecimal digits.
        metadata: ICC profile, EXIF and XMP, byte for byte.
    """

    def __init__(self, source: Source, model: Model | None, max_pixels: int, header_from: bytes | None) -> None:
        self._file, self._own = _opened(source)
        try:
            self._begin = self._file.tell()
            self._model = model
            self._header_from = header_from
            self._lender = read_lender(header_from)
            self._max_pixels = max_pixels
            self._front = read_front(self._read)
            stream = self._front.stream if self._front else self._whole
            self.header: Header = stream.header
            self.stream_id: str = stream.stream_id.hex()
            self.metadata: Metadata = stream.metadata
            check_size(self.header.width, self.header.height, max_pixels)
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> tuple[int, int]:
        return self.header.width, self.header.height

    @property
    def mode(self) -> str:
        return "L" if self.header.colour == Colour.GREY else "RGB"

    @overload
    def decode(self, region: None = None, *, strict: bool = False) -> Decoded: ...

    @overload
    def decode(self, region: Region, *, strict: bool = False) -> DecodedRegion: ...

    def decode(self, region: Region | None = None, *, strict: bool = False) -> Decoded | DecodedRegion:
        """Decode a region, or without one the whole picture, as `robuststream.decode` does.

        Of the file only those tiles are read that the region's pixels hang on, through the synthesis transform's
        reach. Where one of them, or what stands before the tiles, is not intact, all of the file is read instead; then
        parity, corrected bits and concealment give what they give a whole decode.

        So the latents are always those of a whole decode, the pixels within 1/255 of its. Only what was not read cannot
        speak against the region: see `RegionReport`.

        Args:
            region: left, top, right, bottom in pixels, right and bottom outside; inside the picture, and not empty.
            strict: raise where a tile of the region is not proven, or without a region where anything is wrong.

        Raises:
            ValueError: no such region.
            DamagedStream: no tile survived; with `strict`, damage.
            ContextDesync: with `strict`, the entropy parameters differ from the encoder's.
            ModelNotFound, ModelMismatch: no model, or the wrong one.
            OSError: the file cannot be read.
        """
        from robuststream import codec

        if region is None:
            return codec.decode(
                self._bytes(), self._model, strict=strict, max_pixels=self._max_pixels, header_from=self._header_from
            )
        out = self._decoded(self._box(region))
        if not out.report.verified:
            if strict:
                raise codec.damage(out.report.findings)
            lost = [tile for tile in out.report.tiles if tile.outcome not in PROVEN]
            count = f"{len(lost)} of the {len(out.report.tiles)} tiles of the region"
            warnings.warn(f"{count} are not exact ({out.report.findings[0]})", DamageWarning, stacklevel=2)
        return out

    def close(self) -> None:
        """Close the file, if it was opened by its path."""
        if self._own:
            self._file.close()

    def __enter__(self) -> StreamFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        width, height = self.size
        return f"<StreamFile {self.stream_id}, {width} x {height}, {self.mode}>"

    def _box(self, region: Region) -> Box:
        left, top, right, bottom = region
        width, height = self.size
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(f"region {tuple(region)} is empty or not inside {width} x {height} pixels")
        return Box(top, left, bottom, right)

    def _decoded(self, pixels: Box) -> DecodedRegion:
        from robuststream.concealment import pixel_mask
        from robuststream.picture.io import to_image
        from robuststream.transforms import synthesise, to_bytes
        from robuststream.windows import latents_below

        model, grid = fitting(self.header, self._model, self._max_pixels)
        network = model.synthesis.network
        part = latents_below(network, pixels, grid.latents)
        decoded, container = self._latents(model, grid, part)
        # The part as a picture of its own: wrong at its edges, where it is not the picture's, and right in the region.
        alone = Grid(part.width * grid.stride, part.height * grid.stride, grid.tile, grid.stride, grid.stride)
        inside = pixels.relative_to(part.scaled(grid.stride))
        tensor = synthesise(decoded.latents, model, alone)[(slice(None), *inside.slices())].clone()
        under = Box(
            pixels.top // grid.stride,
            pixels.left // grid.stride,
            -(-pixels.bottom // grid.stride),
            -(-pixels.right // grid.stride),
        )
        tiles = set(grid.tiles_of(part))
        return DecodedRegion(
            image=to_image(to_bytes(tensor), self.header.colour, self.metadata),
            tensor=tensor,
            latents=decoded.latents[(slice(None), *under.relative_to(part).slices())].clone(),
            mask=pixel_mask(grid, decoded.report.outcomes(), network, pixels),
            report=RegionReport(
                header=self.header,
                stream_id=self.stream_id,
                tiles=tuple(tile for tile in decoded.report.tiles if tile.index in tiles),
                findings=decoded.report.findings,
                container=container,
            ),
        )

    # --- Reading ----------------------------------------------------------------------------------------------------

    def _read(self, start: int, size: int) -> bytes:
        self._file.seek(self._begin + start)
        return self._file.read(size)

    def _bytes(self) -> bytes:
        return self._read(0, -1)

    @cached_property
    def _whole(self) -> Stream:
        return read_restored(self._bytes(), self._lender)

    def _streams(self, tiles: Collection[int]) -> Iterator[tuple[Stream, bool]]:
        """What these tiles may be decoded from, and whether that is the whole file: the least that may do first."""
        if self._front is not None and len(tiles) < self.header.tiles:
            stream = read_tiles(self._front, self._read, tiles)
            if stream is not None:
                yield stream, False
        yield self._whole, True

    # --- Latents ----------------------------------------------------------------------------------------------------

    def _latents(self, model: Model, grid: Grid, part: Box) -> tuple[DecodedLatents, StreamReport | None]:
        """A part of the latents, and the whole file's report where all of it was read."""
        from robuststream.latents import DecodedLatents, decode_latents

        for stream, whole in self._streams(grid.tiles_of(part)):
            if not stream.candidates:
                decoded = decode_latents(stream, model, grid, part=part)
                if all(tile.outcome != Outcome.MISSING for tile in decoded.report.tiles):
                    return decoded, stream.report if whole else None
        # What is put in a missing tile's place hangs on all others.
        filled = self._filled
        return DecodedLatents(filled.latents[(slice(None), *part.slices())], filled.report), self._whole.report

    @cached_property
    def _filled(self) -> DecodedLatents:
        """All latents, with what `decode` puts in the place of missing ones."""
        from robuststream import codec
        from robuststream.concealment import fill_missing
        from robuststream.latents import decode_latents

        model, grid = fitting(self.header, self._model, self._max_pixels)
        decoded = decode_latents(self._whole, model, grid)
        codec.refuse_nothing(self._whole, decoded.report)
        fill_missing(decoded.latents, grid, decoded.report.outcomes())
        return decoded


@dataclass(frozen=True)
class RegionReport:
    """What is known of a region of a picture.

    A tile proves itself: its CRCs, its rANS string's end and its context digest make it exact, as they do in a damaged
    file. What a region does not prove is what takes all tiles, or all of the file: that header and tiles hash to the
    stream id, and that no packet elsewhere contradicts those that were read. `robuststream.verify` sees to that.

    Attributes:
        header: the header that counted.
        stream_id: 8 hexadecimal digits.
        tiles: those that the region's pixels hang on, with state and outcome; nothing is said of others.
        findings: faults, in these tiles or, where all of the file was read, anywhere in it.
        container: the whole file's report, as `robuststream.inspect` gives it, where all of it had to be read; else
            None: then nothing that was read is damaged.
    """

    header: Header
    stream_id: str
    tiles: tuple[TileReport, ...]
    findings: tuple[Finding, ...]
    container: StreamReport | None

    @property
    def exact(self) -> bool:
        """Each of the region's tiles was decoded from the bytes that were written, to the encoder's latents."""
        return all(tile.outcome == Outcome.EXACT for tile in self.tiles)

    @property
    def verified(self) -> bool:
        """The symbols of each of the region's tiles are proven to be the encoder's: `StreamReport.verified`."""
        return all(tile.outcome in PROVEN for tile in self.tiles)


@dataclass(frozen=True)
class DecodedRegion:
    """A decoded region, and the truth about it; h and w are its sides in pixels.

    Attributes:
        image: PIL image, RGB or L, with ICC, EXIF and XMP in its `info`.
        tensor: float32 (3, h, w) in [0, 1], before rounding to 8 bits.
        latents: int32 (M, rows, columns) at 2^-12, those of the whole picture that lie under the region: with s pixels
            a latent, rows top // s up to ceil(bottom / s), and columns likewise.
        mask: uint8 (h, w), as in `Decoded`.
        report: findings, and the state and outcome of each tile that the region hangs on.
    """

    image: Image
    tensor: Tensor
    latents: Tensor
    mask: npt.NDArray[np.uint8]
    report: RegionReport


def _opened(source: Source) -> tuple[IO[bytes], bool]:
    """A file that can seek, and whether it is ours to close."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source), False
    if isinstance(source, (str, os.PathLike)):
        # Unbuffered: a buffer would read on behind each tile.
        file: IO[bytes] = Path(source).open("rb", buffering=0)  # noqa: SIM115
        if file.seekable():
            return file, True
        with file:
            return io.BytesIO(file.read()), False
    return (source, False) if source.seekable() else (io.BytesIO(source.read()), False)
