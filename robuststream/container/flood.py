"""Very many packet headers at once, compiled: what the scanner does one by one, for files made to keep it busy.

Headers nested in each other's payloads cost a plain search all that each one claims. Here every byte is summed into
one CRC-32C over the file, and that of each claimed payload comes out of it (prefixes.py). The scanner imports this
module only where a file makes it, because numba takes a while.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from robuststream.checksum import crc16
from robuststream.container.layout import MAX_PACKET_HEADER, MAX_PAYLOAD, MIN_PACKET_HEADER, PAYLOAD_CRC_BYTES, SYNC
from robuststream.container.packets import DamagedPacket, DamagedPackets, Kind, Packet
from robuststream.container.prefixes import SHIFTS, moved, prefix, short_crc, sum_up, word_at
from robuststream.kernels import kernel

#: Bytes whose packets are searched for at once.
BLOCK = 1 << 20

_Ints = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint32]


class Flood:
    """The search of section 10, block after block."""

    def __init__(self) -> None:
        # The CRC-32C from some file position on up to `_base`, and up to each fourth byte from there; no final XOR.
        self._base = self._summed = 0
        self._states: _Words = np.empty(self.reach // 4 + 4, np.uint32)
        self._states[0] = 0xFFFFFFFF
        self._rows: _Words = np.empty((BLOCK // MIN_PACKET_HEADER + 1, _COLUMNS), np.uint32)

    @property
    def block(self) -> int:
        return BLOCK

    @property
    def reach(self) -> int:
        """Bytes that a search must see: a block, and the longest packet that begins in it."""
        return BLOCK + MAX_PACKET_HEADER + MAX_PAYLOAD + PAYLOAD_CRC_BYTES

    def search(self, data: bytes | memoryview, begin: int) -> list[Packet | DamagedPackets]:
        """What begins in the first block of `data`, which begins at file position `begin`, and is in no earlier packet.

        `data` are `reach` bytes, or fewer where the file ends. The blocks of a file must come in its order.
        """
        view = np.frombuffer(data, np.uint8)
        self._sum(view, begin)
        events: list[Packet | DamagedPackets] = []
        at = 0
        while at < min(BLOCK, len(view)):
            # Where the last header of a call stands before an intact payload, all others are damaged.
            lead = begin - self._base
            count, at, intact = _search(view, at, BLOCK, MAX_PAYLOAD, self._states, lead, self._rows, *_TABLES)
            if count > intact:
                events.append(_Damaged(self._rows[: count - intact].copy(), begin))
            if intact:
                (packet,) = _Damaged(self._rows[count - 1 : count], begin)
                payload = bytes(data[packet.payload_start - begin : packet.payload_end - begin])
                size = begin + at - packet.offset
                events.append(Packet(packet.kind, packet.stream_id, packet.number, payload, packet.offset, size))
        return events

    def _sum(self, view: npt.NDArray[np.uint8], begin: int) -> None:
        """From now on states are wanted from `begin` on, up to the end of `view`, which begins there."""
        if not self._base <= begin <= self._summed:
            self._base = self._summed = begin
        # In whole steps of 8 bytes.
        gone = (begin - self._base) // 8 * 8
        self._base += gone
        at = self._summed - begin
        steps = (len(view) - at) // 8
        sum_up(view, at, steps, self._states, gone // 4, (self._summed - self._base) // 4)
        self._summed += 8 * steps


# --- Damaged packets ------------------------------------------------------------------------------------------------

#: A header's columns, small, since a hostile file holds one in each 12 bytes: offset from where the search began, with
#: the kind in the highest byte; length, with the header's size there; stream id; number.
_COLUMNS = 4
_OFFSET, _LENGTH, _IDENTITY, _NUMBER = range(_COLUMNS)
_LOW = (1 << 24) - 1


class _Damaged(DamagedPackets):
    """One or more headers without an intact payload; `begin` is the file position that their places count from."""

    def __init__(self, rows: _Words, begin: int) -> None:
        self._rows = rows
        self._begin = begin

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[DamagedPacket]:
        # Some at a time: Python's integers are large.
        for at in range(0, len(self._rows), 1 << 12):
            for first, second, identity, number in self._rows[at : at + (1 << 12)].tolist():
                offset = self._begin + (first & _LOW)
                start = offset + (second >> 24)
                end = start + (second & _LOW)
                yield DamagedPacket(first >> 24, identity.to_bytes(4, "little"), number, offset, start, end)

    def firsts(self) -> _Damaged:
        # Each takes its place in a table of hashes. What stands there before it is not looked at.
        table = np.empty(1 << 16, np.int64)
        return _Damaged(self._rows[_firsts(self._rows, table)], self._begin)

    def counts(self) -> Mapping[bytes, int]:
        identities, counts = np.unique(self._rows[:, _IDENTITY], return_counts=True)
        return {
            identity.to_bytes(4, "little"): count
            for identity, count in zip(identities.tolist(), counts.tolist(), strict=True)
        }

    def of(self, identity: bytes, tiles: int, others: bool) -> Iterator[DamagedPacket]:
        rows = self._rows[self._rows[:, _IDENTITY] == int.from_bytes(identity, "little")]
        is_tile = rows[:, _OFFSET] >> 24 == Kind.TILE
        # Numbers have 32 bits, and a header may declare more tiles.
        return iter(_Damaged(rows[np.where(is_tile, rows[:, _NUMBER] < float(tiles), others)], self._begin))


@kernel
def _firsts(rows, table):  # type: ignore[no-untyped-def]
    """Which rows differ in name from the one of the same hash before; `table` is space to work in, int64 (2^16,)."""
    first = np.ones(len(rows), np.bool_)
    for i in range(len(rows)):
        kind, identity, number = rows[i, _OFFSET] >> 24, rows[i, _IDENTITY], rows[i, _NUMBER]
        name = np.int64(identity) << 8 | np.int64(kind)
        # The highest bits of a product hang on all bits below; products of 64 bits wrap around.
        place = (name * 0x1E3779B97F4A7C15 + np.int64(number) * 0x3F58476D1CE4E5B9) >> 48 & 0xFFFF
        other = table[place]
        if 0 <= other < i:
            same = rows[other, _OFFSET] >> 24 == kind and rows[other, _IDENTITY] == identity
            first[i] = not (same and rows[other, _NUMBER] == number)
        table[place] = i
    return first


# --- Search ---------------------------------------------------------------------------------------------------------

_SYNC0, _SYNC1, _SYNC2 = SYNC


@kernel
def _search(data, at, block, limit, states, lead, rows, fields, zeros, shifts):  # type: ignore[no-untyped-def]
    """Fill `rows` with the headers whose CRC-16 holds, from `at` on, up to the first intact packet.

    Args:
        data: uint8 (n,), from some position of the file on.
        at: where to begin, in bytes; a sync at `block` or later is not looked at, nor a payload above `limit` bytes.
        states, lead: as prefixes.prefix takes them.
        rows: uint32 (m, _COLUMNS).
        fields, zeros, shifts: _TABLES.

    Returns:
        How many rows were filled, where to go on, and whether the last row is of an intact packet.
    """
    count, size = 0, len(data)
    if at < 0 or lead < 0:  # pragma: no cover: never; but so the compiler need not ask at each index
        return 0, size, False
    last = min(block, size - MIN_PACKET_HEADER + 1)
    while at < last:
        # The three bytes of a sync differ: its last one says how far to go on (Horspool, 1980).
        byte = data[np.uint64(at + 2)]
        if byte != _SYNC2:
            at += 1 if byte == _SYNC1 else 2 if byte == _SYNC0 else 3
            continue
        if data[np.uint64(at)] != _SYNC0 or data[np.uint64(at + 1)] != _SYNC1:
            at += 3
            continue
        if count == len(rows):
            return count, at, False
        offset, first = at, at + 3
        at += 3
        number, place = _varint(data, first + 5)
        length, place = _varint(data, place)
        if number >> 32 or length > limit or place + 2 > size:
            continue
        covered = place - first
        crc = zeros[np.uint64(covered)]
        row = (covered - 1) << 8
        # In two parts, of which the first has no loop.
        for i in range(_SHORTEST):
            crc ^= fields[np.uint64(row - (i << 8) | np.int64(data[np.uint64(first + i)]))]
        for i in range(_SHORTEST, covered):
            crc ^= fields[np.uint64(row - (i << 8) | np.int64(data[np.uint64(first + i)]))]
        if crc != np.uint32(data[np.uint64(place)]) | np.uint32(data[np.uint64(place + 1)]) << np.uint32(8):
            continue
        start = place + 2
        end = start + length
        intact = False
        if end + PAYLOAD_CRC_BYTES <= size:
            whole = moved(short_crc(data, first, place) ^ prefix(data, start, states, lead), length, shifts)
            intact = whole ^ prefix(data, end, states, lead) == word_at(data, end)
        rows[np.uint64(count), _OFFSET] = np.int64(data[np.uint64(first)]) << 24 | offset
        rows[np.uint64(count), _LENGTH] = (start - offset) << 24 | length
        rows[np.uint64(count), _IDENTITY] = word_at(data, first + 1)
        rows[np.uint64(count), _NUMBER] = number
        count += 1
        if intact:
            return count, end + PAYLOAD_CRC_BYTES, True
    # The last bytes hold no packet header.
    return count, min(block, size), False


@kernel
def _varint(data, at):  # type: ignore[no-untyped-def]
    """Value, and the place behind; 2^40 where section 2 is broken, or the data end."""
    size = len(data)
    # Most have one digit.
    if at < size and data[np.uint64(at)] < 0x80:
        return np.int64(data[np.uint64(at)]), at + 1
    value = np.int64(0)
    for digit in range(5):
        if at >= size:
            break
        byte = np.int64(data[np.uint64(at)])
        at += 1
        value |= (byte & 0x7F) << 7 * digit
        if byte < 0x80:
            return (np.int64(1) << 40 if byte == 0 and digit else value), at
    return np.int64(1) << 40, at


# --- CRC-16 ---------------------------------------------------------------------------------------------------------

#: Bytes of what it covers: kind, stream id, number (1 to 5) and length (1 to 5).
_SHORTEST, _LONGEST = 7, 15


def _field_table() -> _Words:
    """Entry [n << 8 | v]: what v adds with n bytes behind it."""
    rows = []
    for behind in range(_LONGEST):
        zeros = bytes(behind)
        rows += [crc16(bytes((value,)) + zeros) ^ crc16(b"\0" + zeros) for value in range(256)]
    return np.array(rows, np.uint32)


_TABLES = _field_table(), np.array([crc16(bytes(size)) for size in range(_LONGEST + 1)], np.uint32), SHIFTS
