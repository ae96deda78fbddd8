"""Damages streams, decodes them, and keeps what was seen, draw by draw, so that a run that ended early goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
from bars.common import pixels_of, psnr

from curves.channels import Cell
from curves.child import Child, Pixels, Shown
from curves.codecs import SMALLER, Codec
from curves.similarity import SMALLEST_SIDE, ms_ssim, scales

UNDAMAGED = Cell("undamaged", 0)
#: A pixel is lost where a channel differs from the undamaged decode by more than this.
LOST = 2
#: What a user sees of a file that gives no picture.
GREY = 128


@dataclass(frozen=True)
class Draw:
    """What became of one damaged stream.

    Attributes:
        stream: CRC-32 of the undamaged stream: what was measured of another one does not count.
        psnr, ms_ssim: against the photograph; no picture, or one of another size, is a grey one.
        lost: share of pixels that are not what the undamaged stream gives.
        end: as `child.Shown.end`, or "identical" where no byte is damaged or all are restored.
        silent: there is a picture, it is not the undamaged one, and the decoder said nothing.
    """

    picture: str
    channel: str
    level: float
    seed: int
    stream: int
    bpp: float
    psnr: float
    ms_ssim: float
    lost: float
    end: str
    silent: bool

    @property
    def failed(self) -> bool:
        return self.end not in ("picture", "identical")


class Photo:
    """A photograph, and how near a picture is to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pixels = pixels_of(path)
        self.scales = scales(self.pixels) if min(self.pixels.shape[:2]) >= SMALLEST_SIDE else None

    @cached_property
    def grey(self) -> tuple[float, float]:
        return self._quality(np.full_like(self.pixels, GREY))

    def quality(self, pixels: Pixels | None) -> tuple[float, float]:
        """PSNR in dB, and MS-SSIM, which small pictures do not have (NaN)."""
        return self.grey if pixels is None else self._quality(pixels)

    def _quality(self, pixels: Pixels) -> tuple[float, float]:
        similarity = ms_ssim(scales(pixels), self.scales) if self.scales else float("nan")
        return float(psnr(pixels, self.pixels)), similarity


class Subject:
    """A codec's stream of a photograph."""

    def __init__(self, codec: Codec, photo: Photo, data: bytes, child: Child) -> None:
        self.codec, self.photo, self.data, self.child = codec, photo, data, child
        self.stream = crc32(data)

    @cached_property
    def whole(self) -> Pixels:
        shown = self.child(self.data)
        if shown.pixels is None or shown.told:
            raise SystemExit(f"{self.photo.path.name}: the undamaged stream does not decode without a complaint")
        return shown.pixels

    @cached_property
    def undamaged(self) -> Draw:
        height, width = self.photo.pixels.shape[:2]
        bpp = 8 * len(self.data) / (height * width)
        values = self.photo.quality(self.whole)
        name = self.photo.path.stem
        return Draw(name, UNDAMAGED.channel, UNDAMAGED.level, 0, self.stream, bpp, *values, 0.0, "identical", False)

    def draw(self, cell: Cell, seed: int) -> Draw:
        draw = replace(self.undamaged, channel=cell.channel, level=cell.level, seed=seed)
        damaged = cell.damage(self.data, seed)
        if damaged == self.data or self.codec.restores(damaged, self.data):
            return draw
        shown = self.child(damaged)
        if shown.pixels is not None and np.array_equal(shown.pixels, self.whole):
            return replace(draw, end="picture")
        silent = shown.pixels is not None and not shown.told
        if shown.pixels is None or shown.pixels.shape != self.whole.shape:
            shown = Shown(None, shown.told, "error" if shown.end == "picture" else shown.end)
        psnr_value, ms_ssim_value = self.photo.quality(shown.pixels)
        return replace(
            draw, psnr=psnr_value, ms_ssim=ms_ssim_value, lost=self._lost(shown.pixels), end=shown.end, silent=silent
        )

    def _lost(self, pixels: Pixels | None) -> float:
        if pixels is None:
            return 1.0
        red, green, blue = cv2.split(cv2.absdiff(pixels, self.whole))
        return float(np.mean(cv2.max(red, cv2.max(green, blue)) > LOST))


class Store:
    """Streams and draws in a folder, each codec by itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def forget(self, codec: str) -> None:
        for path in (*self.folder.glob(f"{codec}/*"), self._draws(codec)):
            path.unlink(missing_ok=True)

    def stream(self, name: str, codec: Codec, photo: Path, size: int | None) -> bytes:
        """The stream of a photograph. `size` is that of ours; a peer's that does not fit it any more is made anew."""
        path = self.folder / name / f"{photo.stem}.bin"
        if path.exists():
            data = path.read_bytes()
            if size is None or len(data) >= (1 - SMALLER) * size:
                return data
        data = codec.encode(photo, size or 0)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return data

    def draws(self, codec: str) -> Iterator[Draw]:
        path = self._draws(codec)
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                yield Draw(**json.loads(line))
            except ValueError:
                continue  # the last line of a run that was killed

    def keep(self, codec: str, draws: list[Draw]) -> None:
        with self._draws(codec).open("a") as file:
            file.write("".join(f"{json.dumps(asdict(draw))}\n" for draw in draws))

    def _draws(self, codec: str) -> Path:
        return self.folder / f"{codec}.jsonl"


def measure(
    store: Store, name: str, codec: Codec, photos: Mapping[Path, int | None], cells: Mapping[Cell, int]
) -> list[Draw]:
    """All draws of a codec: those that are kept, and the missing ones, which are measured and kept.

    Args:
        photos: and the sizes of our streams of them.
        cells: and how many draws of each for a photograph. Seeds differ from picture to picture, not between codecs.
    """
    known = {(d.picture, d.channel, d.level, d.seed, d.stream): d for d in store.draws(name)}
    codec.prepare()
    child = Child(codec.decode)
    wanted = []
    for number, (path, size) in enumerate(photos.items()):
        subject = Subject(codec, Photo(path), store.stream(name, codec, path, size), child)
        draws = [(cell, 1000 * number + draw) for cell, count in cells.items() for draw in range(count)]
        new = []
        for cell, seed in [(UNDAMAGED, 0), *draws]:
            key = (path.stem, cell.channel, cell.level, seed, subject.stream)
            if key not in known:
                known[key] = subject.undamaged if cell is UNDAMAGED else subject.draw(cell, seed)
                new.append(known[key])
            wanted.append(known[key])
        store.keep(name, new)
    child.close()
    return wanted
