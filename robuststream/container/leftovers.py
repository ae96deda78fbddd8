"""What damaged packets of a stream are good for, once its header is known (spec/format.md, sections 6 and 10.1)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from robuststream.container import layout
from robuststream.container.collect import Found
from robuststream.container.correction import Corrected
from robuststream.container.packets import Candidate, DamagedPacket, Header, Kind, Salvage
from robuststream.container.remains import Remains
from robuststream.container.tiles import parse_tile, salvage_tile

#: To salvage tiles, payloads of at most this many times the file's size are looked at, all together. Those of true
#: packets do not overlap, so they are never more than the file; forged ones may all claim the same bytes.
SALVAGE = 2


@dataclass
class Leftovers:
    """What is left of damaged packets.

    Attributes:
        candidates: for tiles, by index, what they may be with bits put right; a decoder has to prove it.
        taken: packets of other kinds that a single flipped bit explains. Nothing but the CRCs can prove those.
        damaged: of all others, and of tiles, the first of each kind and number.
    """

    candidates: dict[int, tuple[Candidate, ...]] = field(default_factory=dict)
    taken: list[Corrected] = field(default_factory=list)
    damaged: dict[tuple[int, int], DamagedPacket] = field(default_factory=dict)


def sort_out(
    data: bytes,
    found: Found,
    header: Header,
    identity: bytes,
    remains: Iterable[Remains],
    headers: Sequence[Corrected] = (),
) -> Leftovers:
    """Sort what is left by its use. Packets that are taken are added to `found`, where it has none of that name.

    Args:
        headers: HEADER packets that were put right before.
    """
    left = Leftovers()
    put_right = {corrected.packet.offset for corrected in headers}
    for item in remains:
        kind, number = item.damaged.kind, item.damaged.number
        if kind == Kind.TILE:
            if number >= header.tiles or number in found.tiles:
                continue
            candidates = _candidates(data, header, identity, item)
            if candidates:
                left.candidates.setdefault(number, candidates)
            if candidates or item.header_whole:
                left.damaged.setdefault((kind, number), item.damaged)
        elif kind in (Kind.METADATA, Kind.INDEX, Kind.PARITY) and item.single and not found.has(kind, number):
            found.put(item.single)
            left.taken.append(item.explanations[0])
        elif item.header_whole and item.damaged.offset not in put_right:
            left.damaged.setdefault((kind, number), item.damaged)
    return left


def _candidates(data: bytes, header: Header, identity: bytes, remains: Remains) -> tuple[Candidate, ...]:
    """The explanations that section 6 allows, which means that a checkpoint holds.

    Where two bits are put right, the tile as it stands is added, if it differs: should that decode as well, a decode
    cannot tell them apart.
    """
    candidates = []
    for item in remains.explanations:
        number, payload = item.packet.number, item.packet.payload
        tile = parse_tile(header, identity, number, payload)
        if tile is not None:
            candidates.append(Candidate(tile, item.flips))
        end = item.packet.offset + item.packet.size - layout.PAYLOAD_CRC_BYTES
        before = parse_tile(header, identity, number, data[end - len(payload) : end])
        if before is not None and before != tile and len(item.flips) > 1:
            candidates.append(Candidate(before, ()))
    # The pairs of one packet header share what stands.
    return tuple(dict.fromkeys(candidates)) if any(candidate.flips for candidate in candidates) else ()


def salvage(
    data: bytes, header: Header, identity: bytes, left: Leftovers, whole: Collection[int]
) -> dict[int, Salvage]:
    """What checkpoints prove of damaged tiles: their beginnings. Not of those that are `whole` elsewhere."""
    salvaged = {}
    budget = SALVAGE * len(data)
    for (kind, number), damaged in left.damaged.items():
        if kind != Kind.TILE or number in whole:
            continue
        payload = data[damaged.payload_start : damaged.payload_end]
        budget -= len(payload)
        if budget < 0:
            break
        item = salvage_tile(header, identity, number, payload, damaged.payload_end - damaged.payload_start)
        if item is not None:
            salvaged[number] = item
    return salvaged
