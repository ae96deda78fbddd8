"""Regions of one open stream, from many threads and from forked children: the same as one after the other.

Each round is a process of its own that has decoded nothing yet, so that what is made at the first decode is made by
all of them at once: the model, the reading of a damaged file, what fills its missing tiles.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

import numpy as np

import robuststream as rs
from bars.common import Figure, child, photo_paths

TILE = 64
#: Regions of each of two files, which 2 and 8 threads decode: 2,000 in all.
REGIONS, THREADS = 500, (2, 8)
#: Regions that threads decode of a file before it is opened again: most goes wrong at the first of them.
OPENED = 25
#: Regions of each file that all children together decode.
FORKED, CHILDREN = 100, 4
#: Sides of a region in pixels.
SIDES = 16, 161
#: Seconds. A round that takes longer hangs.
LIMIT = 900

Box = tuple[int, int, int, int]

CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from bars import threads
threads.main(*sys.argv[2:])
"""


def threads(photos: Path) -> list[Figure]:
    """An intact and a damaged stream: 2 and 8 threads, and children forked before anything is decoded."""
    figures = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, data in _streams(photo_paths(photos)[0]).items():
            path = Path(temporary) / f"{name}.robs"
            path.write_bytes(data)
            alone = _round("one_by_one", path, REGIONS)
            for number in THREADS:
                found = _round("in_threads", path, REGIONS, number)
                figures.append(_figure(f"{name} stream, {number} threads", alone, found))
            for where in ("before torch is imported", "behind the model's loading"):
                found = _round("in_children", path, FORKED, CHILDREN, where)
                figures.append(_figure(f"{name} stream, {CHILDREN} children forked {where}", alone[:FORKED], found))
    return figures


def _streams(photo: Path) -> dict[str, bytes]:
    whole = rs.encode(photo, tile=TILE)
    hurt = bytearray(whole)
    middle = len(hurt) // 2
    hurt[middle : middle + 40] = bytes(40)
    return {"intact": whole, "damaged": bytes(hurt)}


def _round(way: str, path: Path, *arguments: object) -> list[str]:
    """What became of each region, in a new process; nothing of any where it does not end."""
    command = [CODE, str(Path(__file__).parents[1]), way, str(path), *map(str, arguments)]
    try:
        done = child(*command, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return []
    results: list[str] = json.loads(done.stdout)
    return results


def _figure(what: str, alone: Sequence[str], found: Sequence[str]) -> Figure:
    pairs = list(zip(alone, found, strict=False))
    same = sum(one == other for one, other in pairs)
    odd = next((_differing(one, other) for one, other in pairs if one != other), "")
    value = f"{same} of {len(alone)} as one by one" + (f"; another is {odd}" if odd else "")
    return Figure(what, value if found else f"no end in {LIMIT} s", "all", len(found) == len(alone) == same)


def _differing(one: str, other: str) -> str:
    """The parts of a result that are not the same, or an error."""
    parts = other.split(", ")
    return ", ".join(part.split("=")[0] for part in parts if part not in one.split(", ")) if "=" in other else other


# --- In a process of its own -----------------------------------------------------------------------------------------


def main(way: str, path: str, count: str, *arguments: str) -> None:
    """One round: decode regions of the stream, print a list of what came of each."""
    warnings.simplefilter("ignore")
    ways: dict[str, Callable[..., list[str]]] = {
        "one_by_one": one_by_one,
        "in_threads": in_threads,
        "in_children": in_children,
    }
    with rs.open(path) as stream:
        boxes = regions(stream.size, int(count))
    print(json.dumps(ways[way](path, boxes, *arguments)))


def regions(size: tuple[int, int], count: int) -> list[Box]:
    """Random boxes inside a picture of this width and height; the first of them do not depend on how many there are."""
    random = np.random.default_rng(1)
    boxes = []
    for _ in range(count):
        sides = [min(int(random.integers(*SIDES)), side) for side in size]
        left, top = (int(random.integers(whole - part + 1)) for whole, part in zip(size, sides, strict=True))
        boxes.append((left, top, left + sides[0], top + sides[1]))
    return boxes


def one_by_one(path: str, boxes: Sequence[Box]) -> list[str]:
    with rs.open(path) as stream:
        return [result(stream, box) for box in boxes]


def in_threads(path: str, boxes: Sequence[Box], number: str) -> list[str]:
    """In turn to so many threads, which begin together; the stream is opened again after some, by path or as a file."""
    many = int(number)
    begin = Barrier(many)

    def some(stream: rs.StreamFile, mine: Sequence[Box]) -> list[str]:
        begin.wait()
        return [result(stream, box) for box in mine]

    sys.setswitchinterval(1e-5)  # what can go wrong between two threads does so sooner
    results = []
    with ThreadPoolExecutor(many) as pool:
        for start in range(0, len(boxes), OPENED):
            part = boxes[start : start + OPENED]
            with Yielding(path) as file, rs.open(file if start // OPENED % 2 else path) as stream:
                results += _together(list(pool.map(partial(some, stream), [part[n::many] for n in range(many)])))
    return results


class Yielding(io.FileIO):
    """A file on which others get their turn between a seek and the read that it is for."""

    def seek(self, offset: int, whence: int = 0) -> int:
        place = super().seek(offset, whence)
        time.sleep(0.001)
        return place


def in_children(path: str, boxes: Sequence[Box], number: str, where: str) -> list[str]:
    """In turn to so many children, which share the open file with each other."""
    many = int(number)
    if where != "before torch is imported":
        rs.load_model()
    assert ("torch" in sys.modules) == (where != "before torch is imported")
    pipes = []
    with rs.open(path) as stream:
        for first in range(many):
            begin, end = os.pipe()
            if not os.fork():
                signal.alarm(LIMIT // 3)
                os.close(begin)
                with os.fdopen(end, "w") as file:
                    json.dump([result(stream, box) for box in boxes[first::many]], file)
                os._exit(0)
            os.close(end)
            pipes.append(begin)
    parts = []
    for first, begin in enumerate(pipes):
        with os.fdopen(begin) as file:
            said = file.read()
        parts.append(json.loads(said) if said else ["the child died or hung"] * len(boxes[first::many]))
        os.wait()
    return _together(parts)


def _together(parts: Sequence[Sequence[str]]) -> list[str]:
    """Every so many boxes of each, in the boxes' order."""
    joined = [""] * sum(map(len, parts))
    for first, part in enumerate(parts):
        joined[first :: len(parts)] = part
    return joined


def result(stream: rs.StreamFile, box: Box) -> str:
    """A digest of each thing that a decode of the region gives, or the error that it raises."""
    try:
        out = stream.decode(box)
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace("=", " ")[:100]
    parts: dict[str, bytes] = {
        "outcomes": repr([(tile.index, tile.outcome) for tile in out.report.tiles]).encode(),
        "latents": out.latents.numpy().tobytes(),
        "mask": out.mask.tobytes(),
        "pixels": np.asarray(out.image).tobytes(),
        "tensor": out.tensor.numpy().tobytes(),
    }
    return ", ".join(f"{name}={hashlib.sha256(part).hexdigest()[:16]}" for name, part in parts.items())
