"""A region of a large picture, without the rest of its bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import robuststream as rs
from bars.common import Figure, child, photo_paths, pixels_of

SIDE = 8192
TILE = 256
#: Tiles: a corner, on the border of two windows of the synthesis, in the middle of one, an edge.
TILES = [(0, 0), (3, 4), (17, 18), (31, 9)]

ENCODE = "import sys, numpy, robuststream as rs; open(sys.argv[2], 'wb').write(rs.encode(numpy.load(sys.argv[1])))"
#: The oracle, in a process of its own for its memory.
DECODE = """
import sys, numpy, robuststream as rs
out = rs.decode(sys.argv[1])
assert out.report.exact
numpy.save(sys.argv[2], numpy.asarray(out.image)), numpy.save(sys.argv[3], out.latents.numpy())
"""


class Counting:
    """A file that counts the bytes it gives."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self.given = 0
        self.seek, self.tell, self.seekable = self._file.seek, self._file.tell, self._file.seekable

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.given += len(data)
        return data


def region(photos: Path) -> list[Figure]:
    """One tile of a picture of 64 megapixels, opened anew for each, against a whole decode."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pixels, data, image, latents = (folder / name for name in ("in.npy", "s.robs", "out.npy", "latents.npy"))
        np.save(pixels, _mirrored(pixels_of(photo_paths(photos)[0])))
        child(ENCODE, str(pixels), str(data))
        child(DECODE, str(data), str(image), str(latents))
        whole, wanted = np.load(image, mmap_mode="r"), np.load(latents, mmap_mode="r")
        size, most, same, difference = data.stat().st_size, 0, True, 0
        for row, column in TILES:
            file = Counting(data)
            top, left = row * TILE, column * TILE
            with rs.open(file) as stream:
                out = stream.decode((left, top, left + TILE, top + TILE))
            most = max(most, file.given)
            stride = SIDE // wanted.shape[1]
            box = slice(top // stride, (top + TILE) // stride), slice(left // stride, (left + TILE) // stride)
            same &= out.report.exact and np.array_equal(out.latents.numpy(), wanted[(slice(None), *box)])
            cut = whole[top : top + TILE, left : left + TILE].astype(int)
            difference = max(difference, int(np.abs(np.asarray(out.image).astype(int) - cut).max()))
    share = most / size
    return [
        Figure(f"bytes read of {size}, at most", f"{most} ({share:.2%})", "<= 5 %", share <= 0.05),
        Figure("latents against the whole decode's", "identical" if same else "differ", "identical", same),
        Figure("pixels against the whole decode's", f"within {difference}/255", "<= 1/255", difference <= 1),
    ]


def _mirrored(photo: np.ndarray) -> np.ndarray:
    """The photograph, mirrored at its edges until the picture is full, so that no seam is sharper than it is."""
    height, width = photo.shape[:2]
    return np.pad(photo, ((0, SIDE - height), (0, SIDE - width), (0, 0)), mode="symmetric")
