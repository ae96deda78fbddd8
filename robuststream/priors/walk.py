"""One walk, two directions.

The order in which a prior computes entropy parameters and meets symbols is written once, as `Prior.walk`. It calls the
same methods of a Walk whichever way it goes, so encoder and decoder cannot drift apart:

                                Prior.walk
                                     │ rows, means
                         ┌─────►─────┴─────►─────┐
                         │                       │
                   EncodingWalk            DecodingWalk
    latents ──►── symbols ──►── rANS       rANS ──►── symbols ──►── latents
                                 │           │
                                 └── words ──┘

In the code of a prior:

    z_hat = walk.code("z", everything, rows, medians)       # a step: the symbols of one part of one latent
    walk.checkpoint()                                       # z is complete
    y_hat = walk.code("y", everything, rows, means)

A prior with context takes many steps and says which part of the latent each one is (`select`): a wavefront of places
for raster scan, a parity for a checkerboard, a slice for channel groups. All T tiles of a walk go in lock-step.

In the diagrams of these modules the dots on a line, ····, are the way through the file: what stands left of them is the
encoder's alone, and what leads to them from above both compute.
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
from robuststream.priors.digest import ContextDigest
from robuststream.priors.quantiser import Quantiser, Rows, Uniform
from robuststream.priors.repair import repaired_rows

Select = Callable[[Tensor], Tensor]
#: An exact network, or a native one: integers (or real numbers) in units of 2^-12 to the same, float64.
Runner = Callable[[Tensor], Tensor]
#: Given a tolerance, rows (T, n) that elements might have had at the encoder.
Doubts = Callable[[float], Tensor]

#: A tile in native mode has so many digests at most. A prior of no more steps has one for each, so rows can be repaired
#: step by step.
MAX_DIGESTS = 12
WHOLE = Uniform()


def everything(latent: Tensor) -> Tensor:
    """The step that takes a whole latent."""
    return latent


def integers(latents: Tensor) -> Tensor:
    """float64 at 2^-12 to int32: what is an integer already in exact mode, rounded in native mode."""
    return torch.round(latents).to(torch.int32)


def _on_host(rows: Tensor, means: Tensor) -> tuple[Rows, Tensor]:
    """Rows and means (float64) where symbols are coded: on the CPU. From another device, where both are integers, they
    come in one transfer of 6 bytes an element."""
    if rows.device.type == "cpu":
        return rows.to(torch.int32).numpy().astype(np.uint16), means.double()
    return _unpacked(_packed(rows, means).cpu(), rows.shape)


def _packed(rows: Tensor, means: Tensor) -> Tensor:
    """uint8: means as int32, then rows as u16; whichever device they are on."""
    # Rows above 32,767 wrap, and are what they were when their bits are read as those of u16.
    values = means.to(torch.int32), rows.to(torch.int16)
    return torch.cat([value.contiguous().view(torch.uint8).flatten() for value in values])


def _unpacked(packed: Tensor, shape: torch.Size) -> tuple[Rows, Tensor]:
    means, rows = torch.split(packed, [4 * shape.numel(), 2 * shape.numel()])
    # In memory of its own, since a view of 16 bits must begin where one may.
    return rows.clone().numpy().view(np.uint16).reshape(shape), means.view(torch.int32).reshape(shape).double()


def _back(latents: Tensor, device: torch.device) -> Tensor:
    """Latents to where the networks run; to another device as the integers they are there."""
    return latents if device.type == "cpu" else latents.to(torch.int32).to(device).double()


class Prior(Protocol):
    """An entropy model: how latents are coded."""

    #: y pixels per z pixel, 1 where there is no z.
    hyper_factor: int
    #: z is coded before y, and a tile carries a checkpoint after it.
    has_z: bool

    def analyse(self, y: Tensor) -> Mapping[str, Tensor]:
        """What an encoder codes for the latents y, float32 (T, M, h, w): each latent by name."""

    def walk(self, walk: Walk, height: int, width: int) -> Tensor:
        """Go through all steps for tiles of height x width latents; return y_hat, int32 (T, M, h, w) at 2^-12."""

    def steps(self, height: int, width: int) -> int:
        """How many steps y takes in such a tile."""


class Walk(ABC):
    """One pass over T tiles of one shape. Subclasses say where symbols come from.

    Args:
        tables: of the model.
        seed: first bytes of every digest, which name the model and the quality (container/tiles.py, digest_seed).
        tiles: T.
        native_steps: in native mode, how many steps y takes; None in exact mode.
    """

    def __init__(self, tables: CdfTables, seed: bytes, tiles: int, native_steps: int | None = None) -> None:
        self.tables = tables
        self.tiles = tiles
        self.digest = ContextDigest(seed, tiles)
        self._native_steps = native_steps
        self._steps_taken = 0

    def code(
        self,
        latent: str,
        select: Select,
        rows: Tensor,
        means: Tensor,
        doubts: Doubts | None = None,
        quantiser: Quantiser = WHOLE,
        by_scale: bool = False,
    ) -> Tensor:
        """Take one step.

        Args:
            latent: "y" or "z".
            select: picks this step's part, (T, ...), out of the whole latent.
            rows: CDF row of each element, integers (T, ...); element order is its memory order.
            means: in units of 2^-12 (T, ...): integers in exact mode.
            doubts: which other rows elements may have had at the encoder, for repair in native mode.
            quantiser: what symbols stand for; steps of 1 where not given.
            by_scale: symbols are coded from the largest scale down. They say most of the picture, and what is coded
                first is kept where a string breaks off. Otherwise coding order is element order.

        Returns:
            The latents, such as sat(symbol * 2^12 + mean), float64 (T, ...): integers in exact mode.
        """
        shape = rows.shape
        row_array, mean_array = _on_host(rows.reshape(self.tiles, -1), means.expand(shape).reshape(self.tiles, -1))
        if self._native_steps is None:
            self.digest.update(row_array, mean_array.to(torch.int32).numpy())
        else:
            row_array = self._native_step(latent, row_array, doubts)
        symbols = self._symbols(latent, select, row_array, mean_array, quantiser, by_scale)
        latents = quantiser.values(torch.from_numpy(symbols).double(), mean_array, row_array)
        return _back(latents.reshape(shape), rows.device)

    def _native_step(self, latent: str, rows: Rows, doubts: Doubts | None) -> Rows:
        before = self.digest.values
        self.digest.update(rows)
        if latent != "y":
            return rows
        assert self._native_steps is not None
        self._steps_taken += 1
        every = -(-self._native_steps // MAX_DIGESTS)
        if self._steps_taken % every and self._steps_taken < self._native_steps:
            return rows
        return self._group_ends(rows, before, doubts if every == 1 else None)

    @abstractmethod
    def _group_ends(self, rows: Rows, before: list[int], doubts: Doubts | None) -> Rows:
        """Here a digest stands: record or compare it. `before` are the digests without this step's rows."""

    @abstractmethod
    def checkpoint(self) -> None:
        """z is complete."""

    @abstractmethod
    def _symbols(
        self, latent: str, select: Select, rows: Rows, means: Tensor, quantiser: Quantiser, by_scale: bool
    ) -> npt.NDArray[np.int32]:
        """This step's symbols, int32 (T, n), in element order."""


