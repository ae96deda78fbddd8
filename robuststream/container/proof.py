"""What is trusted, and why: the only place that decides it (spec/format.md, section 11).

| evidence | what follows |
|---|---|
| all tiles are at hand, and hash with the header to the stream id | all are proven, whatever else was found |
| all are at hand, and hash to another id | none is proven |
| not all; the header is one that nothing confirms | none is proven |
| not all; two HEADERs of the stream differ | none is proven |
| not all; two intact packets of one tile differ | that tile is not proven |
| not all, and nothing of this | every tile proves itself by a decode |

A tile proves itself when its string is decoded to its end, the end state is right and the digests are equal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from robuststream.container.layout import stream_id
from robuststream.container.packets import Mode, Tile
from robuststream.container.report import Outcome


class HeaderSource(Enum):
    """Where the header that counts is from, and whether this alone shows that it is the stream's own."""

    INTACT = "an intact HEADER packet"
    AGREED = "two HEADER packets with bits put right, which say the same"
    CORRECTED = "one HEADER packet with bits put right"
    RESTORED = "parity"
    COPY = "another copy of the stream"
    BORROWED = "another stream"

    @property
    def confirmed(self) -> bool:
        return self not in (HeaderSource.CORRECTED, HeaderSource.BORROWED)


@dataclass(frozen=True)
class Proof:
    """What speaks for and against a stream's header and tiles before a decode.

    Attributes:
        identity: the stream id.
        header_payload: of the HEADER that counts.
        tiles: how many it declares.
        source: where it is from.
        header_conflict: another HEADER of the stream differs from it.
        tile_conflicts: tiles of which two intact packets differ.
    """

    identity: bytes
    header_payload: bytes
    tiles: int
    source: HeaderSource
    header_conflict: bool = False
    tile_conflicts: frozenset[int] = frozenset()

    def owns(self, tiles: Mapping[int, Tile]) -> bool:
        """Whether the header and these, all the picture's tiles, hash to the stream id."""
        return stream_id(self.header_payload, (tiles[index] for index in sorted(tiles))) == self.identity

    def unproven(self, tiles: Mapping[int, Tile]) -> Collection[int]:
        """Which tiles a decode cannot prove, where these tiles are at hand."""
        if len(tiles) == self.tiles:
            return () if self.owns(tiles) else range(self.tiles)
        if self.header_conflict or not self.source.confirmed:
            return range(self.tiles)
        return self.tile_conflicts


def decoded(mode: Mode, whole: bool, repaired: bool) -> Outcome:
    """What a tile that decoded without a fault is called, where nothing speaks against its stream.

    Args:
        whole: to its end; else its words are a beginning, and the rest is an estimate.
        repaired: its bytes or parameters are not those that were read, but guessed or computed.
    """
    if not whole:
        return Outcome.CONCEALED
    if repaired:
        return Outcome.REPAIRED
    return Outcome.EXACT if mode == Mode.EXACT else Outcome.VERIFIED
