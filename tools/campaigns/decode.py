"""Damaged streams through whole decodes: what the mask calls exact is what an undamaged decode gives."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from bars.small import spread

import robuststream as rs
from campaigns.common import Random, Written, describe, draw, headers_survive, stands, surviving_tiles
from robuststream.container.report import PROVEN, Outcome
from robuststream.errors import DamageWarning, RobustStreamError
from robuststream.model.anatomy import ARCHITECTURES
from robuststream.picture.concealment import Mask
from robuststream.picture.grid import Grid

#: Streams of each kind, of other pictures, which are spliced into each other.
SERIES = 2
#: Random models of few channels: architecture, its channels, and how the picture is encoded.
KINDS: Sequence[tuple[str, tuple[int, int], dict[str, Any]]] = (
    ("bmshj2018-factorized", (2, 3), {}),
    ("bmshj2018-hyperprior", (2, 3), {}),
    ("mbt2018-mean", (2, 3), {}),
    ("mbt2018-mean", (2, 3), {"mode": "native"}),
    ("mbt2018-mean", (2, 3), {"parity": 0.3}),
    ("mbt2018-mean", (8, 12), {}),
    ("mbt2018", (8, 12), {}),
    ("mbt2018-mean-vbr", (2, 3), {"quality": 1}),
)
#: Outcomes of tiles whose latents are those that were coded.
DECODED = (*PROVEN, Outcome.UNPROVEN)


class Original(Written):
    """A stream, and what it decodes to without damage."""

    def __init__(self, data: bytes, model: rs.Model) -> None:
        super().__init__(data)
        self.model = model
        self.whole = rs.decode(data, model, strict=True)
        self.grid = Grid.of(self.whole.report.header, model.latent_stride, model.factor)

    def wrong(self, hurt: bytes, known: Mapping[bytes, Original], counts: Counter[str]) -> Iterator[str]:
        """What is wrong with a decode of `hurt`; `known` are all streams of which it may hold something, by id."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DamageWarning)
                out = rs.decode(hurt, self.model)
        except RobustStreamError as error:
            counts["refused"] += 1
            left = headers_survive(hurt, known)
            if left and all(surviving_tiles(item, hurt, known) for item in left):
                yield f"a HEADER and a TILE packet stand whole, and the file is refused: {error}"
        except Exception as error:
            yield f"foreign exception, {type(error).__name__}: {error}"
        else:
            original = known.get(bytes.fromhex(out.report.stream_id))
            if original is None or out.report.header != original.whole.report.header:
                counts["header guessed wrongly (all tiles unproven)"] += 1
                if headers_survive(hurt, known):
                    yield "a header that was not written, though one that was written stands whole"
                if any(tile.outcome in PROVEN for tile in out.report.tiles) or (out.mask <= Mask.REPAIRED).any():
                    yield "a header that was not written, and tiles called proven"
            else:
                yield from original.untrue(out, hurt, known, counts)

    def untrue(
        self, out: rs.Decoded, hurt: bytes, known: Mapping[bytes, Written], counts: Counter[str]
    ) -> Iterator[str]:
        """What a decode of `hurt`, damaged as it is, says that is not so."""
        survivors, header = surviving_tiles(self, hurt, known), stands(self.header_packet, hurt, known)
        outcomes = {tile.index: tile.outcome for tile in out.report.tiles}
        counts["tiles that stand whole"] += len(survivors)
        for outcome in outcomes.values():
            counts[f"tiles {outcome.value if outcome else 'without an outcome'}"] += 1
        for index in survivors:
            if outcomes[index] not in (PROVEN if header else DECODED):
                yield f"tile {index} stands whole and is {outcomes[index]}"
        for index, outcome in outcomes.items():
            place = (slice(None), *self.grid.latent_box(index).slices())
            if outcome in DECODED and not torch.equal(out.latents[place], self.whole.latents[place]):
                yield f"tile {index} is called {outcome} and has other latents"
        sure = torch.from_numpy(out.mask <= Mask.REPAIRED)
        if not torch.equal(out.tensor[:, sure], self.whole.tensor[:, sure]):
            yield "pixels are wrong in silence"
        if out.report.intact != (hurt == self.data):
            yield f"called {'intact' if out.report.intact else 'damaged'}"


def small_model(architecture: str, channels: tuple[int, int]) -> rs.Model:
    """Random weights, which spread over the tables."""
    from compressai import models

    torch.manual_seed(5)
    net = getattr(models, ARCHITECTURES[architecture][0])(*channels).eval()
    spread(net)
    return rs.freeze(net)


def waves(height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    """A picture, (H, W, 3): smooth colours with some noise."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / 40.0
    colours = [np.sin(rows * random.uniform(0.5, 3) + columns * random.uniform(0.5, 3) + c) for c in range(3)]
    return (128 + 90 * np.stack(colours, -1) + random.normal(0, 12, (height, width, 3))).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class _Kind:
    name: str
    series: list[Original]


class Decodes:
    """One damaged stream a trial; kinds in turn."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.kinds = []
        for architecture, channels, options in KINDS:
            model = small_model(architecture, channels)
            pictures = [waves(120, 192, seed) for seed in range(SERIES)]
            series = [Original(rs.encode(picture, model, tile=64, **options), model) for picture in pictures]
            self.kinds.append(_Kind(f"{architecture} {channels} {options or ''}".strip(), series))

    def trial(self, number: int, random: Random, counts: Counter[str]) -> tuple[str, list[str]]:
        kind = self.kinds[number % len(self.kinds)]
        original, *others = kind.series
        damage = draw(random, len(original.data), [other.data for other in others])
        hurt = damage(original.data)
        counts["damaged streams" if hurt != original.data else "streams that the damage left as they were"] += 1
        known = {item.identity: item for item in kind.series}
        return f"{kind.name}: {describe(damage)}", list(original.wrong(hurt, known, counts))


class Insertions:
    """Every byte value before every byte of a stream, and at its end. No chance in it: trial t is value t % 256."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        model = small_model("mbt2018-mean", (2, 3))
        self.original = Original(rs.encode(waves(64, 128, 0), model, tile=64), model)

    def __len__(self) -> int:
        return 256 * (len(self.original.data) + 1)

    def trial(self, number: int, random: Random, counts: Counter[str]) -> tuple[str, list[str]]:
        place, value = divmod(number, 256)
        data = self.original.data
        hurt = data[:place] + bytes([value]) + data[place:]
        counts["damaged streams"] += 1
        known = {self.original.identity: self.original}
        return f"byte {value:#04x} before byte {place}", list(self.original.wrong(hurt, known, counts))
