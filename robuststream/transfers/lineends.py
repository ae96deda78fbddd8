"""Puts back, packet by packet, what a text-mode transfer took from a stream (spec/format.md, section 10.3).

Where CRLF became LF, or each CR is gone, nothing in the bytes says where. The packets do: a packet header has a CRC-16
and few places, the next sync tells how many bytes of the payload are missing, and the payload's CRC-32C at which of the
places (insertions.py).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from robuststream.container import layout
from robuststream.container.layout import GUARD, MAX_PACKET_HEADER, PAYLOAD_CRC_BYTES, SYNC, PacketFields
from robuststream.container.packets import Header, Kind
from robuststream.container.tiles import MAX_TILE_FIELDS, WORD, checkpoint_crc, parse_tile, split_tile
from robuststream.errors import DamagedStream, UnsupportedVersion
from robuststream.transfers.insertions import Change, cost, explain

#: How many sets of changes may be looked at: WORK for each byte of the file, and SPARE more for small files. A second
#: is enough for 5 million.
WORK, SPARE = 8, 1 << 22
#: How many halves of sets may be held, of some 64 bytes each: for each byte of the file, and more for small files.
HALVES, SPARE_HALVES = 16, 1 << 14
#: Bytes that may be missing, or changed, in a packet header.
MAX_IN_HEAD = 3
#: What it costs to try a packet header, and the fields of a TILE, in sets.
TRY, TRY_FIELDS = 1 << 5, 1 << 9
#: Sync and kind have no line end.
FIRST = len(SYNC) + 1
#: Where no packet header is whole, the stream id is guessed from this many.
ASKED = 64
#: Bytes that may be missing, or changed, before a TILE's words and up to its seam; and how many bytes there are before
#: the words: MIN_TILE_FIELDS, and SUM_BYTES for each sum.
MAX_IN_FRONT = 3
MIN_TILE_FIELDS, SUM_BYTES = 10, 2
#: Bytes behind the last packet that a transfer may have added: an end of line.
ADDED = 2


@dataclass(frozen=True)
class _Place:
    """A packet header as it was, and where it and what follows it stand: [at, start) and [start, end) of the file."""

    at: int
    start: int
    end: int
    head: bytes
    fields: PacketFields
    crc: int


@dataclass(frozen=True)
class _Job:
    """A packet's payload and CRC-32C as they came, up to `end` of the file, and how many bytes are missing of them."""

    place: _Place
    body: bytes
    end: int
    missing: int
    cost: int


def rebuild(data: bytes, change: Change, guard: bytes) -> bytes:
    """The stream with all packets put right that can be. Others, and what lies between, stay as they came.

    Args:
        data: the file.
        change: what the transfer did.
        guard: what it made of the HEADER's guard.
    """
    return _Rebuilder(data, change, guard).result()


