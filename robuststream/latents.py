"""Latents to coded tiles and back, by the model's walk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robuststream.container.layout import WORD
from robuststream.container.packets import Tile
from robuststream.container.reader import Stream
from robuststream.container.report import Finding, Outcome, Rule, StreamReport
from robuststream.errors import ImageError
from robuststream.model import Model
from robuststream.priors.walk import DESYNC, Z_ONLY, DecodingWalk, EncodingWalk, TileData, z_only
from robuststream.tiling import Grid

#: Latents of y, in one channel, that go in lock-step: 64 tiles of 256 pixels. More gain nothing, and take memory.
BATCH = 64 * 16 * 16


def encode_latents(y: Tensor, model: Model, grid: Grid, batch: int = BATCH) -> list[Tile]:
    """Code the latents y, float32 (M, h, w), tile by tile; at most `batch` positions of them at a time."""
    if not torch.isfinite(y).all():
        raise ImageError("the analysis transform gives values that are not finite: this model cannot code the picture")
    tiles: dict[int, Tile] = {}
    for box, group in grid.by_shape(range(grid.tiles), batch):
        pieces = torch.stack([y[(slice(None), *grid.latent_box(index).slices())] for index in group])
        walk = EncodingWalk(model.tables, model.parameters_digest, model.prior.analyse(pieces))
        model.prior.walk(walk, box.height, box.width)
        try:
            coded = walk.coder.finish()
        except ValueError as error:
            raise ImageError(f"the picture's latents cannot be coded with this model: {error}") from error
        for position, index in enumerate(group):
            marks = coded[position].marks
            z_words = marks[0] if marks else None
            tiles[index] = Tile(index, coded[position].words, walk.digest.values[position], z_words)
    return [tiles[index] for index in range(grid.tiles)]


@dataclass(frozen=True)
class DecodedLatents:
    """Latents and what is known of them.

    Attributes:
        latents: int32 (M, h, w) at 2^-12, of the padded picture; zeros where a tile is missing.
        report: the stream's report with each tile's outcome.
        desync: the first tile whose entropy parameters differ from the encoder's, if any.
    """

    latents: Tensor
    report: StreamReport
    desync: int | None = None


def decode_latents(stream: Stream, model: Model, grid: Grid, batch: int = BATCH) -> DecodedLatents:
    """Decode all that can be decoded: whole tiles exactly, salvaged ones to the hyperprior's means."""
    shape = (model.channels, grid.latents.height, grid.latents.width)
    latents = torch.zeros(shape, dtype=torch.int32)
    outcomes = dict.fromkeys(range(grid.tiles), Outcome.MISSING)
    findings: list[Finding] = []
    data = {index: TileData(tile.words, tile.digest, tile.z_words) for index, tile in stream.tiles.items()}
    data |= {index: z_only(salvage.words) for index, salvage in stream.salvaged.items()}
    desync: int | None = None
    while data:
        again: dict[int, TileData] = {}
        for _, group in grid.by_shape(sorted(data), batch):
            decoded, faults = _decode_group([data[index] for index in group], model, grid, group)
            for position, index in enumerate(group):
                fault = faults[position]
                if fault in (None, Z_ONLY):
                    decodes = Outcome.UNPROVEN if index in stream.unproven else Outcome.EXACT
                    outcomes[index] = decodes if fault is None else Outcome.CONCEALED
                    latents[(slice(None), *grid.latent_box(index).slices())] = decoded[position]
                    continue
                assert fault is not None
                rule = Rule.DESYNC if fault == DESYNC else Rule.ENTROPY
                findings.append(Finding(rule, fault, tile=index))
                if fault == DESYNC and desync is None:
                    desync = index
                whole = data[index]
                if whole.digest is not None and whole.z_words is not None:
                    again[index] = z_only(whole.words[: WORD * whole.z_words])
        # Symbols of a tile that failed are not trusted: it is decoded once more, up to z only.
        data = again
    return DecodedLatents(latents, stream.report.decoded(outcomes, tuple(findings)), desync)


def _decode_group(
    tiles: Sequence[TileData], model: Model, grid: Grid, group: Sequence[int]
) -> tuple[Tensor, list[str | None]]:
    walk = DecodingWalk(model.tables, model.parameters_digest, tiles)
    box = grid.latent_box(group[0])
    decoded = model.prior.walk(walk, box.height, box.width)
    return decoded, [walk.fault(position) for position in range(len(tiles))]
