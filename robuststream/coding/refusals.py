"""Where a decode raises, since there is nothing to conceal from, or since `strict` asks for it. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from robuststream.container.proof import HeaderSource
from robuststream.container.report import Finding, Outcome, Rule, StreamReport
from robuststream.container.stream import Stream
from robuststream.errors import ContextDesync, DamagedStream, RobustStreamError


def refuse_empty(stream: Stream) -> None:
    """Raises DamagedStream where there is nothing to decode."""
    if not stream.tiles and not stream.salvaged and not stream.candidates:
        raise _nothing_left(stream)


def refuse_nothing(stream: Stream, report: StreamReport) -> None:
    """Raises DamagedStream where bits were put right in the only tiles there are, or a header is borrowed, and no
    decode proves any of them.
    """
    borrowed = stream.proof.source in (HeaderSource.COPY, HeaderSource.BORROWED)
    guessed = borrowed or not (stream.tiles or stream.salvaged)
    if guessed and all(tile.outcome == Outcome.MISSING for tile in report.tiles):
        raise _nothing_left(stream)


def _nothing_left(stream: Stream) -> DamagedStream:
    return DamagedStream(f"none of the {stream.header.tiles} tiles survived ({stream.report.findings[0]})")


def damage(findings: Sequence[Finding], left_out: int = 0) -> RobustStreamError:
    """What a strict decode raises where something is wrong or missing."""
    for finding in findings:
        if finding.rule == Rule.DESYNC:
            return ContextDesync(
                f"tile {finding.tile}: the entropy parameters differ from those the encoder used, so this machine or "
                "model does not compute what the encoder's did; decode without strict to conceal the tile"
            )
    more = len(findings) + left_out - 1
    return DamagedStream(f"{findings[0]}" + (f" (and {more} more findings)" if more else ""))