class _Rebuilder:
    def __init__(self, data: bytes, change: Change, guard: bytes) -> None:
        self._data = data
        self._change = change
        self._guard = guard
        self._work = SPARE + WORK * len(data)
        self._halves = SPARE_HALVES + HALVES * len(data)
        self._header: dict[bytes, Header] = {}
        #: By packet header and what followed it: copies of the HEADER are solved once.
        self._solved: dict[tuple[bytes, bytes], bytes | None] = {}

    def result(self) -> bytes:
        places = self._places()
        jobs = [job for place in places for job in self._jobs(place, place is places[-1])]
        # HEADERs first: they say what a TILE must be. Then what is had for the least work.
        jobs.sort(key=lambda job: (job.place.fields.kind != Kind.HEADER, job.cost))
        found: dict[int, tuple[int, bytes]] = {}
        for job in jobs:
            if job.place.at not in found:
                body = self._body(job)
                if body is not None:
                    found[job.place.at] = job.end, body
        pieces, at = [], 0
        for place in places:
            end, body = found.get(place.at) or self._front(place) or (place.start, b"")
            pieces += [self._data[at : place.at], place.head, body]
            at = end
        return b"".join([*pieces, self._data[at:]])

    # --- Packet headers --------------------------------------------------------------------------------------------

    def _places(self) -> list[_Place]:
        """All packet headers that can be read, in file order, of stream ids that whole ones have."""
        syncs = _find_all(self._data, SYNC)
        whole = {at: next(self._heads(at, 0), None) for at in syncs}
        identities = {head.fields.stream_id for head in whole.values() if head is not None}
        if not identities:
            # A byte of the id itself is missing everywhere.
            seen = Counter(
                identity
                for at in syncs[:ASKED]
                for identity in {head.fields.stream_id for head in self._every_head(at)}
            )
            identities = {identity for identity, _ in seen.most_common(1)}
        places: list[_Place] = []
        for at in syncs:
            head = whole[at] or next((h for h in self._every_head(at) if h.fields.stream_id in identities), None)
            if head is not None:
                if places:
                    places[-1] = replace(places[-1], end=at)
                places.append(head)
        return places

    def _every_head(self, at: int) -> Iterator[_Place]:
        for changes in range(MAX_IN_HEAD + 1):
            yield from self._heads(at, changes)

    def _heads(self, at: int, changes: int) -> Iterator[_Place]:
        """Packet headers at `at` whose CRC-16 holds with this many changes."""
        window = self._data[at : at + MAX_PACKET_HEADER]
        gaps = [place for place in self._change.gaps(window) if FIRST <= place < MAX_PACKET_HEADER]
        flips = [place for place in self._change.flips(window) if place >= FIRST]
        for missing in range(changes + 1) if gaps else (0,):
            for chosen in self._change.sets(gaps, missing):
                for turned in itertools.combinations(flips, changes - missing):
                    self._work -= TRY
                    if self._work < 0:
                        return
                    made = self._change.undone(window, chosen, turned)
                    parsed = layout.parse_packet_header(made)
                    # Nothing behind the packet header is changed here.
                    last = max([*(place + missing for place in chosen), *(place + missing for place in turned), 0])
                    if parsed is not None and last < parsed[2] + (missing > 0):
                        start = at + parsed[2] - missing
                        yield _Place(at, start, len(self._data), made[: parsed[2]], parsed[0], parsed[1])

    # --- Payloads --------------------------------------------------------------------------------------------------

    def _jobs(self, place: _Place, last: bool) -> Iterator[_Job]:
        """What may be the packet's payload and CRC-32C: all up to the next packet, or no more than it declares."""
        length = place.fields.length + PAYLOAD_CRC_BYTES
        ends = {min(place.end - added, place.start + length) for added in range(ADDED + 1 if last else 1)}
        for end in sorted(ends, reverse=True):
            body = self._data[place.start : end]
            if place.fields.kind == Kind.HEADER and self._guard in body[1 : 2 + len(self._guard)]:
                body = body.replace(self._guard, GUARD, 1)
            work = cost(body, length - len(body), self._change, self._halves)
            if work is not None:
                yield _Job(place, body, end, length - len(body), work)

    def _body(self, job: _Job) -> bytes | None:
        """Payload and CRC-32C as they were, where the format allows exactly one of the solutions."""
        key = job.place.head, job.body
        if key not in self._solved and self._work >= job.cost:
            self._work -= job.cost
            solutions = explain(job.place.crc, job.body, job.missing, self._change)
            allowed = [body for body in solutions if self._allowed(job.place.fields, body[:-PAYLOAD_CRC_BYTES])]
            self._solved[key] = allowed[0] if len(allowed) == 1 else None
        return self._solved.get(key)

    def _allowed(self, fields: PacketFields, payload: bytes) -> bool:
        """Whether the format allows such a payload; a HEADER is kept."""
        if fields.kind == Kind.HEADER:
            try:
                self._header.setdefault(fields.stream_id, layout.parse_header(payload))
            except DamagedStream:
                return False
            except UnsupportedVersion:
                pass
        header = self._header.get(fields.stream_id)
        if fields.kind != Kind.TILE or header is None:
            return True
        return parse_tile(header, fields.stream_id, fields.number, payload) is not None

    # --- What a TILE's checkpoint proves ---------------------------------------------------------------------------

    def _front(self, place: _Place) -> tuple[int, bytes] | None:
        """Of a TILE that is lost, its fields and the words up to the seam, and where they end in the file.

        Little is changed there, and the checkpoint is a CRC-32C over those words: z can be decoded (section 6).
        """
        header = self._header.get(place.fields.stream_id)
        if place.fields.kind != Kind.TILE or header is None or not header.z_checkpoint:
            return None
        for changes in range(MAX_IN_FRONT + 1):
            for made, missing, further in self._tile_fields(place, header, changes):
                self._work -= TRY_FIELDS
                if self._work < 0:
                    return None
                front = self._words(place, header, made, missing, further)
                if front is not None:
                    return front
        return None

    def _tile_fields(self, place: _Place, header: Header, changes: int) -> Iterator[tuple[bytes, int, int]]:
        """How the payload may begin, how many bytes are missing there, and how many changes are left for the words."""
        window = self._data[place.start : min(place.end, place.start + MAX_TILE_FIELDS)]
        most = MIN_TILE_FIELDS + SUM_BYTES * header.checkpoints
        gaps = [gap for gap in self._change.gaps(window) if gap <= most]
        flips = [flip for flip in self._change.flips(window) if flip < most]
        for missing in range(changes + 1 if gaps else 1):
            for turned in range(changes - missing + 1 if flips else 1):
                for chosen in self._change.sets(gaps, missing):
                    for places in itertools.combinations(flips, turned):
                        yield self._change.undone(window, chosen, places), missing, changes - missing - turned

    def _words(
        self, place: _Place, header: Header, made: bytes, missing: int, further: int
    ) -> tuple[int, bytes] | None:
        """The fields at the start of `made` and the words up to the seam, of which `further` bytes are missing."""
        split = split_tile(header, made)
        if split is None:
            return None
        size, z_words = split[0].size, split[0].z_words
        assert z_words is not None
        start = place.start + size - missing
        end = start + z_words * WORD - further
        stored = split[0].crc.to_bytes(PAYLOAD_CRC_BYTES, "little")
        body = self._data[start:end] + stored
        work = cost(body, further, self._change, self._halves) if start < end <= place.end else None
        if work is None or work > self._work:
            return None
        self._work -= work
        seed = checkpoint_crc(header, place.fields.stream_id, place.fields.number, b"")
        words = [item for item in explain(seed, body, further, self._change) if item.endswith(stored)]
        return (end, made[:size] + words[0][:-PAYLOAD_CRC_BYTES]) if len(words) == 1 else None


def _find_all(data: bytes, pattern: bytes) -> Sequence[int]:
    found, at = [], data.find(pattern)
    while at >= 0:
        found.append(at)
        at = data.find(pattern, at + 1)
    return found
