"""Native mode: what drift does, and how much of it is repaired."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from machines import tables

import robuststream as rs
from bars.common import Figure, photo_paths
from robuststream.container.report import Outcome
from robuststream.faults import drifted
from robuststream.latents import decode_latents
from robuststream.picture.grid import Grid
from robuststream.transfers.reading import read_stream

#: Relative drift, tiles to decode, and the share of drifted ones to be repaired.
DRIFTS = ((1e-6, 4000, 0.999), (1e-5, 1000, 0.99))


def drift(photos: Path) -> list[Figure]:
    """Every float parameter a little off, evenly distributed up to the relative size: tiles drifted and repaired."""
    model = rs.load_model()
    streams = [read_stream(rs.encode(path, model, mode="native")) for path in photo_paths(photos)]
    grids = [Grid.of(stream.header, model.latent_stride, model.factor) for stream in streams]
    whole = [decode_latents(stream, model, grid).latents for stream, grid in zip(streams, grids, strict=True)]
    figures = []
    for relative, tiles, wanted in DRIFTS:
        outcomes: Counter[Outcome | None] = Counter()
        wrong = 0
        seed = 0
        while sum(outcomes.values()) < tiles:
            other = drifted(model, relative=relative, seed=seed)
            seed += 1
            for stream, grid, expected in zip(streams, grids, whole, strict=True):
                decoded = decode_latents(stream, other, grid)
                outcomes.update(tile.outcome for tile in decoded.report.tiles)
                for tile in decoded.report.tiles:
                    box = (slice(None), *grid.latent_box(tile.index).slices())
                    far = (decoded.latents[box] - expected[box]).abs().max() > 64
                    wrong += bool(far) and tile.outcome in (Outcome.VERIFIED, Outcome.REPAIRED)
        total = sum(outcomes.values())
        off = total - outcomes[Outcome.VERIFIED]
        share = outcomes[Outcome.REPAIRED] / max(1, off)
        what = f"drift {relative:g}: {off} of {total} tiles drifted, repaired"
        figures.append(Figure(what, f"{100 * share:.2f} %", f">= {100 * wanted:g} %", share >= wanted))
        figures.append(Figure(f"drift {relative:g}: wrong latents not told of", str(wrong), "0", wrong == 0))
    return figures


def native(photos: Path) -> list[Figure]:
    """Encoded under default kernels, decoded under others, with the bundled model."""
    paths = photo_paths(photos)
    rows = tables.native_matrix(paths)
    figures = []
    for row in rows:
        where = row["decoder"]
        figures.append(Figure(f"{where}: CompressAI broken", f"{row['compressai_broken']} of {len(paths)}"))
        found = f"{row['native_drifted']} of {len(paths)} pictures"
        figures.append(Figure(f"{where}: drift found by digests", found))
        figures.append(Figure(f"{where}: drift not found", str(row["native_silent"]), "0", row["native_silent"] == 0))
        broken = row["native_broken"]
        figures.append(Figure(f"{where}: broken after repair", str(broken), "0", broken == 0))
    return figures
