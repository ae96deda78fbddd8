"""The best of several damaged copies, with what is proven put in and all else left as it was found."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from robuststream.container.collect import Collected
from robuststream.container.copies import Copy, key_of
from robuststream.container.layout import PAYLOAD_CRC_BYTES, SYNC
from robuststream.container.packets import Buffer, DamagedPacket, Key, Kind
from robuststream.container.writer import ORDER

#: File positions [start, end) that these bytes take the place of.
Edit = tuple[int, int, Buffer]


def patched(files: Sequence[Collected], copies: Sequence[Copy], known: Mapping[Key, Buffer]) -> bytes:
    """The copy that has most intact packets, with what it lacks put in.

    Args:
        files, copies: of one stream.
        known: packets that are intact in any of them, given back by parity, or proven.
    """
    best = best_of(files)
    file, copy = files[best], copies[best]
    damaged = {key_of(item.damaged.kind, item.damaged.number): item.damaged for item in reversed(copy.remains)}
    borders = _borders(file, copy)
    edits: list[Edit] = []
    header = known.get((Kind.HEADER, 0))
    if header is not None and (Kind.HEADER, 0) not in copy.intact:
        # First, so that no other stream's counts; and last.
        edits += [(0, 0, header), (len(file.data), len(file.data), header)]
    lacking: dict[Key, Buffer] = {}
    for key, raw in ((key, raw) for key, raw in known.items() if key not in copy.intact):
        place = damaged.get(key)
        if place is not None and _is_its_own(file.data, place, borders, len(raw)):
            edits.append((place.offset, place.offset + len(raw), raw))
        elif key[0] in ORDER:
            lacking[key] = raw
    for other, its in zip(files, copies, strict=True):
        limits = _borders(other, its)
        for item in its.remains:
            key = key_of(item.damaged.kind, item.damaged.number)
            if key[0] in ORDER and not any(key in there for there in (known, damaged, lacking)):
                end = min(item.damaged.payload_end + PAYLOAD_CRC_BYTES, _border(limits, item.damaged))
                lacking[key] = other.data[item.damaged.offset : end]
    edits += _insertions(file, lacking)
    return _edited(file.data, edits)


def _borders(file: Collected, copy: Copy) -> list[int]:
    """Where gaps begin and end, and damaged packets begin."""
    gaps = [place for gap in file.gaps for place in (gap.start, gap.end)]
    return sorted({*gaps, *(item.damaged.offset for item in copy.remains)})


def best_of(files: Sequence[Collected]) -> int:
    """The number of the copy that has most intact packets."""
    return max(range(len(files)), key=lambda number: len(files[number].found.order))


def _border(borders: Sequence[int], damaged: DamagedPacket) -> int:
    """How far a damaged packet reaches at most."""
    return borders[bisect_right(borders, damaged.offset)]


def _is_its_own(data: bytes, damaged: DamagedPacket, borders: Sequence[int], size: int) -> bool:
    """Whether the bytes that a damaged packet claims are those of a packet of this size, and of no other: nothing was
    cut out of it, as far as can be seen, and no other stream's packet begins in it."""
    end = damaged.payload_end + PAYLOAD_CRC_BYTES
    right = end - damaged.offset == size and end <= _border(borders, damaged)
    return right and data.find(SYNC, damaged.offset + 1, end) < 0


def _insertions(file: Collected, lacking: Mapping[Key, Buffer]) -> list[Edit]:
    """Each packet goes behind the one that should stand before it, as far as that is there."""
    there = sorted(
        (ORDER[packet.kind], packet.number, packet.offset + packet.size)
        for packet in file.found.order
        if packet.kind != Kind.HEADER
    )
    begin = next((packet.offset + packet.size for packet in file.found.order if packet.kind == Kind.HEADER), 0)
    edits: list[Edit] = []
    for (kind, number), raw in sorted(lacking.items(), key=lambda item: (ORDER[item[0][0]], item[0][1])):
        before = bisect_right(there, (ORDER[kind], number, 0))
        place = there[before - 1][2] if before else begin
        edits.append((place, place, raw))
    return edits


def _edited(data: bytes, edits: Sequence[Edit]) -> bytes:
    pieces: list[Buffer] = []
    at = 0
    # Those of one place in the order given; what is replaced does not overlap.
    for start, end, raw in sorted(edits, key=lambda edit: edit[:2]):
        pieces += [data[at:start], raw]
        at = max(at, end)
    return b"".join([*pieces, data[at:]])
