"""What damage does to a robuststream, and to other formats at the same bytes: a CSV and a figure.

    python tools/resilience.py [--photos DIR] [--codec NAME...] [--draws N] [--other-draws N]

Bit errors, and lost datagrams of 1400 bytes, by themselves and in bursts of 3 on average; the same seeds for every
codec, the damage always on the bytes of the whole file. Lost datagrams are zeroed. Each peer has the quality that
brings it nearest to the size of our stream without parity, at most 2 % below. A file that gives no picture counts as a
grey one. What was measured is kept in the folder --cache, and a run goes on where the last one ended: `--again`
forgets the codecs named by --codec first, such as `--codec robuststream --again` after a change of the decoder.

JPEG 2000 needs OpenJPEG's tools (Debian: libopenjp2-tools), JPEG needs OpenCV, which prints libjpeg's warnings.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import cv2
import torch
from bars.common import PHOTOS, ROOT, photo_paths
from curves.channels import cells
from curves.codecs import Codec, codecs
from curves.figure import draw_figure
from curves.measure import Store, measure
from curves.summary import read_summary, summarise, write_summary

OURS = "robuststream"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="a folder of PNG photographs")
    parser.add_argument("--codec", nargs="+", default=[], metavar="NAME", help="robuststream means all of its variants")
    parser.add_argument("--draws", type=int, default=10, help="damaged streams a photograph, in the cells of the bars")
    parser.add_argument("--other-draws", type=int, default=10, help="and at the other levels of each channel")
    parser.add_argument("--again", action="store_true", help="forget what was measured of these codecs")
    parser.add_argument("--cache", type=Path, default=ROOT / ".resilience")
    parser.add_argument("--out", type=Path, default=ROOT / "spec" / "pictures", help="resilience.csv and .png go here")
    options = parser.parse_args(arguments)
    # Children are forks, and forks of threads hang.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    every = codecs()
    chosen = choose(every, options.codec)
    photos = photo_paths(options.photos)
    store = Store(options.cache)
    if options.again:
        for name in chosen:
            store.forget(name)
    sizes = {photo: len(store.stream(OURS, every[OURS], photo, None)) for photo in photos}
    table = options.out / "resilience.csv"
    rows = read_summary(table)
    for name, codec in chosen.items():
        if codec.missing:
            print(f"{name}: left out, it needs {codec.missing}", flush=True)
            continue
        start = time.monotonic()
        targets = {photo: None if name.startswith(OURS) else size for photo, size in sizes.items()}
        wanted = {
            cell: options.draws if cell.bar else options.other_draws for cell in cells() if cell.bar or codec.everywhere
        }
        rows[name] = summarise(name, measure(store, name, codec, targets, wanted))
        print(f"{name}: {rows[name][0].bpp:.3f} bpp, {time.monotonic() - start:.0f} s", flush=True)
        options.out.mkdir(parents=True, exist_ok=True)
        write_summary(table, {name: rows[name] for name in every if name in rows})
    draw_figure(rows, options.out / "resilience.png")
    return 0


def choose(every: dict[str, Codec], names: list[str]) -> dict[str, Codec]:
    unknown = [name for name in names if name not in every]
    if unknown:
        raise SystemExit(f"no codec is called {unknown[0]!r}: there are {'; '.join(every)}")
    return {
        name: codec
        for name, codec in every.items()
        if not names or name in names or (OURS in names and name.startswith(OURS))
    }


if __name__ == "__main__":
    sys.exit(main())
