"""`robuststream inspect` on very large streams and on very many small ones."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

import robuststream as rs
from bars.common import Figure, child, interleaved, photo_paths
from robuststream.container.packets import Header, Tile
from robuststream.container.writer import write_stream

SIZE = 100_000_000
TILE_BYTES = 20_000
FILES = 1000
#: Peak memory of a process that inspects argv[1], in kB. (ru_maxrss would count what the parent had.)
PEAK = """
import sys
from robuststream.cli import main
main(["inspect", sys.argv[1]])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1], file=sys.stderr)
"""


def inspect_large(photos: Path) -> list[Figure]:
    """Seconds and memory for 50 and 100 MB, whole and with a damaged tile; files a second for 1,000 small ones."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        half, whole, hurt = (folder / name for name in ("half.robs", "whole.robs", "hurt.robs"))
        half.write_bytes(_stream(SIZE // 2))
        data = bytearray(_stream(SIZE))
        whole.write_bytes(data)
        data[SIZE // 2 : SIZE // 2 + 12] = bytes(12)
        hurt.write_bytes(data)
        times = interleaved(3, *(partial(_inspect, path) for path in (half, whole, hurt)))
        peaks = [_peak(path) - path.stat().st_size / 1e6 for path in (half, whole)]
        many = folder / "many"
        many.mkdir()
        small = rs.encode(photo_paths(photos)[0])
        for number in range(FILES):
            (many / f"{number:04}.robs").write_bytes(small)
        (seconds,) = interleaved(3, partial(_inspect, many))
    ratio = times[1] / times[0]
    rate = FILES / seconds
    return [
        Figure("100 MB", f"{times[1]:.2f} s", "<= 2 s", times[1] <= 2),
        Figure("100 MB, one tile damaged", f"{times[2]:.2f} s", "<= 2 s", times[2] <= 2),
        Figure("100 MB against 50 MB", f"{ratio:.2f} x its time", "linear: <= 2.2", ratio <= 2.2),
        Figure(
            "memory beside the file",
            f"{peaks[1]:.0f} MB for 100 MB, {peaks[0]:.0f} MB for 50 MB",
            "flat: <= 1.1 x",
            peaks[1] <= 1.1 * peaks[0],
        ),
        Figure(f"{FILES} files of {len(small)} bytes", f"{rate:.0f} files/s", ">= 200", rate >= 200),
    ]


def _stream(size: int) -> bytes:
    """A stream of random words in tiles of TILE_BYTES."""
    rng = np.random.default_rng(3)
    count = size // TILE_BYTES
    header = Header(64 * count, 64, 64, bytes(16), bytes(16))
    words = TILE_BYTES // 4
    return write_stream(header, [Tile(index, rng.bytes(4 * words), index, words // 10) for index in range(count)])


def _inspect(path: Path) -> None:
    command = [sys.executable, "-m", "robuststream", "inspect", str(path)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)


def _peak(path: Path) -> float:
    """MB."""
    return int(child(PEAK, str(path)).stderr.split()[-1]) / 1000
