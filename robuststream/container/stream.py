"""What a reader gives: a stream as found."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from robuststream.container.packets import Candidate, Header, Metadata, Salvage, Tile
from robuststream.container.proof import Proof
from robuststream.container.report import StreamReport


@dataclass(frozen=True)
class Stream:
    """A stream as found: `tiles` are whole and checked, `salvaged` are beginnings of others; the rest are lost.

    Attributes:
        header, header_payload: that count, read and as they stand.
        stream_id: 4 bytes.
        tiles: by index.
        candidates: for damaged tiles, what they may be with one or two bits put right: exactly one of a tile's
            candidates has to pass a decode. Such a tile may be salvaged as well.
        salvaged: by index.
        restored: those of `tiles` that parity gave back.
        unproven: tiles that a decode does not prove, as long as no candidates are added.
        proof: what decides that.
        metadata: blocks that are whole.
        report: what is wrong, and where.
        others: how many more streams the file holds that have a header.
    """

    header: Header
    header_payload: bytes
    stream_id: bytes
    tiles: Mapping[int, Tile]
    candidates: Mapping[int, tuple[Candidate, ...]]
    salvaged: Mapping[int, Salvage]
    restored: Collection[int]
    unproven: Collection[int]
    proof: Proof
    metadata: Metadata
    report: StreamReport
    others: int = 0
