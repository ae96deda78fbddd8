"""The context digest: what a decoder compares before it trusts a symbol (spec/format.md, section 16)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from robuststream.checksum import crc32c


class ContextDigest:
    """CRC-32C, per tile, over the model's parameter digest and then each coding step's parameters in coding order.

    A step adds its CDF rows as little-endian u16, then its means as little-endian i32, each in coding order.
    """

    def __init__(self, parameters_digest: bytes, tiles: int) -> None:
        self.values = [crc32c(parameters_digest)] * tiles

    def update(self, rows: npt.NDArray[np.uint16], means: npt.NDArray[np.int32]) -> None:
        """Add a step: (T, n) each."""
        row_bytes = np.ascontiguousarray(rows, "<u2")
        mean_bytes = np.ascontiguousarray(means, "<i4")
        self.values = [
            crc32c(mean_bytes[tile].tobytes(), crc32c(row_bytes[tile].tobytes(), value))
            for tile, value in enumerate(self.values)
        ]
