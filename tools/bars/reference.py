"""The reference decoder (spec/reference_decoder.py) against the package: streams of whole photographs, every prior."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from compressai import models

import robuststream as rs
from bars import small
from bars.common import ROOT, Figure, photo_paths, pixels_of
from robuststream.model.anatomy import ARCHITECTURES

sys.path.insert(0, str(ROOT / "spec"))

import reference_decoder

#: One architecture for each way of coding y, small, with random weights that spread over the tables.
SMALL = {
    "bmshj2018-factorized": {"N": 32, "M": 48},
    "bmshj2018-hyperprior": {"N": 32, "M": 48},
    "mbt2018": small.SIZES["mbt2018"],
    "cheng2020-anchor-checkerboard": small.SIZES["cheng2020-anchor-checkerboard"],
    "elic2022-official": small.SIZES["elic2022-official"],
    "mbt2018-mean-vbr": {"N": 32, "M": 48},
    "mbt2018-vbr": {"N": 32, "M": 48},
}


def reference(photos: Path) -> Iterator[Figure]:
    """Latents equal at every place; pixels within 1/255. Each model's figures come as they are done."""
    paths = photo_paths(photos)
    for name, model in _models():
        theirs = reference_decoder.load_model(model.to_bytes())
        equal, worst, latents_time, pixels_time = 0, 0, 0.0, 0.0
        for path in paths:
            data = rs.encode(pixels_of(path), model)
            ours = rs.decode(data, model, strict=True)
            start = time.perf_counter()
            stream, latents = reference_decoder.decode(data, theirs)
            middle = time.perf_counter()
            pixels = reference_decoder.picture(stream.header, latents, theirs)
            latents_time += middle - start
            pixels_time += time.perf_counter() - middle
            exact = list(stream.outcomes.values()) == ["exact"] * stream.header.tiles
            equal += exact and np.array_equal(latents, ours.latents.numpy())
            worst = max(worst, int(np.abs(pixels.astype(int) - np.asarray(ours.image)).max()))
        seconds = f"{latents_time / len(paths):.2f}, {pixels_time / len(paths):.2f}"
        yield Figure(f"{name}: latents equal", f"{equal} of {len(paths)}", "all", equal == len(paths))
        yield Figure(f"{name}: largest difference of a pixel", f"{worst}/255", "<= 1/255", worst <= 1)
        yield Figure(f"{name}: seconds for a picture's latents, for its pixels", seconds)


def _models() -> Iterator[tuple[str, rs.Model]]:
    bundled = rs.load_model()
    yield bundled.name, bundled
    for name, sizes in SMALL.items():
        torch.manual_seed(1)
        net = getattr(models, ARCHITECTURES[name][0])(**sizes).eval()
        small.spread(net)
        yield name, rs.freeze(net)
