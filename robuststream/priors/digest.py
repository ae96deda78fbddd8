"""The context digest: what a decoder compares before it trusts a symbol (spec/format.md, section 16).

    seed │ z: rows, means │ y, step 1: rows, means │ step 2: rows, means │ ...   ──►── CRC-32C

Decoder and encoder have the same digest where they computed the same parameters, and by chance in one of 2^32 other
cases.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from robuststream.checksum import crc32c


class ContextDigest:
    """CRC-32C, per tile, over the seed and then each coding step's parameters in element order.

    The seed names the model and the quality index. A step adds its CDF rows as little-endian u16, then, in exact mode,
    its means as little-endian i32, each in element order.
    """

    def __init__(self, seed: bytes, tiles: int) -> None:
        self.values = [crc32c(seed)] * tiles

    def update(self, rows: npt.NDArray[np.uint16], means: npt.NDArray[np.int32] | None = None) -> None:
        """Add a step: (T, n) each."""
        for array, kind in ((rows, "<u2"), (means, "<i4")):
            if array is not None:
                data = np.ascontiguousarray(array, kind)
                self.values = [crc32c(data[tile].tobytes(), value) for tile, value in enumerate(self.values)]
