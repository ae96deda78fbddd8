"""Bytes to a stream, whatever happened to them (spec/format.md, section 10).

In three steps, each done once: *collect* the packets of the file, and what is left of damaged ones; *restore* what
parity gives back; *judge* what is proven, what is wrong, and where.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from robuststream.container import layout
from robuststream.container.choosing import Choice, choose, refuse_unknown
from robuststream.container.collect import Collected, Found
from robuststream.container.copies import Copy, Key, remains_of
from robuststream.container.judge import Judge, join_metadata
from robuststream.container.leftovers import salvage, sort_out
from robuststream.container.packets import Buffer, Header, Kind, Packet, Tile
from robuststream.container.proof import HeaderSource, Proof
from robuststream.container.remains import Remains
from robuststream.container.report import Finding, Rule
from robuststream.container.restoring import restored
from robuststream.container.stream import Stream
from robuststream.errors import RobustStreamError, StreamNotFound

if TYPE_CHECKING:
    from robuststream.container.transfer import Transfer

log = logging.getLogger(__name__)


def read_stream(data: bytes, lender: Stream | None = None, number: int = 0) -> Stream:
    """Find the stream in `data`, damaged or not, by what stands in it; parity is left alone.

    Args:
        lender: another stream of the same series; where no HEADER is left in `data`, its header is borrowed.
        number: which stream, where `data` holds several: 0 is the one whose intact HEADER comes first; others follow in
            the order of their first packets.

    Raises:
        StreamNotFound: there are not so many streams.
        NotARobustStream: no packet is in it.
        DamagedStream: packets are in it, but no header; or the lender's does not fit.
        UnsupportedVersion: a newer format.
    """
    return _read_file(data, lender, number, parity=False)


def read_restored(data: bytes, lender: Stream | None = None, number: int = 0) -> Stream:
    """As `read_stream`, with what parity gives back; a header is borrowed where that has none either."""
    return _read_file(data, lender, number, parity=True)


def read_streams(data: bytes) -> Iterator[Stream]:
    """All streams in `data` that have an intact HEADER; or the one that `read_stream` finds without. Raises as that.

    Each costs a scan of its own, when it is asked for.
    """
    first = read_stream(data)
    yield first
    for number in range(1, 1 + first.others):
        yield read_stream(data, number=number)


def _read_file(data: bytes, lender: Stream | None, number: int, parity: bool) -> Stream:
    collected = Collected(data)
    if not collected.begins_as_a_stream:
        # Here, because it imports NumPy.
        from robuststream.container.transfer import undone

        moved = undone(data)
        if moved is not None:
            return _read_moved(collected, *moved, lender, number, parity)
    return _read(_numbered(collected, number), lender, parity)


def _numbered(collected: Collected, number: int) -> Collected:
    """What stands in the same file of another of its streams."""
    if not number:
        return collected
    streams = collected.streams()
    if not 0 < number < len(streams):
        raise StreamNotFound(f"there is no stream {number}: {len(streams)} with a header are here, counted from 0")
    return Collected(collected.data, streams[number])


def _read_moved(
    came: Collected, sent: bytes, transfer: Transfer, lender: Stream | None, number: int, parity: bool
) -> Stream:
    """What is read with a transfer undone (section 10.3); tiles that CRCs alone gave back are restored ones.

    Args:
        came: the file as it came.
        sent: as it was sent, as far as that can be had.
    """
    try:
        stream = _read(_numbered(Collected(sent), number), lender, parity)
    except RobustStreamError as error:
        raise type(error)(f"{transfer.message} ({error})") from error
    finding = Finding(Rule.TRANSFER, transfer.message, 0, len(came.data))
    report = replace(stream.report, file_bytes=len(came.data), findings=(finding, *stream.report.findings))
    if not transfer.guessed:
        return replace(stream, report=report)
    if came.identity is None:
        came.choose(stream.stream_id)
    read = parse_tiles(stream.header, stream.stream_id, came.found) if came.identity == stream.stream_id else {}
    computed = {index for index, tile in stream.tiles.items() if read.get(index) != tile}
    return replace(stream, report=report, restored={*stream.restored, *computed})


def _read(collected: Collected, lender: Stream | None, parity: bool) -> Stream:
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
    tiles = parse_tiles(header, identity, found)
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
    report = Judge(collected, choice, header, left, tiles, salvaged).report(proof, unproven)

    added = _tiles_of(given, header, identity, tiles)
    every = {**tiles, **added}
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
        metadata=join_metadata(_notes(given, found, identity))[0],
        report=report,
        others=max(0, len(collected.streams()) - 1),
    )


def _identity(collected: Collected) -> bytes:
    assert collected.identity is not None
    return collected.identity


def parse_tiles(header: Header, identity: bytes, found: Found) -> dict[int, Tile]:
    """The intact tiles that section 6 allows, by index."""
    parsed = (
        layout.parse_tile(header, identity, index, packet.payload) for index, packet in sorted(found.tiles.items())
    )
    return {tile.index: tile for tile in parsed if tile is not None}


# --- Parity ---------------------------------------------------------------------------------------------------------


def _from_parity(
    choice: Choice, collected: Collected, remains: Sequence[Remains], header: Header
) -> Mapping[Key, Buffer]:
    """The packets that parity gives back, where some are wanting."""
    restoration, found = choice.restoration, collected.found
    if restoration is None:
        wanting = _lacks(found.tiles, header.tiles) or _lacks(found.notes, header.metadata_packets)
        if not header.parity or not wanting:
            return {}
        # Made only here: it holds a place and a view for every packet.
        restoration = restored(Copy(collected, remains), collected.identity)
        if restoration is None:
            return {}
    own = restoration.header
    if own is not None and layout.payload_of(own) != choice.payload:
        # Its tiles are cut by another header than the one that counts.
        return {}
    return {key: restoration.known[key] for key in restoration.solved}


def _lacks(there: Iterable[int], count: int) -> bool:
    """Whether a number from 0 to `count` - 1 is not there; others may be."""
    return sum(number < count for number in there) < count


def _tiles_of(
    given: Mapping[Key, Buffer], header: Header, identity: bytes, there: Mapping[int, Tile]
) -> dict[int, Tile]:
    tiles = {}
    for (kind, number), raw in sorted(given.items()):
        if kind == Kind.TILE and number not in there:
            tile = layout.parse_tile(header, identity, number, layout.payload_of(raw))
            if tile is not None:
                tiles[number] = tile
    return tiles


def _notes(given: Mapping[Key, Buffer], found: Found, identity: bytes) -> list[Packet]:
    notes = {
        number: Packet(kind, identity, number, bytes(layout.payload_of(raw)))
        for (kind, number), raw in given.items()
        if kind == Kind.METADATA
    }
    return list({**notes, **found.notes}.values())
