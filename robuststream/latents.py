"""Latents to coded tiles and back, by the model's walk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robuststream.container.correction import describe
from robuststream.container.packets import Candidate, Mode, Salvage, Tile
from robuststream.container.proof import decoded as outcome_of
from robuststream.container.report import PROVEN, Finding, Outcome, Rule, StreamReport
from robuststream.container.stream import Stream
from robuststream.container.tiles import WORD, digest_seed
from robuststream.errors import ImageError
from robuststream.model.frozen import Model
from robuststream.picture.grid import Box, Grid, by_shape
from robuststream.priors.walk import DESYNC, ENDED, DecodingWalk, EncodingWalk, TileData, z_only

#: Latents of y, in one channel, that go in lock-step: 64 tiles of 256 pixels. More gain nothing, and take memory.
BATCH = 64 * 16 * 16


def encode_latents(y: Tensor, model: Model, grid: Grid, batch: int = BATCH, mode: Mode = Mode.EXACT) -> list[Tile]:
    """Code the latents y, float32 (M, h, w), of one picture. As `encode_all`."""
    return encode_all([(y, grid)], model, batch, mode)[0]


def encode_all(
    pictures: Sequence[tuple[Tensor, Grid]],
    model: Model,
    batch: int = BATCH,
    mode: Mode = Mode.EXACT,
    quality: int = 0,
) -> list[list[Tile]]:
    """Code the latents y, float32 (M, h, w), of pictures, tile by tile; those of one shape together, whatever picture
    they belong to, at most `batch` positions of them at a time.

    Raises:
        ImageError: latents that cannot be coded.
    """
    prior = model.prior_for(mode, quality)
    if not all(bool(torch.isfinite(y).all()) for y, _ in pictures):
        raise ImageError("the analysis transform gives values that are not finite: this model cannot code the picture")
    boxes = {
        (picture, index): grid.latent_box(index)
        for picture, (_, grid) in enumerate(pictures)
        for index in range(grid.tiles)
    }
    tiles: dict[tuple[int, int], Tile] = {}
    for box, group in by_shape(boxes, _together(batch, mode)):
        pieces = torch.stack([pictures[key[0]][0][(slice(None), *boxes[key].slices())] for key in group])
        steps = prior.steps(box.height, box.width) if mode == Mode.NATIVE else None
        walk = EncodingWalk(model.tables, digest_seed(model.parameters_digest, quality), prior.analyse(pieces), steps)
        prior.walk(walk, box.height, box.width)
        try:
            coded = walk.coder.finish()
        except ValueError as error:
            raise ImageError(f"the picture's latents cannot be coded with this model: {error}") from error
        for position, key in enumerate(group):
            marks = coded[position].marks
            z_words = marks[0] if marks else None
            *earlier, digest = walk.digests(position)
            tiles[key] = Tile(key[1], coded[position].words, digest, z_words, tuple(earlier))
    return [[tiles[picture, index] for index in range(grid.tiles)] for picture, (_, grid) in enumerate(pictures)]


@dataclass(frozen=True)
class DecodedLatents:
    """Latents and what is known of them.

    Attributes:
        latents: int32 (M, h, w) at 2^-12, of the padded picture or a part of it; zeros where a tile is missing.
        report: the stream's report with each tile's outcome.
    """

    latents: Tensor
    report: StreamReport


#: A tile's index, and which of its candidates (from 1); 0 where it is intact, or z alone.
_Key = tuple[int, int]


class _Decoding:
    """What becomes of one stream, or of the tiles of a part of its latents, while they are decoded."""

    def __init__(self, stream: Stream, model: Model, grid: Grid, part: Box | None = None) -> None:
        self.stream = stream
        self.grid = grid
        self.part = part or grid.latents
        size = model.channels, self.part.height, self.part.width
        self.latents = torch.zeros(size, dtype=torch.int32, device="cpu")
        self.outcomes = dict.fromkeys(grid.tiles_of(self.part), Outcome.MISSING)
        self.unproven = stream.unproven
        self.findings: list[Finding] = []
        self.passed: dict[int, list[tuple[Candidate, Tensor]]] = {}
        self.judged = not stream.candidates
        self.waiting: dict[_Key, TileData] = {(index, 0): _data(tile) for index, tile in stream.tiles.items()}
        for index, salvage in stream.salvaged.items():
            if index not in stream.candidates:
                self.waiting[index, 0] = self._salvaged(salvage)
        for index, candidates in stream.candidates.items():
            for number, candidate in enumerate(candidates, start=1):
                self.waiting[index, number] = _data(candidate.tile)
        if part is not None:
            # Which candidates count depends on all tiles.
            assert not stream.candidates
            self.waiting = {key: data for key, data in self.waiting.items() if key[0] in self.outcomes}

    def take(self, key: _Key, latents: Tensor, fault: str | None, repaired: bool) -> None:
        """A tile's turn is over: keep its latents, or note the fault and try z alone."""
        index, number = key
        data = self.waiting.pop(key)
        if number:
            if fault is None:
                candidate = self.stream.candidates[index][number - 1]
                self.passed.setdefault(index, []).append((candidate, latents))
        elif fault in (None, ENDED):
            whole = not data.partial and fault != ENDED
            computed = repaired or index in self.stream.restored
            self._keep(index, latents, outcome_of(self.stream.header.mode, whole, computed))
        else:
            assert fault is not None
            self.findings.append(Finding(Rule.DESYNC if fault == DESYNC else Rule.ENTROPY, fault, tile=index))
            # Symbols of a tile that failed are not trusted: it is decoded once more, up to z only.
            if (data.partial or data.digest is not None) and data.z_words is not None:
                self.waiting[key] = z_only(data.words[: WORD * data.z_words])
        if not self.waiting and not self.judged:
            self._judge()

    def _keep(self, index: int, latents: Tensor, outcome: Outcome) -> None:
        self.outcomes[index] = outcome
        box = self.grid.latent_box(index)
        kept = box.clipped(self.part)
        piece = latents[(slice(None), *kept.relative_to(box).slices())]
        self.latents[(slice(None), *kept.relative_to(self.part).slices())] = piece

    def _judge(self) -> None:
        """Which candidates count (spec/format.md, section 10.1): of a tile the only one that decoded to its end.

        The end state does not bind escaped values, so more is asked of a pair: as it stands the tile must not decode to
        others.
        Where all tiles are at hand then, the stream id has the last word.
        """
        self.judged = True
        chosen: dict[int, tuple[Candidate, Tensor]] = {}
        loose = set()
        for index, passed in self.passed.items():
            mended = [(candidate, latents) for candidate, latents in passed if candidate.flips]
            if len(mended) == 1:
                chosen[index] = mended[0]
                if len(passed) > len(mended):
                    loose.add(index)
        whole = {**self.stream.tiles, **{index: candidate.tile for index, (candidate, _) in chosen.items()}}
        if len(whole) < self.grid.tiles:
            chosen = {index: item for index, item in chosen.items() if index not in loose}
        elif chosen and self.stream.proof.owns(whole):
            self.unproven = ()
        else:
            chosen = {}
        for index, (candidate, latents) in chosen.items():
            self._keep(index, latents, Outcome.REPAIRED)
            start, end = candidate.flips[0] >> 3, (candidate.flips[-1] >> 3) + 1
            what = f"{describe(candidate.flips)} put right: the tile decodes to its end"
            self.findings.append(Finding(Rule.CORRECTED, what, start, end, index))
        for index, salvage in self.stream.salvaged.items():
            if index in self.stream.candidates and index not in chosen:
                self.waiting[index, 0] = self._salvaged(salvage)

    def _salvaged(self, salvage: Salvage) -> TileData:
        """Symbols of y stand behind proven words; in native mode also only where the digests are proven.

        They are by a piece of y, and must not be used without one: the damage may have hit them.
        """
        if salvage.pieces:
            return TileData(salvage.words, salvage.digest, salvage.z_words, salvage.earlier, partial=True)
        if self.stream.header.mode == Mode.NATIVE:
            return z_only(salvage.words)
        return TileData(salvage.words, None, salvage.z_words, partial=True)

    def result(self) -> DecodedLatents:
        for index, outcome in self.outcomes.items():
            if outcome in PROVEN and index in self.unproven:
                self.outcomes[index] = Outcome.UNPROVEN
        findings = tuple(sorted(self.findings, key=lambda finding: finding.tile or 0))
        return DecodedLatents(self.latents, self.stream.report.decoded(self.outcomes, findings))


