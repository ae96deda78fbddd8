"""Damaged streams, decoded as they are and after `repair`: a repaired file is never worse than what it was made of."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

import robuststream as rs
from campaigns.common import Draw, Random, describe, draw
from campaigns.decode import SERIES, Original, small_model, waves
from robuststream.container.packets import Kind
from robuststream.container.report import PROVEN, Outcome, TileReport
from robuststream.errors import DamageWarning, RobustStreamError
from robuststream.picture.concealment import Mask

#: Random models of few channels: architecture, its channels, how the picture is encoded, its height and width, and the
#: bytes of its ICC profile, EXIF and XMP. 20,000 bytes take two packets.
KINDS: Sequence[tuple[str, tuple[int, int], dict[str, Any], tuple[int, int], tuple[int, int, int]]] = (
    ("mbt2018-mean", (2, 3), {"parity": 0.3}, (128, 192), (600, 0, 0)),
    ("mbt2018-mean", (2, 3), {}, (128, 192), (600, 0, 0)),
    ("mbt2018-mean", (2, 3), {"parity": 1.0}, (120, 150), (300, 100, 200)),
    ("mbt2018-mean", (2, 3), {"parity": 0.05}, (64, 128), (20_000, 0, 300)),
    ("mbt2018-mean", (2, 3), {"checkpoints": 0}, (64, 64), (300, 0, 0)),
    ("mbt2018-mean", (2, 3), {"mode": "native", "parity": 0.3}, (128, 128), (300, 0, 0)),
    ("mbt2018-mean", (8, 12), {"parity": 0.2}, (128, 192), (0, 0, 0)),
    ("bmshj2018-factorized", (2, 3), {"parity": 0.3, "checkpoints": 15}, (100, 192), (0, 200, 0)),
    ("bmshj2018-hyperprior", (2, 3), {}, (128, 192), (20_000, 100, 0)),
)
BLOCKS = ("icc_profile", "exif", "xmp")
#: From what is worth nothing to what is worth most.
WORTH = {Outcome.MISSING: 0, Outcome.CONCEALED: 1, Outcome.UNPROVEN: 2, **dict.fromkeys(PROVEN, 3)}


class Repairs:
    """One damaged stream a trial; kinds in turn."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.kinds: list[tuple[str, list[Original]]] = []
        models: dict[tuple[str, tuple[int, int]], rs.Model] = {}
        for architecture, channels, options, size, blocks in KINDS:
            if (architecture, channels) not in models:
                models[architecture, channels] = small_model(architecture, channels)
            model = models[architecture, channels]
            pictures = [_picture(size, blocks, seed) for seed in range(SERIES)]
            series = [Original(rs.encode(picture, model, tile=64, **options), model) for picture in pictures]
            self.kinds.append((f"{architecture} {channels} {options or ''}".strip(), series))

    def trial(self, number: int, random: Random, counts: Counter[str]) -> tuple[str, list[str]]:
        name, series = self.kinds[number % len(self.kinds)]
        original, *others = series
        hurt, did = original.data, []
        # What hits all copies of one thing is rare by chance, and what a repair must live through.
        for _ in range(int(random.choice([0, 1, 2]))):
            hurt, what = aimed(hurt, original, random)
            did.append(what)
        if not did or random.random() < 0.5:
            damage = draw(random, len(original.data), [other.data for other in others])
            hurt = damage(hurt)
            did.append(describe(damage))
        counts["damaged streams" if hurt != original.data else "streams that the damage left as they were"] += 1
        known = {item.identity: item for item in series}
        wrong = list(worse(hurt, original.model, known, counts))
        # What stands before the colon says of what kind it is.
        counts.update({f"trials with: {what.split(':')[0]}" for what in wrong})
        return f"{name}: {', then '.join(did)}", wrong