class EncodingWalk(Walk):
    """Takes symbols from known latents.

    Args:
        targets: the latents to code, float32, by name.
    """

    def __init__(
        self,
        tables: CdfTables,
        seed: bytes,
        targets: Mapping[str, Tensor],
        native_steps: int | None = None,
    ) -> None:
        self._targets = targets
        super().__init__(tables, seed, len(next(iter(targets.values()))), native_steps)
        self.coder = TileEncoder(tables, self.tiles)
        self._recorded: list[list[int]] = []

    def digests(self, tile: int) -> tuple[int, ...]:
        """After the walk: the digests to store, the last one over everything."""
        if self._native_steps is None:
            return (self.digest.values[tile],)
        return tuple(values[tile] for values in self._recorded)

    def _group_ends(self, rows: Rows, before: list[int], doubts: Doubts | None) -> Rows:
        self._recorded.append(self.digest.values)
        return rows

    def _symbols(
        self, latent: str, select: Select, rows: Rows, means: Tensor, quantiser: Quantiser, by_scale: bool
    ) -> npt.NDArray[np.int32]:
        target = select(self._targets[latent]).reshape(self.tiles, -1).double()
        symbols = quantiser.symbols(target, means).to(torch.int32).numpy()
        self.coder.code(rows, symbols, by_scale)
        return symbols

    def checkpoint(self) -> None:
        self.coder.mark()