def decode_latents(
    stream: Stream, model: Model, grid: Grid, batch: int = BATCH, part: Box | None = None
) -> DecodedLatents:
    """Decode one stream, or `part` of its latents: then of the tiles that have some of them the report tells, and of no
    other. That is what a decode of all says of them, unless the stream has tiles to correct. As `decode_all`."""
    return _decode([_Decoding(stream, model, grid, part)], model, batch)[0]


def decode_all(streams: Sequence[tuple[Stream, Grid]], model: Model, batch: int = BATCH) -> list[DecodedLatents]:
    """Decode all that can be decoded: whole tiles exactly, damaged ones where a decode proves which bits were flipped,
    salvaged ones as far as their words go, and the rest to the hyperprior's means.

    Tiles of one shape go together, whatever stream they belong to. The streams are of one mode and quality.
    """
    return _decode([_Decoding(stream, model, grid) for stream, grid in streams], model, batch)


def _decode(decodings: Sequence[_Decoding], model: Model, batch: int) -> list[DecodedLatents]:
    header = decodings[0].stream.header
    mode, quality = header.mode, header.quality
    assert all((other.stream.header.mode, other.stream.header.quality) == (mode, quality) for other in decodings)
    prior = model.prior_for(mode, quality)
    while any(decoding.waiting for decoding in decodings):
        boxes = {
            (number, key): decoding.grid.latent_box(key[0])
            for number, decoding in enumerate(decodings)
            for key in sorted(decoding.waiting)
        }
        for box, group in by_shape(boxes, _together(batch, mode)):
            tiles = [decodings[number].waiting[key] for number, key in group]
            steps = prior.steps(box.height, box.width) if mode == Mode.NATIVE else None
            walk = DecodingWalk(model.tables, digest_seed(model.parameters_digest, quality), tiles, steps)
            decoded = prior.walk(walk, box.height, box.width)
            for position, (number, key) in enumerate(group):
                repaired = bool(walk.repaired[position])
                decodings[number].take(key, decoded[position], walk.fault(position), repaired)
    return [decoding.result() for decoding in decodings]


def _together(batch: int, mode: Mode) -> int:
    """In native mode tiles go one by one: in float32 a batch may be added up in another order."""
    return 1 if mode == Mode.NATIVE else batch


def _data(tile: Tile) -> TileData:
    return TileData(tile.words, tile.digest, tile.z_words, tile.earlier)