def worse(hurt: bytes, model: rs.Model, known: Mapping[bytes, Original], counts: Counter[str]) -> Iterator[str]:
    """What is wrong with the repair of `hurt`; `known` are all streams of which it may hold something, by id."""
    before = _decoded(hurt, model)
    if isinstance(before, rs.Decoded):
        counts["decoded before"] += 1
    try:
        restored = rs.repair(hurt)
    except RobustStreamError as error:
        counts["refused by repair"] += 1
        if isinstance(before, rs.Decoded):
            yield f"refused by repair, and not by decode: {type(error).__name__}: {error}"
        return
    except Exception as error:
        yield f"foreign exception of repair: {type(error).__name__}: {error}"
        return
    counts["whole after repair"] += restored.whole
    written = any(restored.data == original.data for original in known.values())
    if restored.whole and not written:
        yield "called whole, and is not what was written"
    if written and not restored.whole:
        yield "what was written, and not called whole"
    if any(hurt == original.data for original in known.values()) and restored.data != hurt:
        yield "changed, and was not damaged"
    after = _decoded(restored.data, model)
    if isinstance(after, rs.Decoded):
        counts["decoded after"] += 1
        original = known.get(bytes.fromhex(after.report.stream_id))
        if original is not None and after.report.header == original.whole.report.header:
            for what in original.untrue(after, restored.data, known, Counter()):
                yield f"untrue after repair: {what}"
    elif isinstance(before, rs.Decoded):
        yield f"no picture after repair: {type(after).__name__}: {after}"
    elif not isinstance(after, RobustStreamError):
        yield f"foreign exception after repair: {type(after).__name__}: {after}"
    if isinstance(before, rs.Decoded) and isinstance(after, rs.Decoded):
        yield from lost(before, after)


def lost(before: rs.Decoded, after: rs.Decoded) -> Iterator[str]:
    """What a decode had that a later one has not."""
    sure = before.mask <= Mask.REPAIRED
    kept = sure & (after.mask <= Mask.REPAIRED) if _same(before, after) else np.zeros_like(sure)
    if not (kept == sure).all():
        yield f"fewer exact or repaired pixels: {int(sure.sum())}, and {int(kept.sum())} of them after repair"
    for name in BLOCKS:
        if name in before.image.info and after.image.info.get(name) != before.image.info[name]:
            yield f"metadata lost: {'another' if name in after.image.info else 'no'} {name} block after repair"
    if _same(before, after):
        now = {tile.index: tile for tile in after.report.tiles}
        for tile in before.report.tiles:
            if _worth(now.get(tile.index)) < _worth(tile):
                was, is_ = _said(tile), _said(now.get(tile.index))
                yield f"a tile is worth less: {tile.index} was {was}, and is {is_} after repair"


def _same(before: rs.Decoded, after: rs.Decoded) -> bool:
    """Whether both are of the same picture."""
    return before.report.stream_id == after.report.stream_id and before.mask.shape == after.mask.shape


def _worth(tile: TileReport | None) -> tuple[int, int]:
    if tile is None or tile.outcome is None:
        return 0, 0
    return WORTH[tile.outcome], tile.y_salvaged if tile.outcome == Outcome.CONCEALED else 0


def _said(tile: TileReport | None) -> str:
    if tile is None or tile.outcome is None:
        return "nowhere"
    parts = f" with {tile.y_salvaged} parts of y" if tile.outcome == Outcome.CONCEALED else ""
    return f"{tile.outcome.value}{parts}"


def _decoded(data: bytes, model: rs.Model) -> rs.Decoded | Exception:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DamageWarning)
            return rs.decode(data, model)
    except Exception as error:
        return error


# --- What is damaged -------------------------------------------------------------------------------------------------


def aimed(data: bytes, original: Original, random: Random) -> tuple[bytes, str]:
    """Hit packets of one kind, all of them or some, where they stand in the undamaged stream."""
    draw = Draw(random)
    kind = draw.one_of(sorted({kind for kind, _, _ in original.places}))
    way = draw.one_of(["a bit", "a bit at one place", "noise", "zeros", "cut out"])
    share = draw.one_of([1.0, 1.0, float(random.random())])
    place = float(random.random())
    hurt = bytearray(data)
    for its_kind, start, end in reversed(original.places):
        if its_kind != kind or random.random() > share or end > len(hurt):
            continue
        if way.startswith("a bit"):
            at = start + int((place if "place" in way else random.random()) * (end - start))
            hurt[at] ^= 1 << int((place * 1000) % 8 if "place" in way else random.integers(8))
        else:
            length = draw.number(end - start) if way != "cut out" else end - start
            begin = start + int(random.integers(end - start - length + 1))
            hurt[begin : begin + length] = {"noise": random.bytes(length), "zeros": bytes(length), "cut out": b""}[way]
    return bytes(hurt), f"{way} in {share:.0%} of {Kind(kind).name} packets"


def _picture(size: tuple[int, int], blocks: tuple[int, int, int], seed: int) -> Image.Image:
    picture = Image.fromarray(waves(*size, seed))
    random = np.random.default_rng([seed, *blocks])
    picture.info |= {name: random.bytes(length) for name, length in zip(BLOCKS, blocks, strict=True) if length}
    return picture
