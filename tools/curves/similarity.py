"""MS-SSIM as pytorch_msssim computes it, several times as fast: thousands of pictures are held against few photographs.

Z. Wang, E. P. Simoncelli, A. C. Bovik, Multiscale structural similarity for image quality assessment, Asilomar 2003.
Each channel of RGB by itself, then their mean, as published rate-distortion curves of learned codecs have it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
WINDOW, SIGMA = 11, 1.5
#: The window fits into the coarsest scale of nothing smaller.
SMALLEST_SIDE = WINDOW << (len(WEIGHTS) - 1)


@dataclass(frozen=True)
class Scale:
    """A picture at one scale: its values, their local means, and the local means of their squares."""

    values: Array
    means: Array
    squares: Array


def scales(pixels: npt.NDArray[np.uint8]) -> list[Scale]:
    """uint8 (H, W, 3), of `SMALLEST_SIDE` pixels a side at least. Halving leaves an odd row or column out."""
    values = pixels.astype(np.float32)
    found = []
    for number in range(len(WEIGHTS)):
        if number:
            height, width = (side // 2 for side in values.shape[:2])
            values = cv2.resize(values[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        found.append(Scale(values, _blurred(values), _blurred(values * values)))
    return found


def ms_ssim(one: list[Scale], other: list[Scale]) -> float:
    """1 for equal pictures."""
    product = np.ones(3)
    for number, (a, b, weight) in enumerate(zip(one, other, WEIGHTS, strict=True)):
        covariance = _blurred(a.values * b.values) - a.means * b.means
        variances = a.squares + b.squares - a.means**2 - b.means**2
        similarity = (2 * covariance + C2) / (variances + C2)
        if number == len(WEIGHTS) - 1:
            similarity *= (2 * a.means * b.means + C1) / (a.means**2 + b.means**2 + C1)
        product *= np.maximum(similarity.mean(axis=(0, 1), dtype=np.float64), 0) ** weight
    return float(product.mean())


def _blurred(values: Array) -> Array:
    """Gaussian local means, where the window lies inside."""
    places = np.arange(WINDOW) - WINDOW // 2
    kernel = np.exp(-(places**2) / (2 * SIGMA**2))
    kernel /= kernel.sum()
    inside = slice(WINDOW // 2, -(WINDOW // 2))
    blurred: Array = cv2.sepFilter2D(values, cv2.CV_32F, kernel, kernel)[inside, inside]
    return blurred
