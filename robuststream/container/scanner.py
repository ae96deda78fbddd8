"""Bytes in, events out: finds packets in anything, in pieces of any size (spec/format.md, section 10).

The scan is linear in time, whatever the bytes say: an intact packet is passed over whole; behind a false or damaged
one the search resumes one byte after its sync, and no byte is summed into a CRC again, because a payload's CRC is
taken from prefix CRCs. At most one payload of the largest size is held.
"""

from __future__ import annotations

from collections.abc import Iterator

from robuststream.checksum import crc32c, crc32c_shift
from robuststream.container.layout import (
    MAX_PACKET_HEADER,
    MAX_PAYLOAD,
    PAYLOAD_CRC_BYTES,
    SYNC,
    parse_packet_header,
)
from robuststream.container.packets import DamagedPacket, Event, Gap, Packet


class Scanner:
    """Incremental, without input or output of its own.

        scanner = Scanner()
        for piece in pieces:
            for event in scanner.feed(piece): ...
        for event in scanner.close(): ...

    Events come in file order of their start; a Gap comes when its end is known. A DamagedPacket lies inside a Gap.
    """

    def __init__(self) -> None:
        self._window = _Window()
        self._at = 0  # file position up to which all is decided
        self._gap: int | None = None  # where undecided loss began

    def feed(self, data: bytes) -> Iterator[Event]:
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
        window = self._window
        while True:
            found = window.find(SYNC, self._at)
            if found is None:
                # A sync's first bytes may stand at the end.
                stop = window.end if final else max(self._at, window.end - len(SYNC) + 1)
                self._skip_to(stop)
                return
            self._skip_to(found)
            if window.end - found < MAX_PACKET_HEADER and not final:
                return
            head = parse_packet_header(window.slice(found, found + MAX_PACKET_HEADER))
            if head is None:
                self._skip_to(found + 1)
                continue
            fields, crc, size = head
            start = found + size
            end = start + fields.length
            stop = end + PAYLOAD_CRC_BYTES
            if window.end < stop and not final:
                return
            if window.end >= stop and window.crc(crc, start, end) == int.from_bytes(window.slice(end, stop), "little"):
                if self._gap is not None:
                    yield Gap(self._gap, found)
                    self._gap = None
                payload = window.slice(start, end)
                yield Packet(fields.kind, fields.stream_id, fields.number, payload, found, stop - found)
                self._at = stop
                window.forget(stop)
            else:
                self._skip_to(found + 1)
                yield DamagedPacket(fields.kind, fields.stream_id, fields.number, found, start, end)

    def _skip_to(self, position: int) -> None:
        """Nothing intact begins between here and `position`."""
        if position > self._at and self._gap is None:
            self._gap = self._at
        self._at = position
        self._window.forget(position)


class _Window:
    """The part of the file still needed, by file position, with prefix CRCs over what was summed already."""

    GRID = 1024

    def __init__(self) -> None:
        self._data = bytearray()
        self._base = 0
        # Prefix CRCs at _sum_base, _sum_base + GRID, ...: each over the file from where the run of sums began.
        self._sums: list[int] = []
        self._sum_base = 0

    @property
    def end(self) -> int:
        return self._base + len(self._data)

    def append(self, data: bytes) -> None:
        self._data += data

    def slice(self, start: int, end: int) -> bytes:
        return bytes(self._data[start - self._base : end - self._base])

    def find(self, pattern: bytes, start: int) -> int | None:
        found = self._data.find(pattern, start - self._base)
        return None if found < 0 else found + self._base

    def forget(self, before: int) -> None:
        # In steps, so that the cost of moving the rest stays small against the bytes that go.
        if before - self._base > MAX_PAYLOAD or before == self.end:
            del self._data[: before - self._base]
            self._base = before

    def crc(self, seed: int, start: int, end: int) -> int:
        """CRC-32C of file positions [start, end), going on from `seed`, at the cost of two grid cells."""
        cell = (start - self._sum_base) // self.GRID
        if cell >= len(self._sums) or self._sum_base + cell * self.GRID < self._base:
            self._sums, self._sum_base = [0], start
        elif cell > MAX_PAYLOAD // self.GRID:
            del self._sums[:cell]
            self._sum_base += cell * self.GRID
        return crc32c_shift(seed ^ self._prefix(start), end - start) ^ self._prefix(end)

    def _prefix(self, position: int) -> int:
        cell = (position - self._sum_base) // self.GRID
        while len(self._sums) <= cell:
            edge = self._sum_base + len(self._sums) * self.GRID
            self._sums.append(crc32c(self.slice(edge - self.GRID, edge), self._sums[-1]))
        edge = self._sum_base + cell * self.GRID
        return crc32c(self.slice(edge, position), self._sums[cell])
