"""Which stream of a file is read, and which header counts (spec/format.md, section 10).

The first intact HEADER says both. Without one the likely streams are tried: a HEADER with flipped bits put right, then
one that parity gives back, then one that is borrowed.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from robuststream.container import layout
from robuststream.container.borrowing import Loan, lend
from robuststream.container.collect import Collected, Found, likely
from robuststream.container.copies import Copy, remains_of
from robuststream.container.correction import Corrected
from robuststream.container.packets import Buffer, Kind, is_critical
from robuststream.container.parity import MIN_SYMBOL
from robuststream.container.proof import HeaderSource
from robuststream.container.remains import Search
from robuststream.container.restoring import Restoration, restored
from robuststream.container.stream import Stream
from robuststream.errors import DamagedStream, NotARobustStream, UnsupportedVersion


@dataclass(frozen=True)
class Choice:
    """The header that counts.

    Attributes:
        payload: of the HEADER packet.
        source: where it is from.
        corrected: HEADER packets with bits put right, of fewest flips first, where none is intact.
        restoration: where parity gave it back.
        loan: where it is borrowed.
        missing: what is said of the file where it is neither intact nor put right.
    """

    payload: Buffer
    source: HeaderSource
    corrected: tuple[Corrected, ...] = ()
    restoration: Restoration | None = None
    loan: Loan | None = None
    missing: str = ""


def choose(collected: Collected, lender: Stream | None = None, parity: bool = False) -> Choice:
    """Choose the stream, so that its packets are `collected.found`, and its header.

    Args:
        lender: another stream of the same series.
        parity: use it, where nothing else gives a header.

    Raises:
        NotARobustStream: no packet is in the file.
        DamagedStream: packets are in it, but no header; or the lender's does not fit.
        UnsupportedVersion: a header is to be borrowed for a stream with packets of a newer format.
    """
    if collected.found.headers:
        return Choice(collected.found.headers[0].payload, HeaderSource.INTACT)
    ids = likely(collected)
    for identity in ids:
        corrected = corrected_headers(collected, identity)
        if corrected:
            collected.choose(identity)
            payload = corrected[0].packet.payload
            agreed = any(copy.packet.payload == payload for copy in corrected[1:])
            return Choice(payload, HeaderSource.AGREED if agreed else HeaderSource.CORRECTED, tuple(corrected))
    error = refusal(collected)
    # A damaged PARITY packet lies in a gap that has room for a symbol.
    room = any(gap.end - gap.start > MIN_SYMBOL for gap in collected.gaps)
    parity = parity and (room or collected.intact[Kind.PARITY] > 0)
    if ids and (parity or lender is not None):
        collected.choose(ids[0])
        restoration = restored(Copy(collected, remains_of(collected)), ids[0]) if parity else None
        if restoration is not None and (Kind.HEADER, 0) in restoration.known:
            payload = layout.payload_of(restoration.known[Kind.HEADER, 0])
            return Choice(payload, HeaderSource.RESTORED, restoration=restoration, missing=str(error))
        if lender is not None and isinstance(error, DamagedStream):
            refuse_unknown(collected.found)
            loan = lend(lender, ids[0], collected.found)
            return Choice(loan.payload, loan.source, loan=loan, missing=str(error))
    raise error


def refuse_unknown(found: Found) -> None:
    """Raise UnsupportedVersion where a stream has a packet that must be understood, and this release does not."""
    for packet in found.unknown.values():
        if packet.kind == Kind.UNIT:
            raise UnsupportedVersion(f"a UNIT packet at byte {packet.offset} is no part of a stream of tiles")
        if is_critical(packet.kind):
            raise UnsupportedVersion(
                f"packet kind {packet.kind:#04x} at byte {packet.offset} must be understood, and this release "
                "does not know it: use a newer robuststream"
            )


def corrected_headers(collected: Collected, identity: bytes) -> list[Corrected]:
    """Damaged HEADER packets of a stream that are explained in one way only, put right; those of fewest flips first."""
    copies: list[Corrected] = []
    search = Search(collected.data, collected.gaps, identity, lambda kind, number: kind == Kind.HEADER)
    for remains in search.run():
        with contextlib.suppress(DamagedStream):
            if len(remains.explanations) == 1:
                layout.parse_header(remains.explanations[0].packet.payload)
                copies += remains.explanations
    return sorted(copies, key=lambda copy: len(copy.flips))


def refusal(collected: Collected) -> NotARobustStream | DamagedStream:
    """Why a file without a HEADER cannot be read."""
    data, intact = collected.data, collected.intact
    if not intact:
        begin = f"they begin with {data[:8].hex(' ')}" if data else "the input is empty"
        return NotARobustStream(f"no robuststream packet in {len(data)} bytes ({begin})")
    if Kind.UNIT in intact:
        return DamagedStream(
            "this is a packed CompressAI unit and no stream of tiles: use robuststream.compressai.unpack"
        )
    return DamagedStream(
        f"no HEADER packet survived in {len(data)} bytes ({intact[Kind.TILE]} intact tiles stand without one)"
    )
