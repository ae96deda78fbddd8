"""Bytes to a stream, whatever happened to them (spec/format.md, section 10).

In three steps, each done once: *collect* the packets of the file, and what is left of damaged ones; *restore* what
parity gives back; *judge* what is proven, what is wrong, and where.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from robuststream.container import layout
from robuststream.container.choosing import Choice, choose, refuse_unknown
from robuststream.container.collect import Collected
from robuststream.container.copies import Copy, remains_of
from robuststream.container.judge import Judge
from robuststream.container.leftovers import salvage, sort_out
from robuststream.container.metadata import join_metadata
from robuststream.container.packets import Buffer, Header, Key, Kind, Packet
from robuststream.container.proof import HeaderSource, Proof
from robuststream.container.remains import Remains
from robuststream.container.restoring import restored
from robuststream.container.stream import Stream
from robuststream.container.tiles import parse_tiles

log = logging.getLogger(__name__)


def read(collected: Collected, lender: Stream | None = None, parity: bool = False) -> Stream:
    """The stream that was collected, damaged or not.

    Args:
        lender: another stream of the same series; where no HEADER is left in the file, its header is borrowed.
        parity: with what that gives back.

    Raises:
        NotARobustStream: no packet is in the file.
        DamagedStream: packets are in it, but no header; or the lender's does not fit.
        UnsupportedVersion: a newer format.
    """
    data = collected.data
    choice = choose(collected, lender, parity)
    if parity and lender is not None and choice.source is HeaderSource.INTACT:
        log.warning("stream %s has a HEADER of its own: none is borrowed", _identity(collected).hex())
    found, identity = collected.found, _identity(collected)
    header = layout.parse_header(choice.payload)
    refuse_unknown(found)
    found.headers += [corrected.packet for corrected in choice.corrected]
    if not found.headers:
        found.headers.append(Packet(Kind.HEADER, identity, 0, choice.payload))

    remains = list(remains_of(collected, header.tiles))
    left = sort_out(data, found, header, identity, remains, choice.corrected)
    tiles = parse_tiles(header, identity, found.tile_payloads())
    metadata, faults = join_metadata(found.notes.values())
    given = _from_parity(choice, collected, remains, header) if parity else {}
    salvaged = salvage(data, header, identity, left, whole=tiles)
    proof = Proof(
        identity=identity,
        header_payload=bytes(choice.payload),
        tiles=header.tiles,
        source=choice.source,
        header_conflict=any(packet.payload != choice.payload for packet in found.headers),
        tile_conflicts=frozenset(found.conflicts),
    )
    # With all tiles at hand every word is hashed for this: once.
    unproven = proof.unproven(tiles)
    report = Judge(collected, choice, header, left, tiles, salvaged, faults).report(proof, unproven)

    lost = {number: payload for (kind, number), payload in given.items() if kind == Kind.TILE and number not in tiles}
    added = parse_tiles(header, identity, lost)
    every = {**tiles, **added}
    notes = {n: Packet(kind, identity, n, payload) for (kind, n), payload in given.items() if kind == Kind.METADATA}
    if notes:
        metadata, _ = join_metadata({**notes, **found.notes}.values())
    return Stream(
        header=header,
        header_payload=proof.header_payload,
        stream_id=identity,
        tiles=every,
        candidates={index: item for index, item in left.candidates.items() if index not in added},
        salvaged={index: item for index, item in salvaged.items() if index not in added},
        restored=added.keys(),
        unproven=proof.unproven(every) if added else unproven,
        proof=proof,
        metadata=metadata,
        report=report,
        others=max(0, len(collected.streams()) - 1),
    )


def _identity(collected: Collected) -> bytes:
    assert collected.identity is not None
    return collected.identity


# --- Parity ---------------------------------------------------------------------------------------------------------


def _from_parity(
    choice: Choice, collected: Collected, remains: Sequence[Remains], header: Header
) -> Mapping[Key, Buffer]:
    """The payloads that parity gives back, where some are wanting."""
    restoration, found = choice.restoration, collected.found
    if restoration is None:
        wanting = _lacks(found.tiles, header.tiles) or _lacks(found.notes, header.metadata_packets)
        if not header.parity or not wanting:
            return {}
        # Made only here: it holds a place and a view for every packet.
        restoration = restored(Copy(collected, remains), _identity(collected))
        if restoration is None:
            return {}
    own = restoration.header
    if own is not None and layout.payload_of(own) != choice.payload:
        # Its tiles are cut by another header than the one that counts.
        return {}
    return {key: layout.payload_of(restoration.known[key]) for key in restoration.solved}


def _lacks(there: Iterable[int], count: int) -> bool:
    """Whether a number from 0 to `count` - 1 is not there; others may be."""
    return sum(number < count for number in there) < count
