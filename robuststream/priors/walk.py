"""One walk, two directions.

The order in which a prior computes entropy parameters and meets symbols is written once, as `Prior.walk`. It calls the
same three methods of a Walk whichever way it goes, so encoder and decoder cannot drift apart:

    z_hat = walk.code("z", everything, rows, medians)       # a step: the symbols of one part of one latent
    walk.checkpoint()                                       # z is complete
    y_hat = walk.code("y", everything, rows, means)

A prior with context takes many steps and says which part of the latent each one is (`select`): a position for raster
scan, a parity for a checkerboard, a slice for channel groups. All T tiles of a walk go in lock-step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robuststream.entropy import rans
from robuststream.entropy.coder import REASONS, TileDecoder, TileEncoder
from robuststream.entropy.tables import CdfTables
from robuststream.networks.fixedpoint import LIMIT, ONE, saturate
from robuststream.priors.digest import ContextDigest

Select = Callable[[Tensor], Tensor]


def everything(latent: Tensor) -> Tensor:
    """The step that takes a whole latent."""
    return latent


class Prior(Protocol):
    """An entropy model: how latents are coded."""

    #: y pixels per z pixel, 1 where there is no z.
    hyper_factor: int
    #: Checkpoints a tile carries.
    checkpoints: int

    def analyse(self, y: Tensor) -> Mapping[str, Tensor]:
        """What an encoder codes for the latents y, float32 (T, M, h, w): each latent by name."""

    def walk(self, walk: Walk, height: int, width: int) -> Tensor:
        """Go through all steps for tiles of height x width latents; return y_hat, int32 (T, M, h, w) at 2^-12."""


class Walk(ABC):
    """One pass over T tiles of one shape. Subclasses say where symbols come from."""

    def __init__(self, tables: CdfTables, parameters_digest: bytes, tiles: int) -> None:
        self.tables = tables
        self.tiles = tiles
        self.digest = ContextDigest(parameters_digest, tiles)

    def code(self, latent: str, select: Select, rows: Tensor, means: Tensor) -> Tensor:
        """Take one step.

        Args:
            latent: "y" or "z".
            select: picks this step's part, (T, ...), out of the whole latent.
            rows: CDF row of each element, integers (T, ...); the coding order is its memory order.
            means: integers at 2^-12 (T, ...).

        Returns:
            sat(symbol * 2^12 + mean), int32 (T, ...).
        """
        shape = rows.shape
        row_array = rows.reshape(self.tiles, -1).to(torch.int32).numpy().astype(np.uint16)
        mean_array = means.expand(shape).reshape(self.tiles, -1).to(torch.int32)
        self.digest.update(row_array, mean_array.numpy())
        symbols = self._symbols(latent, select, row_array, mean_array)
        return saturate(torch.from_numpy(symbols) * ONE + mean_array).reshape(shape)

    @abstractmethod
    def checkpoint(self) -> None:
        """z is complete."""

    @abstractmethod
    def _symbols(
        self, latent: str, select: Select, rows: npt.NDArray[np.uint16], means: Tensor
    ) -> npt.NDArray[np.int32]:
        """This step's symbols, int32 (T, n)."""


class EncodingWalk(Walk):
    """Takes symbols from known latents.

    Args:
        targets: the latents to code, float32, by name.
    """

    def __init__(self, tables: CdfTables, parameters_digest: bytes, targets: Mapping[str, Tensor]) -> None:
        self._targets = targets
        super().__init__(tables, parameters_digest, len(next(iter(targets.values()))))
        self.coder = TileEncoder(tables, self.tiles)

    def _symbols(
        self, latent: str, select: Select, rows: npt.NDArray[np.uint16], means: Tensor
    ) -> npt.NDArray[np.int32]:
        target = select(self._targets[latent]).reshape(self.tiles, -1).double()
        exact_means = means.double()
        symbols = torch.round(target - exact_means / ONE)
        # Within these, neither the saturation of latents nor a decoder's limit on symbols (2^13) ever acts.
        symbols = torch.maximum(symbols, torch.ceil((-LIMIT - exact_means) / ONE))
        symbols = torch.minimum(symbols, torch.floor((LIMIT - exact_means) / ONE))
        return self.coder.code(rows, symbols.to(torch.int32).numpy())

    def checkpoint(self) -> None:
        self.coder.mark()


@dataclass(frozen=True)
class TileData:
    """What a decoder has of one tile. `digest` is None where the string ends with z, after `z_words` words."""

    words: bytes
    digest: int | None
    z_words: int | None = None


def z_only(words: bytes) -> TileData:
    """A tile of which z alone survived."""
    return TileData(words, None, len(words) // 4)


class DecodingWalk(Walk):
    """Decodes symbols. Where a tile has none left they are zeros, and its latents the means: y is concealed."""

    def __init__(self, tables: CdfTables, parameters_digest: bytes, tiles: Sequence[TileData]) -> None:
        super().__init__(tables, parameters_digest, len(tiles))
        self._data = tiles
        strings, seams = [tile.words for tile in tiles], [tile.z_words for tile in tiles]
        self.coder = TileDecoder(tables, strings, [tile.digest is None for tile in tiles], seams)

    def _symbols(
        self, latent: str, select: Select, rows: npt.NDArray[np.uint16], means: Tensor
    ) -> npt.NDArray[np.int32]:
        return self.coder.code(rows)

    def checkpoint(self) -> None:
        self.coder.mark()

    def fault(self, tile: int) -> str | None:
        """After the walk: why this tile's latents are not proven to be the encoder's, or None where they are."""
        status = int(self.coder.status[tile])
        if status != rans.OK:
            return REASONS[status]
        if self.digest.values[tile] != self._data[tile].digest:
            return DESYNC
        return None if bool(self.coder.complete()[tile]) else "the rANS state does not end where the encoder began"


Z_ONLY = REASONS[rans.ENDED]
DESYNC = "the entropy parameters differ from those the encoder used"
