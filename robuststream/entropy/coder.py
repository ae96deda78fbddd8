"""Symbols to bytes and back for many tiles at once, one interface for both directions.

A walk (priors/walk.py) calls `code` once per step, `mark` at a checkpoint and reads the outcome at the end. The encoder
only collects until then, since rANS codes the last symbol first; the decoder decodes step by step. Tiles share nothing,
so each of several threads takes some of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robuststream.entropy import rans
from robuststream.entropy.order import arrange, lay
from robuststream.entropy.tables import CdfTables
from robuststream.workers import at_once, shares

Symbols = npt.NDArray[np.int32]
Rows = npt.NDArray[np.uint16]

REASONS = {
    rans.ENDED: "only a part of the tile survived",
    rans.SEAM: "z does not end at the seam",
    rans.TRUNCATED: "the rANS words end too soon",
    rans.ESCAPE: "an escaped value of more than 7 digits",
    rans.RANGE: "a symbol or state out of range",
}


#: Symbols that are worth a thread: some hundred microseconds.
LEAST = 1 << 15


@dataclass(frozen=True)
class CodedTile:
    """A tile's rANS string, and its length in words (state included) at each mark."""

    words: bytes
    marks: tuple[int, ...]


class TileEncoder:
    """Collects the symbols of T tiles of one shape."""

    def __init__(self, tables: CdfTables, tiles: int) -> None:
        self._tables = tables
        self._tiles = tiles
        self._steps: list[tuple[Rows, Symbols, bool]] = []
        self._marks: list[int] = []

    def code(self, rows: Rows, symbols: Symbols, by_scale: bool = False) -> None:
        """Take one step: uint16 and int32 (T, n), coded in element order, or `by_scale` from the largest row down."""
        rows, symbols = np.ascontiguousarray(rows), np.ascontiguousarray(symbols)
        _check(rows, self._tables)
        self._steps.append((rows, symbols, by_scale))

    def mark(self) -> None:
        self._marks.append(self._per_tile())

    def _per_tile(self) -> int:
        return sum(rows.shape[1] for rows, _, _ in self._steps)

    def finish(self) -> list[CodedTile]:
        """Code everything.

        Raises:
            ValueError: a value is too far from its table's range for 7 bypass digits (2^28).
        """
        parts = at_once(self._finish, shares(self._tiles, self._tiles * self._per_tile(), LEAST))
        return [tile for part in parts for tile in part]

    def _finish(self, share: slice) -> list[CodedTile]:
        """Code some of the tiles."""
        tiles, per_tile = share.stop - share.start, self._per_tile()
        rows, symbols = np.empty((tiles, per_tile), np.uint16), np.empty((tiles, per_tile), np.int32)
        at = 0
        for step_rows, step_symbols, by_scale in self._steps:
            order = _order(step_rows[share], by_scale, self._tables)
            lay(step_rows[share], step_symbols[share], order, at, rows, symbols)
            at += step_rows.shape[1]
        bounds = np.arange(tiles + 1, dtype=np.int64) * per_tile
        marks = np.tile(np.array(self._marks, np.int64), (tiles, 1))
        words = np.empty(rans.words_needed(tiles, symbols.size), np.uint32)
        tables = self._tables
        places, marked = rans.encode(
            symbols.ravel(), rows.ravel(), bounds, marks,
            tables.cdf, *tables.reciprocals, tables.starts, tables.lengths, tables.offsets, words,
        )  # fmt: skip
        if not len(places):
            raise ValueError("a symbol needs more than 7 bypass digits")
        return [
            CodedTile(words[places[tile] : places[tile + 1]].astype("<u4").tobytes(), tuple(map(int, marked[tile])))
            for tile in range(tiles)
        ]


class TileDecoder:
    """Decodes T tiles of one shape in lock-step.

    Args:
        tables: as the encoder's.
        strings: a rANS string for each tile.
        until_mark: tiles whose string ends at the mark; behind it they only yield zeros.
        marks: the number of words at which each string must meet its mark; None where that is not known.
        partial: tiles whose string breaks off somewhere behind the mark: they end there, without an error.
    """

    def __init__(
        self,
        tables: CdfTables,
        strings: Sequence[bytes | memoryview],
        until_mark: Sequence[bool],
        marks: Sequence[int | None] | None = None,
        partial: Sequence[bool] | None = None,
    ) -> None:
        tiles = len(strings)
        self._tables = tables
        self._marks = np.array([-1 if mark is None else mark for mark in marks or [None] * tiles], np.int64)
        self._until_mark = np.array(until_mark, bool)
        self._partial = np.array(partial or [False] * tiles, bool)
        #: Tiles that may run out of words now.
        self._may_end = self._partial & (self._marks < 0)
        pieces = [np.frombuffer(string, "<u4", len(string) // 4) for string in strings]
        self._bounds = np.concatenate(([0], np.cumsum([len(piece) for piece in pieces]))).astype(np.int64)
        self._words = np.concatenate([*pieces, np.zeros(0, "<u4")]).astype(np.uint32)
        self._states = np.zeros(tiles, np.uint64)
        self._positions = np.zeros(tiles, np.int64)
        #: int32 (T,), see entropy/rans.py.
        self.status = np.zeros(tiles, np.int32)
        rans.start(self._words, self._bounds, self._states, self._positions, self.status)

    def code(self, rows: Rows, by_scale: bool = False) -> Symbols:
        """Decode one step: uint16 (T, n) to int32 (T, n), in element order, however they are coded; zeros where a tile
        has failed or ended."""
        rows = np.ascontiguousarray(rows)
        _check(rows, self._tables)
        symbols = np.zeros(rows.shape, np.int32)
        tables = self._tables

        def decode(share: slice) -> None:
            rans.decode(
                self._words, self._bounds[share.start : share.stop + 1],
                self._states[share], self._positions[share], self.status[share],
                rows[share], _order(rows[share], by_scale, tables),
                tables.cdf, tables.starts, tables.lengths, tables.offsets, tables.lookup, symbols[share],
            )  # fmt: skip

        at_once(decode, shares(len(rows), rows.size, LEAST))
        self.status[self._may_end & (self.status == rans.TRUNCATED)] = rans.ENDED
        return symbols

    def mark(self) -> None:
        self._may_end = self._partial & (self.status == rans.OK)
        missed = (self._marks >= 0) & (self._positions - self._bounds[:-1] != self._marks)
        self.status[missed & (self.status == rans.OK)] = rans.SEAM
        self.stop(self._until_mark)

    def stop(self, tiles: npt.NDArray[np.bool_]) -> None:
        """Decode no more of these tiles."""
        self.status[tiles & (self.status == rans.OK)] = rans.ENDED

    def complete(self) -> npt.NDArray[np.bool_]:
        """bool (T,): all words are read and the state is back where the encoder began, a check that costs nothing."""
        at_end = self._positions == self._bounds[1:]
        done: npt.NDArray[np.bool_] = (self.status == rans.OK) & at_end & (self._states == rans.LOWER)
        return done


def _order(rows: Rows, by_scale: bool, tables: CdfTables) -> npt.NDArray[np.int32]:
    order = np.empty(rows.shape, np.int32)
    arrange(rows, by_scale, np.empty(tables.rows, np.int32), order)
    return order


def _check(rows: Rows, tables: CdfTables) -> None:
    if rows.dtype != np.uint16 or (rows.size and int(rows.max()) >= tables.rows):
        raise ValueError(f"CDF rows must be uint16 below {tables.rows}")
