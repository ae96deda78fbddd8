"""Bytes in, events out: finds packets in anything, in pieces of any size (spec/format.md, section 10).

An intact packet is passed over whole; behind a false or damaged one the search resumes one byte after its sync. Packet
by packet that is fast for all that writers and accidents make. But packet headers that claim each other as payload make
it read the same bytes again and again. Where that becomes too much, the rest of the file goes to flood.py, which finds
the same packets in time linear in the bytes, whatever they say, a large block at a time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from robuststream.checksum import crc32c
from robuststream.container.layout import (
    MAX_PACKET_HEADER,
    PAYLOAD_CRC_BYTES,
    SYNC,
    parse_packet_header,
)
from robuststream.container.packets import Buffer, Event, Gap, Packet

if TYPE_CHECKING:
    from robuststream.container.flood import Flood

_Step = Generator[Event, None, bool]

#: Work without a result is counted in bytes summed into a CRC-32C. A false or damaged header costs HEADER_COST (about
#: what it takes to parse one) and its payload; each byte of progress pays for PACE; where more than PATIENCE is owed,
#: the rest of the file is a flood.
HEADER_COST = 1 << 16
PACE = 8
PATIENCE = 1 << 26
#: Bytes of a file that are fed at a time.
PIECE = 1 << 20


def scan(data: bytes) -> Iterator[Event]:
    """All events of `data`."""
    scanner = Scanner()
    view = memoryview(data)
    for start in range(0, len(data), PIECE):
        yield from scanner.feed(view[start : start + PIECE])
    yield from scanner.close()


class Scanner:
    """Incremental, without input or output of its own.

        scanner = Scanner()
        for piece in pieces:
            for event in scanner.feed(piece): ...
        for event in scanner.close(): ...

    Packets and Gaps come in file order and together are the whole file. A Gap comes when its end is known, a Packet as
    soon as its bytes are there; in a flood both come later, by up to a block and the largest payload.
    """

    def __init__(self) -> None:
        self._window = _Window()
        self._at = 0  # file position up to which all is decided
        self._gap: int | None = None  # where undecided loss began
        self._owed = 0  # work without a result that progress has not paid for
        self._paid = 0  # file position up to which progress has paid
        self._flood: Flood | None = None

    def feed(self, data: Buffer) -> Iterator[Event]:
        """Take the next bytes of the file; yield what they complete."""
        self._window.append(data)
        yield from self._advance(final=False)

    def close(self) -> Iterator[Event]:
        """The file ends here; yield what is left."""
        yield from self._advance(final=True)
        if self._gap is not None and self._window.end > self._gap:
            yield Gap(self._gap, self._window.end)
            self._gap = None

    def _advance(self, final: bool) -> Iterator[Event]:
        going = True
        while going:
            step = self._one(final) if self._flood is None else self._block(self._flood, final)
            going = yield from step

    # --- One by one ------------------------------------------------------------------------------------------------

    def _one(self, final: bool) -> _Step:
        """Decide on the next sync; False where more of the file is needed."""
        window = self._window
        found = window.find(SYNC, self._at)
        if found is None:
            # A sync's first bytes may stand at the end.
            self._skip_to(window.end if final else max(self._at, window.end - len(SYNC) + 1))
            return False
        self._skip_to(found)
        if window.end - found < MAX_PACKET_HEADER and not final:
            return False
        head = parse_packet_header(window.slice(found, found + MAX_PACKET_HEADER))
        if head is None:
            self._in_vain(found, 0)
            return True
        fields, crc, size = head
        start = found + size
        end = start + fields.length
        stop = end + PAYLOAD_CRC_BYTES
        if window.end < stop and not final:
            return False
        payload = window.slice(start, end)
        if window.end >= stop and crc32c(payload, crc) == int.from_bytes(window.slice(end, stop), "little"):
            yield from self._intact(Packet(fields.kind, fields.stream_id, fields.number, payload, found, stop - found))
        else:
            self._in_vain(found, len(payload))
        return True

    def _intact(self, packet: Packet) -> Iterator[Event]:
        self._skip_to(packet.offset)
        if self._gap is not None:
            yield Gap(self._gap, packet.offset)
            self._gap = None
        yield packet
        self._at = packet.offset + packet.size
        self._window.forget(self._at)

    def _in_vain(self, found: int, summed: int) -> None:
        """No intact packet begins at `found`, which took `summed` bytes of CRC-32C to see."""
        self._skip_to(found + 1)
        self._owed = max(0, self._owed - PACE * (self._at - self._paid)) + HEADER_COST + summed
        self._paid = self._at
        if self._owed > PATIENCE:
            # Here, because it imports numba.
            from robuststream.container.flood import Flood

            self._flood = Flood()

    def _skip_to(self, position: int) -> None:
        """Nothing intact begins between here and `position`."""
        if position > self._at and self._gap is None:
            self._gap = self._at
        self._at = position
        self._window.forget(position)

    # --- In a flood ------------------------------------------------------------------------------------------------

    def _block(self, flood: Flood, final: bool) -> _Step:
        """Decide on all syncs of the next block; False where more of the file is needed."""
        window, begin = self._window, self._at
        if window.end < begin + flood.reach and not final:
            return False
        with window.view(begin, begin + flood.reach) as data:
            packets = flood.search(data, begin)
        for packet in packets:
            yield from self._intact(packet)
        self._skip_to(max(self._at, min(begin + flood.block, window.end)))
        return self._at < window.end


class _Window:
    """The part of the file still needed, by file position."""

    def __init__(self) -> None:
        self._space = bytearray()
        self._base = 0  # file position that the space begins with
        self._start = 0  # file position up to which all is forgotten
        self.end = 0  # file position behind what was appended

    def append(self, data: Buffer) -> None:
        """Where the space is full, what is still needed moves to its front; it is large enough that this is rare."""
        if self.end - self._base + len(data) > len(self._space):
            size = self.end - self._start
            space = self._space if size + len(data) <= len(self._space) else bytearray(2 * (size + len(data)))
            with self.view(self._start, self.end) as kept, memoryview(space) as front:
                front[:size] = kept
            self._space = space
            self._base = self._start
        at = self.end - self._base
        self._space[at : at + len(data)] = data
        self.end += len(data)

    def slice(self, start: int, end: int) -> bytes:
        with self.view(start, end) as view:
            return bytes(view)

    def view(self, start: int, end: int) -> memoryview:
        """Without a copy. It must be released before anything is appended."""
        return memoryview(self._space)[start - self._base : min(end, self.end) - self._base]

    def find(self, pattern: bytes, start: int) -> int | None:
        found = self._space.find(pattern, start - self._base, self.end - self._base)
        return None if found < 0 else found + self._base

    def forget(self, before: int) -> None:
        self._start = before
