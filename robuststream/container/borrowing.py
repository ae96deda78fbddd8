"""The header of another stream, for one that lost every HEADER of its own (spec/format.md, section 10.2)."""

from __future__ import annotations

from dataclasses import dataclass

import construct as c

from robuststream.container import layout
from robuststream.container.collect import Found
from robuststream.container.proof import HeaderSource
from robuststream.container.stream import Stream
from robuststream.container.tiles import parse_tiles
from robuststream.errors import DamagedStream


@dataclass(frozen=True)
class Loan:
    """What is taken for the lost HEADER.

    Attributes:
        payload: of the HEADER packet.
        lender: id of the stream that it is from.
        source: another copy of the stream, or another stream.
        hashes: all tiles are intact, and hash with it to the stream id, so it is the lost one.
    """

    payload: bytes
    lender: bytes
    source: HeaderSource
    hashes: bool = False

    def __str__(self) -> str:
        if self.source is HeaderSource.COPY:
            return "no HEADER packet survived: it is taken from another copy of the stream"
        what = f"no HEADER packet survived: that of stream {self.lender.hex()} is borrowed"
        if self.hashes:
            return f"{what}, and with all tiles it hashes to the stream id: it is the one that was lost"
        return f"{what}, and nothing confirms the size and place of what decodes with it"


def lend(lender: Stream, identity: bytes, found: Found) -> Loan:
    """Lend a header to a stream.

    Raises:
        DamagedStream: the stream shows that the header does not fit.
    """
    _check_size(lender, found)
    tiles = parse_tiles(lender.header, identity, found.tile_payloads())
    if found.tiles and not tiles:
        raise _misfit(lender, f"none of {len(found.tiles)} intact tiles is of its model, mode and quality")
    payloads = _payloads(lender, found)
    if identity == lender.stream_id:
        source = HeaderSource.BORROWED if lender.unproven else HeaderSource.COPY
        return Loan(lender.header_payload, lender.stream_id, source)
    if len(tiles) == lender.header.tiles:
        for payload in payloads:
            if layout.stream_id(payload, tiles.values()) == identity:
                return Loan(payload, lender.stream_id, HeaderSource.BORROWED, hashes=True)
    return Loan(payloads[0], lender.stream_id, HeaderSource.BORROWED)


def _check_size(lender: Stream, found: Found) -> None:
    """What the stream itself says of its size: the indexes of its tiles, and how many its INDEX places."""
    header, highest = lender.header, max(found.tiles, default=-1)
    if highest >= header.tiles:
        raise _misfit(lender, f"it is of {header.tiles} tiles, and here is a tile {highest}")
    if found.index is not None:
        try:
            listed = len(layout.INDEX.parse(found.index.payload))
        except c.ConstructError:
            return
        if listed != header.tiles:
            raise _misfit(lender, f"it is of {header.tiles} tiles, and the INDEX of {listed}")


def _payloads(lender: Stream, found: Found) -> list[bytes]:
    """What the lost payload may have been, the likeliest first: the lender's, but for what differs within a series.

    That is how many METADATA packets there are, and whether there is parity. The packets found speak for themselves.
    """
    payload = lender.header_payload
    # A hostile number may be the highest of all, and one more fits no header.
    notes = min(max(found.notes, default=-1) + 1, layout.MAX_VARINT)
    payloads = [payload if notes == lender.header.metadata_packets else _with(payload, layout.TAG_METADATA, notes)]
    payloads.append(payload)
    if not found.parity:
        payloads += [_with(other, layout.TAG_PARITY, 0) for other in payloads]
    return list(dict.fromkeys(payloads))


def _with(payload: bytes, tag: int, number: int) -> bytes:
    """A HEADER payload with one field changed (left out where it is 0). Fields this release does not know stay."""
    parsed = layout.HEADER.parse(payload)
    fields = {field.tag: field.value for field in parsed.fields}
    fields.pop(tag, None)
    if number:
        fields[tag] = layout.NUMBER.build(number)
    listed = [{"tag": tag, "value": fields[tag]} for tag in sorted(fields)]
    return bytes(layout.HEADER.build({"major": parsed.major, "minor": parsed.minor, "fields": listed}))


def _misfit(lender: Stream, why: str) -> DamagedStream:
    return DamagedStream(
        f"no HEADER packet survived, and that of stream {lender.stream_id.hex()} does not fit: {why}; borrow from a "
        "stream of the same size, tile side, model and settings"
    )
