"""Concealment: what a lost or damaged tile looks like, in dB over the tile, beside flat fills and pixel inpainting."""

from __future__ import annotations

import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

import robuststream as rs
from bars.common import Figure, photo_paths, pixels_of, psnr
from robuststream.container.packets import DEFAULT_CHECKPOINTS as CHECKPOINTS
from robuststream.faults import drop_tiles
from robuststream.transfers.reading import read_stream

Pixels = npt.NDArray[np.uint8]
#: Tiles tried of each picture, and hits in y of each.
TILES, HITS = 2, 4
LOST = "lost: from the neighbours' latents"
FLAT = "flat fill: mean colour of the other tiles"
INPAINTED = {"Telea": cv2.INPAINT_TELEA, "Navier-Stokes": cv2.INPAINT_NS}


def concealment(photos: Path) -> list[Figure]:
    """One tile hit or lost at a time. A hit is three bytes somewhere in y: z is alive, and no two flips explain it."""
    random = np.random.default_rng(1)
    measured: dict[str, list[float]] = defaultdict(list)
    for path in photo_paths(photos):
        original = pixels_of(path)
        streams = {count: rs.encode(path, checkpoints=count) for count in (0, 1, CHECKPOINTS, 7, 15)}
        whole = np.asarray(rs.decode(streams[0]).image)
        header = read_stream(streams[0]).header
        for tile in random.choice(header.tiles, min(TILES, header.tiles), replace=False).tolist():
            top, left = (side * header.tile for side in divmod(tile, header.columns))
            box = (slice(top, top + header.tile), slice(left, left + header.tile))

            def note(what: str, picture: Pixels, box: Any = box, original: Pixels = original) -> None:
                measured[what].append(psnr(picture[box], original[box]))

            note("undamaged", whole)
            note(LOST, _decoded(drop_tiles(streams[0], tiles=[tile])))
            note("y lost: z alone", _decoded(_hit(streams[0], tile, 0.0)))
            for place in random.random(HITS):
                for count in list(streams)[1:]:
                    note(f"a hit in y, {count} checkpoints", _decoded(_hit(streams[count], tile, place)))
            for what, picture in _in_pixels(whole, box).items():
                note(what, picture)
    means = {what: float(np.mean(values)) for what, values in measured.items()}
    figures = [Figure(what, f"{value:.2f} dB") for what, value in means.items()]
    gain = means[f"a hit in y, {CHECKPOINTS} checkpoints"] - means[FLAT]
    alone = means["y lost: z alone"] - means[FLAT]
    best = max(means[what] for what in measured if what.startswith(("flat", "inpainted")))
    return [
        *figures,
        Figure("a hit tile, z alive, against flat fill", f"{gain:+.2f} dB", ">= +6 dB", gain >= 6),
        Figure("all of y lost, z alive, against flat fill", f"{alone:+.2f} dB"),
        Figure(
            "a lost tile, against the best fill in pixels",
            f"{means[LOST] - best:+.2f} dB",
            "> 0",
            means[LOST] > best,
        ),
    ]


def _hit(data: bytes, tile: int, place: float) -> bytes:
    """Three bytes of a word of y overwritten: the one so far into them."""
    stream = read_stream(data)
    report, whole = stream.report.tiles[tile], stream.tiles[tile]
    assert report.offset is not None
    assert report.size is not None
    assert whole.z_words is not None
    words = len(whole.words) // 4 - whole.z_words
    at = report.offset + report.size - 4 - 4 * (words - int(words * place))
    return data[:at] + bytes(byte ^ 0x55 for byte in data[at : at + 3]) + data[at + 3 :]


def _decoded(data: bytes) -> Pixels:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.DamageWarning)
        return np.asarray(rs.decode(data).image)


def _in_pixels(whole: Pixels, box: Any) -> dict[str, Pixels]:
    """The tile cut out of the undamaged decode, and filled without any latents."""
    hole = np.zeros(whole.shape[:2], np.uint8)
    hole[box] = 1
    fills = {"flat fill: grey": np.full(3, 128), FLAT: whole[hole == 0].mean(0).round()}
    pictures = {}
    for what, colour in fills.items():
        pictures[what] = np.where(hole[..., None] > 0, colour, whole).astype(np.uint8)
    for what, method in INPAINTED.items():
        pictures[f"inpainted: {what} (OpenCV)"] = np.asarray(cv2.inpaint(whole, hole, 3, method))
    return pictures
