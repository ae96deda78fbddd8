"""Ratios against peers in one run, medians of interleaved rounds after a warm-up."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compressai import ans

import robuststream as rs
from bars.common import Figure, interleaved, photo_paths, pixels_of
from robuststream.entropy.coder import TileDecoder, TileEncoder
from robuststream.picture.grid import Grid
from robuststream.picture.transforms import analyse
from robuststream.priors.walk import EncodingWalk


def rans(photos: Path) -> list[Figure]:
    """One core: y of all pictures, each picture one string, against compressai.ans."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = rs.load_model()
    gaussian_rows = len(model.parts.thresholds) + 1
    jobs = [_symbols(path, model) for path in photo_paths(photos)]
    tables = _padded_tables(model, gaussian_rows)

    def theirs_encode() -> list[bytes]:
        # As EntropyModel.compress does it, list conversions and all, for every string.
        return [
            ans.RansEncoder().encode_with_indexes(s.tolist(), r.tolist(), *(table.tolist() for table in tables))
            for s, r in jobs
        ]

    strings = theirs_encode()

    def theirs_decode() -> list[Any]:
        return [
            torch.tensor(ans.RansDecoder().decode_with_indexes(w, r.tolist(), *(table.tolist() for table in tables)))
            for w, (_, r) in zip(strings, jobs, strict=True)
        ]

    def ours_encode() -> list[bytes]:
        coded = []
        for s, r in jobs:
            encoder = TileEncoder(model.tables, 1)
            encoder.code(r[None], s[None])
            coded.append(encoder.finish()[0].words)
        return coded

    def ours_decode() -> list[Any]:
        return [TileDecoder(model.tables, [w], [False]).code(r[None]) for w, (_, r) in zip(strings, jobs, strict=True)]

    same = ours_encode() == strings
    same &= all((d[0] == s).all() for d, (s, _) in zip(ours_decode(), jobs, strict=True))
    ready = [(s.tolist(), r.tolist()) for s, r in jobs]
    lists = [table.tolist() for table in tables]

    def ready_encode() -> None:
        for s, r in ready:
            ans.RansEncoder().encode_with_indexes(s, r, *lists)

    def ready_decode() -> None:
        for w, (_, r) in zip(strings, ready, strict=True):
            ans.RansDecoder().decode_with_indexes(w, r, *lists)

    actions = (ours_encode, theirs_encode, ready_encode, ours_decode, theirs_decode, ready_decode)
    times = interleaved(7, *actions)
    torch.set_num_threads(threads)
    encode, decode = times[1] / times[0], times[4] / times[3]
    return [
        Figure("byte-identical with compressai.ans", "yes" if same else "no", "yes", same),
        Figure("rANS encode, with CompressAI's list conversions", f"{encode:.1f}x", ">= 10x", encode >= 10),
        Figure("rANS decode, with CompressAI's list conversions", f"{decode:.1f}x", ">= 4x", decode >= 4),
        Figure("rANS encode, on ready lists", f"{times[2] / times[0]:.1f}x"),
        Figure("rANS decode, on ready lists", f"{times[5] / times[3]:.1f}x"),
        Figure("rANS, ours: encode, decode", f"{_rate(jobs, times[0])}, {_rate(jobs, times[3])} million symbols/s"),
    ]


def _rate(jobs: list[Any], seconds: float) -> str:
    return f"{sum(len(s) for s, _ in jobs) / seconds / 1e6:.0f}"


def _symbols(path: Path, model: rs.Model) -> tuple[np.ndarray, np.ndarray]:
    pixels = pixels_of(path)
    grid = Grid(pixels.shape[1], pixels.shape[0], 1024, model.latent_stride, model.factor)
    y = analyse(torch.from_numpy(pixels.copy()).permute(2, 0, 1), model, grid)
    walk = EncodingWalk(model.tables, model.parameters_digest, model.prior.analyse(y[None]))
    model.prior.walk(walk, grid.latents.height, grid.latents.width)
    # The second step is y; in its order of coding.
    rows, symbols, _ = walk.coder._steps[1]
    order = np.argsort(np.uint16(0xFFFF) - rows[0], kind="stable")
    return symbols[0][order], rows[0][order]


def _padded_tables(model: rs.Model, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tables = model.tables
    cdf = np.zeros((rows, int(tables.lengths[:rows].max())), np.int32)
    for row in range(rows):
        cdf[row, : tables.lengths[row]] = tables.cdf[tables.starts[row] : tables.starts[row] + tables.lengths[row]]
    return cdf, tables.lengths[:rows], tables.offsets[:rows]


def inspect(photos: Path) -> list[Figure]:
    """`robuststream inspect` on a 768x512 stream against importing NumPy."""
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "photo.robs"
        file.write_bytes(rs.encode(photo_paths(photos)[0]))
        command = [str(Path(sys.executable).parent / "robuststream"), "inspect", str(file)]
        peer = [sys.executable, "-c", "import numpy"]
        quiet = {"stdout": subprocess.DEVNULL, "check": True}
        ours, numpy = interleaved(9, lambda: subprocess.run(command, **quiet), lambda: subprocess.run(peer, **quiet))
    limit = 2 * numpy + 0.150
    figure = f"{1000 * ours:.0f} ms (import numpy: {1000 * numpy:.0f} ms)"
    return [Figure("inspect, wall time", figure, f"<= {1000 * limit:.0f} ms", ours <= limit)]
