"""Opens a stream without reading all of it, and decodes regions of its picture (spec/format.md, section 7).

A stream is opened once and asked for many regions, so these are two calls: what stands before the tiles is read and
checked when it is opened, and each region then costs its tiles. torch is imported by the first decode.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, overload

from robuststream.coding.arguments import whole_number
from robuststream.coding.opening import fitting, read_lender
from robuststream.coding.refusals import damage, refuse_nothing
from robuststream.container.access import read_front, read_tiles
from robuststream.container.packets import MAX_PIXELS, Colour, Header, Metadata
from robuststream.container.report import PROVEN, Finding, Outcome, StreamReport, TileReport
from robuststream.container.stream import Stream
from robuststream.errors import NotARobustStream, StreamChanged, warn_of_damage
from robuststream.files.positional import positional
from robuststream.files.sources import Source
from robuststream.picture.grid import Box, Grid
from robuststream.picture.limits import check_size
from robuststream.transfers.reading import read_restored

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image
    from torch import Tensor

    from robuststream.codec import Decoded
    from robuststream.latents import DecodedLatents
    from robuststream.model.frozen import Model

#: left, top, right, bottom in pixels, as Pillow's `Image.crop` has them: right and bottom stand outside.
Region = tuple[int, int, int, int]


def open(
    source: Source,
    model: Model | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    header_from: Source | None = None,
    stream: int = 0,
) -> StreamFile:
    """Open a stream to look at it, or to decode regions of it, without reading all of it; imports no torch.

        with robuststream.open("large.robs") as stream:
            out = stream.decode(region=(left, top, right, bottom))

    Args:
        source: the stream: a path, bytes (or what else has the buffer protocol, and uint8 tensors), or a binary file
            from where it stands. One that cannot seek is read to its end at once.
        model: the model that encoded it; found by the digest in the stream, at the first decode, when None.
        max_pixels: larger declared pictures are refused.
        header_from: another stream of the same series, as `robuststream.decode` takes it.
        stream: which one, where the source holds several; for others than the first all of it is read at once.

    Raises:
        OSError: it cannot be read.
        TypeError: it is no source.
        NotARobustStream, UnsupportedVersion, DamagedStream: no header can be read, or the borrowed one does not fit.
        ImageError: the declared picture is too large.
    """
    return StreamFile(source, model, max_pixels, read_lender(header_from), whole_number("stream", stream))


class StreamFile:
    """An open stream; made by `robuststream.open`. A context manager: what it opened it closes.

    Only HEADER, METADATA and INDEX are read at first. Where these are damaged the whole file is read at once, and what
    `decode` could use of it counts.

    Any number of threads may use one, and processes forked from the one that opened it, if it has not run torch (see
    spec/guide/threads.md). Files of other classes than Python's own `open` gives are not for several processes.

    Where the file is written to while it is open, what was opened is decoded or StreamChanged raised: never another
    stream's pixels. A file that was removed or renamed stays readable, where the system keeps it.

    Attributes:
        size: width and height in pixels.
        mode: of the decoded image, as Pillow names it: "RGB" or "L".
        header: everything else the stream says of itself: tile side, digests, model name, ...
        stream_id: 8 hexadecimal digits.
        metadata: ICC profile, EXIF and XMP, byte for byte.
    """

    def __init__(
        self, source: Source, model: Model | None, max_pixels: int, lender: Stream | None, number: int
    ) -> None:
        self._source = positional(source)
        try:
            self._written = self._source.state()
            #: Around what is made once and kept. Nothing is kept where making it fails.
            self._making = threading.RLock()
            self._model = model
            self._fitted: tuple[Model, Grid] | None = None
            self._lender = lender
            self._number = number
            self._max_pixels = whole_number("max_pixels", max_pixels)
            self._whole: Stream | None = None
            self._filled: DecodedLatents | None = None
            self._front = None if number else read_front(self._source.read)
            stream = self._front.stream if self._front else self._all()
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

        Of the file only those tiles are read that the region's pixels depend on, through the synthesis transform's
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
            StreamChanged: the file was written to since it was opened, and what was opened is gone.
            OSError: the file cannot be read.
        """
        if region is None:
            from robuststream.codec import decode_stream

            return decode_stream(self._all(), *self._fitting(), strict)
        out = self._decoded(self._box(region))
        if not out.report.verified:
            if strict:
                raise damage(out.report.findings)
            lost = [tile for tile in out.report.tiles if tile.outcome not in PROVEN]
            count = f"{len(lost)} of the {len(out.report.tiles)} tiles of the region"
            warn_of_damage(f"{count} are not exact ({out.report.findings[0]})")
        return out

    def close(self) -> None:
        """Read no more, and close the file, if it was opened by its path."""
        self._source.close()

    def __enter__(self) -> StreamFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        width, height = self.size
        return f"<StreamFile {self.stream_id}, {width} x {height}, {self.mode}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an open stream cannot be pickled: pickle its path, and open it where it is used")

    def _box(self, region: Region) -> Box:
        try:
            left, top, right, bottom = (whole_number("a side", side) for side in region)
        except (TypeError, ValueError):
            message = f"region {region!r} is not four whole numbers: left, top, right, bottom"
            raise ValueError(message) from None
        width, height = self.size
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(f"region {tuple(region)} is empty or not inside {width} x {height} pixels")
        return Box(top, left, bottom, right)

    def _decoded(self, pixels: Box) -> DecodedRegion:
        from robuststream.picture.concealment import pixel_mask
        from robuststream.picture.io import to_image
        from robuststream.picture.transforms import synthesise, to_bytes
        from robuststream.picture.windows import latents_below

        model, grid = self._fitting()
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

    def _all(self) -> Stream:
        """What all of the file gives, read once."""
        with self._making:
            if self._whole is None:
                self._whole = self._read_all()
            return self._whole

    def _read_all(self) -> Stream:
        data = self._source.read(0)
        if self._source.state() != self._written:
            self._refuse_other(f"it was written to since it was opened, and has {len(data)} bytes now")
        try:
            stream = read_restored(data, self._lender, self._number)
        except NotARobustStream as error:
            if self._front is not None:
                self._refuse_other(str(error))
            raise
        if self._front is not None and stream.stream_id != self._front.stream.stream_id:
            self._refuse_other(f"it holds stream {stream.stream_id.hex()} now")
        return stream

    def _refuse_other(self, found: str) -> NoReturn:
        what = f"stream {self._front.stream.stream_id.hex()}" if self._front else "the stream"
        raise StreamChanged(f"{self._source.name}: {what} that was opened is gone, {found}: open it again")

    def _streams(self, tiles: Collection[int]) -> Iterator[tuple[Stream, bool]]:
        """What these tiles may be decoded from, and whether that is the whole file: the least that may do first."""
        if self._front is not None and len(tiles) < self.header.tiles:
            stream = read_tiles(self._front, self._source.read, tiles)
            if stream is not None:
                yield stream, False
        yield self._all(), True

    # --- Latents ----------------------------------------------------------------------------------------------------

    def _latents(self, model: Model, grid: Grid, part: Box) -> tuple[DecodedLatents, StreamReport | None]:
        """A part of the latents, and the whole file's report where all of it was read."""
        from robuststream.latents import DecodedLatents, decode_latents

        for stream, whole in self._streams(grid.tiles_of(part)):
            if not stream.candidates:
                decoded = decode_latents(stream, model, grid, part=part)
                if all(tile.outcome != Outcome.MISSING for tile in decoded.report.tiles):
                    return decoded, stream.report if whole else None
        # What a missing tile is filled with depends on all others.
        filled = self._all_latents(model, grid)
        return DecodedLatents(filled.latents[(slice(None), *part.slices())], filled.report), self._all().report

    def _all_latents(self, model: Model, grid: Grid) -> DecodedLatents:
        """All latents, with what `decode` puts in the place of missing ones; decoded once."""
        from robuststream.latents import decode_latents
        from robuststream.picture.concealment import fill_missing

        with self._making:
            if self._filled is None:
                decoded = decode_latents(self._all(), model, grid)
                refuse_nothing(self._all(), decoded.report)
                fill_missing(decoded.latents, grid, decoded.report.outcomes())
                self._filled = decoded
            return self._filled

    def _fitting(self) -> tuple[Model, Grid]:
        with self._making:
            if self._fitted is None:
                self._fitted = fitting(self.header, self._model, self._max_pixels)
            return self._fitted


@dataclass(frozen=True)
class RegionReport:
    """What is known of a region of a picture.

    A tile proves itself: its CRCs, its rANS string's end and its context digest make it exact, as they do in a damaged
    file. What a region does not prove is what takes all tiles, or all of the file: that header and tiles hash to the
    stream id, and that no packet elsewhere contradicts those that were read. `robuststream.verify` sees to that.

    Attributes:
        header: the header that counted.
        stream_id: 8 hexadecimal digits.
        tiles: those that the region's pixels depend on, with state and outcome; nothing is said of others.
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
        report: findings, and the state and outcome of each tile that the region depends on.
    """

    image: Image
    tensor: Tensor
    latents: Tensor
    mask: npt.NDArray[np.uint8]
    report: RegionReport
