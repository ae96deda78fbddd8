"""A single hit of at most 512 bytes anywhere in streams of photographs: a picture, and only the tiles touched are lost.

Every trial is a whole `decode` but for the synthesis transform, which takes four fifths of its time. What it would do
is known: it gets the undamaged latents but in some tiles. Which pixels these tiles' latents change at all is measured
once for each picture and set of tiles, by noise in their places; none of those may be called exact. Every WHOLE-th
trial runs the transform as well, and compares all pixels bit by bit.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from bars.common import photo_paths

import robuststream as rs
from campaigns.common import Random
from campaigns.decode import Original
from robuststream import codec
from robuststream.container.packets import Kind, Packet
from robuststream.container.report import Outcome
from robuststream.container.scanner import scan
from robuststream.networks.fixedpoint import ONE
from robuststream.picture.concealment import Mask

LONGEST = 512
STREAMS = 24
WHOLE = 50
#: Of latents, at 2^-12, either way.
NOISE = 20 * ONE
WAYS = ("noise", "zeros", "deleted")
SAMPLES = Path(rs.__file__).parent / "samples"


class Hits:
    """A hit a trial; streams in turn."""

    def __init__(self, photos: Path) -> None:
        torch.set_num_threads(1)
        self.paths = photo_paths(photos if photos.is_dir() else SAMPLES)[:STREAMS]
        self.model = rs.load_model()
        self.streams: dict[Path, _Photo] = {}

    def trial(self, number: int, random: Random, counts: Counter[str]) -> tuple[str, list[str]]:
        path = self.paths[number % len(self.paths)]
        if path not in self.streams:
            self.streams[path] = _Photo(path, self.model)
        stream = self.streams[path]
        way = WAYS[int(random.integers(len(WAYS)))]
        size = len(stream.data)
        length = int(random.integers(1, LONGEST + 1))
        # Hits that reach beyond either end are cut there, so that the ends are hit as often as the middle.
        start = int(random.integers(1 - length, size))
        start, end = max(0, start), min(size, start + length)
        middle = {"noise": random.bytes(end - start), "zeros": bytes(end - start), "deleted": b""}[way]
        hurt = stream.data[:start] + middle + stream.data[end:]
        counts[f"hits, {way}"] += 1
        # Neither a multiple of the number of streams nor the same for all of them.
        in_whole = number % WHOLE == number // len(self.paths) % WHOLE
        wrong = stream.wrong_with_hit(hurt, (start, end), in_whole, counts)
        return f"{path.name}: bytes {start} to {end - 1} {way}", list(wrong)


class _Photo(Original):
    def __init__(self, path: Path, model: rs.Model) -> None:
        super().__init__(rs.encode(path, model), model)
        self.places = {
            event.number: (event.offset, event.offset + event.size)
            for event in scan(self.data)
            if isinstance(event, Packet) and event.kind == Kind.TILE
        }
        self.reached: dict[frozenset[int], npt.NDArray[np.bool_]] = {}

    def wrong_with_hit(self, hurt: bytes, hit: tuple[int, int], in_whole: bool, counts: Counter[str]) -> Iterator[str]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", rs.DamageWarning)
                with mock.patch.object(codec, "synthesise", return_value=self.whole.tensor):
                    out = rs.decode(hurt, self.model)
                again = rs.decode(hurt, self.model) if in_whole else None
        except Exception as error:
            yield f"no picture, {type(error).__name__}: {error}"
            return
        touched = {index for index, (start, end) in self.places.items() if start < hit[1] and hit[0] < end}
        counts[f"hits that touch {len(touched)} tiles"] += 1
        for tile in out.report.tiles:
            if tile.index not in touched and tile.outcome != Outcome.EXACT:
                yield f"tile {tile.index} is not touched and {tile.outcome}"
        # All that holds of any damage; pixels are the undamaged ones here.
        yield from self.untrue(out, hurt, {self.identity: self}, counts)
        if not self._pixels_hold(out, counts):
            yield "pixels are wrong in silence"
        if again is not None:
            counts["decodes whose whole picture was compared"] += 1
            yield from self.untrue(again, hurt, {self.identity: self}, Counter())
            if not torch.equal(again.latents, out.latents) or (again.mask != out.mask).any():
                yield "a second decode differs"

    def _pixels_hold(self, out: rs.Decoded, counts: Counter[str]) -> bool:
        """Whether no pixel is called exact or repaired that the tiles whose latents differ may change."""
        differs = (out.latents != self.whole.latents).any(0)
        changed = frozenset(i for i in range(self.grid.tiles) if differs[self.grid.latent_box(i).slices()].any())
        if not changed:
            counts["decodes to the undamaged latents"] += 1
            return True
        return not (self._reached_by(changed) & (out.mask <= Mask.REPAIRED)).any()

    def _reached_by(self, tiles: frozenset[int]) -> npt.NDArray[np.bool_]:
        """Which pixels, bool (H, W), change with the latents of these tiles."""
        if tiles not in self.reached:
            latents, noise = self.whole.latents.clone(), torch.Generator().manual_seed(1)
            for index in tiles:
                place = latents[(slice(None), *self.grid.latent_box(index).slices())]
                place += torch.randint(-NOISE, NOISE, place.shape, generator=noise, dtype=latents.dtype)
            pixels = codec.synthesise(latents, self.model, self.grid)
            self.reached[tiles] = (pixels != self.whole.tensor).any(0).numpy()
        return self.reached[tiles]
