"""What all bars share."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
#: The 24 Kodak pictures, 768x512 and 512x768; `--photos` names another folder.
PHOTOS = ROOT.parent / "shared" / "images" / "kodak"


@dataclass(frozen=True)
class Figure:
    """One measured figure. `holds` is None where it is printed only, not held to a bar."""

    what: str
    value: str
    bar: str = ""
    holds: bool | None = None


def photo_paths(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise SystemExit(f"{folder}: no PNG pictures; name a folder of photographs with --photos")
    return paths


def photographs(folder: Path, number: int, height: int = 512, width: int = 768) -> list[npt.NDArray[np.uint8]]:
    """So many photographs of one size, uint8 (H, W, 3): the folder's, turned where that fits; where it has too few, or
    is not there, pieces of the bundled sample.
    """
    found = []
    for path in sorted(folder.glob("*.png"))[:number]:
        pixels = pixels_of(path)
        pixels = pixels if pixels.shape[:2] == (height, width) else np.rot90(pixels)
        if pixels.shape[:2] == (height, width):
            found.append(np.ascontiguousarray(pixels))
    sample = pixels_of(ROOT / "robuststream" / "samples" / "dog.png")
    sample = np.concatenate((sample, sample[:, ::-1]), axis=1)
    sample = np.concatenate((sample, sample[::-1]), axis=0)
    while len(found) < number:
        # Each begins elsewhere; what reaches over the edge begins anew on the other side.
        sample = np.roll(sample, (37, 61), axis=(0, 1))
        times = -(-height // sample.shape[0]), -(-width // sample.shape[1]), 1
        found.append(np.ascontiguousarray(np.tile(sample, times)[:height, :width]))
    return found


def pixels_of(path: Path) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


def psnr(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return 10 * np.log10(255**2 / error)


def interleaved(runs: int, *actions: Callable[[], object], until: float = float("inf")) -> list[float]:
    """Median seconds of each action, run in turn so that a slow moment hits all; one warm-up round first.

    After the time `until`, by time.perf_counter, no round begins but the warm-up and the first.
    """
    times: list[list[float]] = [[] for _ in actions]
    for round_number in range(runs + 1):
        if round_number > 1 and time.perf_counter() > until:
            break
        for action, kept in zip(actions, times, strict=True):
            start = time.perf_counter()
            action()
            if round_number:
                kept.append(time.perf_counter() - start)
    return [median(kept) for kept in times]


def child(code: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run Python code in a new process; its failure is ours."""
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise SystemExit(f"a child process failed:\n{done.stderr}")
    return done
