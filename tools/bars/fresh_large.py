"""Large pictures, as they are encoded: the container is whole, and called so. Layouts: tools/campaign.py fresh."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

import robuststream as rs
from bars.common import ROOT, Figure, child, pixels_of

#: Width and height, by megapixels.
SIZES = {24: (6000, 4000), 64: (9248, 6936)}
TILES = (64, 128, 256)
#: Photographs beside those of the folder named, where they are there.
MORE = ROOT.parent / "shared" / "training" / "photos"
#: Side of a mosaic's squares, in pixels: no multiple of a tile's.
PATCH = 480

ENCODE = """
import sys, numpy, robuststream as rs
open(sys.argv[2], "wb").write(rs.encode(numpy.load(sys.argv[1]), tile=int(sys.argv[3])))
"""


def fresh_large(photos: Path, sizes: Iterable[int] = tuple(SIZES), tiles: Iterable[int] = TILES) -> list[Figure]:
    """Mosaics of photographs: `verify` exits with 0, and `inspect` calls them intact."""
    return list(_figures(photos, sizes, tiles))


#: Single cells, by name: all of them take more than an hour.
CELLS: dict[str, Callable[[Path], list[Figure]]] = {
    f"fresh-large-{size}-{tile}": partial(fresh_large, sizes=[size], tiles=[tile]) for size in SIZES for tile in TILES
}


def _figures(photos: Path, sizes: Iterable[int], tiles: Iterable[int]) -> Iterator[Figure]:
    paths = sorted(path for folder in (photos, MORE) for path in folder.glob("*") if path.suffix in (".png", ".jpg"))
    if not paths:
        yield Figure("fresh large streams", f"skipped: there are no photographs in {photos} nor in {MORE}")
        return
    with tempfile.TemporaryDirectory() as temporary:
        pixels, data = Path(temporary) / "mosaic.npy", Path(temporary) / "mosaic.robs"
        for size in sizes:
            np.save(pixels, mosaic(paths, *SIZES[size]))
            for tile in tiles:
                child(ENCODE, str(pixels), str(data), str(tile))
                yield _figure(f"{size} megapixels, tiles of {tile}", data)


def _figure(what: str, data: Path) -> Figure:
    command = [sys.executable, "-W", "ignore", "-m", "robuststream", "verify", str(data)]
    code = subprocess.run(command, capture_output=True, check=False).returncode
    report = rs.inspect(data)
    said = "intact" if report.intact else f"damaged ({report.findings[0]})"
    value = f"{said}, verify exits with {code}; {report.header.tiles} tiles, {report.file_bytes} bytes"
    return Figure(what, value, "intact, exit 0", report.intact and code == 0)


def mosaic(paths: list[Path], width: int, height: int) -> npt.NDArray[np.uint8]:
    """Squares of photographs drawn at random, turned and mirrored, as (H, W, 3): the same every time."""
    random = np.random.default_rng(width)
    canvas = np.empty((height, width, 3), np.uint8)
    pictures: dict[Path, npt.NDArray[np.uint8]] = {}
    for top in range(0, height, PATCH):
        for left in range(0, width, PATCH):
            path = paths[int(random.integers(len(paths)))]
            if path not in pictures:
                pictures[path] = pixels_of(path)
            patch = _square(pictures[path], random)
            room = canvas[top : top + PATCH, left : left + PATCH]
            room[:] = patch[: room.shape[0], : room.shape[1]]
    return canvas


def _square(picture: npt.NDArray[np.uint8], random: np.random.Generator) -> npt.NDArray[np.uint8]:
    lacking = [(0, max(0, PATCH - side)) for side in picture.shape[:2]]
    picture = np.pad(picture, (*lacking, (0, 0)), mode="symmetric")
    top, left = (int(random.integers(side - PATCH + 1)) for side in picture.shape[:2])
    square = np.rot90(picture[top : top + PATCH, left : left + PATCH], int(random.integers(4)))
    return square[:, ::-1] if random.random() < 0.5 else square