@dataclass(frozen=True)
class TileData:
    """What a decoder has of one tile.

    Attributes:
        words: the rANS string, or the beginning of it that is proven.
        digest, earlier: the stored digests, `earlier` in native mode only; None where only z is to be decoded, or
            where they are not proven.
        z_words: how many words there are up to the seam between z and y.
        partial: words are missing at the end. Symbols are decoded as far as the words tell them.
    """

    words: bytes | memoryview
    digest: int | None
    z_words: int | None = None
    earlier: tuple[int, ...] = ()
    partial: bool = False


def z_only(words: bytes | memoryview) -> TileData:
    """A tile of which z alone survived."""
    return TileData(words, None, len(words) // 4)


class DecodingWalk(Walk):
    """Decodes symbols. Where a tile has none left they are 0, so its latents are the means, the prior's best guess."""

    def __init__(
        self,
        tables: CdfTables,
        seed: bytes,
        tiles: Sequence[TileData],
        native_steps: int | None = None,
    ) -> None:
        super().__init__(tables, seed, len(tiles), native_steps)
        self._data = tiles
        strings, seams = [tile.words for tile in tiles], [tile.z_words for tile in tiles]
        # In native mode only a step's own digest says that its symbols are the encoder's.
        each = native_steps is None or native_steps <= MAX_DIGESTS
        until_mark = [not each if tile.partial else tile.digest is None for tile in tiles]
        self.coder = TileDecoder(tables, strings, until_mark, seams, [tile.partial for tile in tiles])
        self._stored = [(*tile.earlier, tile.digest) for tile in tiles]
        self._groups = 0
        self._desynced = np.zeros(len(tiles), bool)
        #: bool (T,): rows were repaired; the symbols are the encoder's where `fault` is None.
        self.repaired = np.zeros(len(tiles), bool)

    def _group_ends(self, rows: Rows, before: list[int], doubts: Doubts | None) -> Rows:
        number = self._groups
        self._groups += 1
        for tile, stored in enumerate(self._stored):
            wanted = stored[number] if number < len(stored) else None
            ended = self._data[tile].digest is None or self.coder.status[tile] == rans.ENDED
            if ended or self._desynced[tile] or wanted == self.digest.values[tile]:
                continue
            if wanted is None or not self._repair(tile, rows, before[tile], wanted, doubts):
                self._desynced[tile] = True
                self.coder.stop(np.arange(self.tiles) == tile)
        return rows

    def _repair(self, tile: int, rows: Rows, before: int, wanted: int, doubts: Doubts | None) -> bool:
        """Put right, in place, the rows of a tile whose digest is not the stored one."""
        if doubts is None or self.coder.status[tile] != rans.OK:
            return False
        found = repaired_rows(rows[tile], before, wanted, lambda tolerance: doubts(tolerance)[tile].numpy())
        if found is None:
            return False
        rows[tile] = found
        self.digest.values[tile] = wanted
        self.repaired[tile] = True
        return True

    def _symbols(
        self, latent: str, select: Select, rows: Rows, means: Tensor, quantiser: Quantiser, by_scale: bool
    ) -> npt.NDArray[np.int32]:
        return self.coder.code(rows, by_scale)

    def checkpoint(self) -> None:
        self.coder.mark()

    def fault(self, tile: int) -> str | None:
        """After the walk: why this tile's latents are not proven to be the encoder's, or None where they are."""
        if self._desynced[tile]:
            return DESYNC
        status = int(self.coder.status[tile])
        if status != rans.OK:
            return REASONS[status]
        wanted = self._data[tile].digest
        if wanted is not None and (self.digest.values[tile] != wanted or self._wrong_number(tile)):
            return DESYNC
        return None if bool(self.coder.complete()[tile]) else "the rANS state does not end where the encoder began"

    def _wrong_number(self, tile: int) -> bool:
        """Whether a tile has another number of digests than its walk compared."""
        return self._native_steps is not None and len(self._stored[tile]) != self._groups


ENDED = REASONS[rans.ENDED]
DESYNC = "the entropy parameters differ from those the encoder used"
