"""Very many packet headers at once, compiled: what the scanner does one by one, for files made to keep it busy.

Headers nested in each other's payloads cost a plain search all that each one claims. Here every byte is summed into
one CRC-32C over the file, and that of each claimed payload comes out of it (prefixes.py). The scanner imports this
module only where a file makes it, because numba takes a while.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from robuststream.checksum import crc16
from robuststream.container.layout import MAX_PACKET_HEADER, MAX_PAYLOAD, MIN_PACKET_HEADER, PAYLOAD_CRC_BYTES, SYNC
from robuststream.container.packets import Packet
from robuststream.container.prefixes import SHIFTS, moved, prefix, short_crc, sum_up, word_at
from robuststream.kernels import kernel

#: Bytes whose packets are searched for at once.
BLOCK = 1 << 20

_Words = npt.NDArray[np.uint32]


class Flood:
    """The search of section 10, block after block."""

    def __init__(self) -> None:
        # The CRC-32C from some file position on up to `_base`, and up to each fourth byte from there; no final XOR.
        self._base = self._summed = 0
        self._states: _Words = np.empty(self.reach // 4 + 4, np.uint32)
        self._states[0] = 0xFFFFFFFF

    @property
    def block(self) -> int:
        return BLOCK

    @property
    def reach(self) -> int:
        """Bytes that a search must see: a block, and the longest packet that begins in it."""
        return BLOCK + MAX_PACKET_HEADER + MAX_PAYLOAD + PAYLOAD_CRC_BYTES

    def search(self, data: bytes | memoryview, begin: int) -> list[Packet]:
        """What begins in the first block of `data`, which begins at file position `begin`, and is in no earlier packet.

        `data` are `reach` bytes, or fewer where the file ends. The blocks of a file must come in its order.
        """
        view = np.frombuffer(data, np.uint8)
        self._sum(view, begin)
        packets: list[Packet] = []
        at = 0
        while True:
            found, start, length, number = _search(
                view, at, BLOCK, MAX_PAYLOAD, self._states, begin - self._base, *_TABLES
            )
            if found < 0:
                return packets
            fields = bytes(data[found + len(SYNC) : found + len(SYNC) + 5])
            at = start + length + PAYLOAD_CRC_BYTES
            payload = bytes(data[start : start + length])
            packets.append(Packet(fields[0], fields[1:], number, payload, begin + found, at - found))

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


# --- Search ---------------------------------------------------------------------------------------------------------

_SYNC0, _SYNC1, _SYNC2 = SYNC


@kernel
def _search(data, at, block, limit, states, lead, fields, zeros, shifts):  # type: ignore[no-untyped-def]
    """The first intact packet from `at` on.

    Args:
        data: uint8 (n,), from some position of the file on.
        at: where to begin, in bytes; a sync at `block` or later is not looked at, nor a payload above `limit` bytes.
        states, lead: as prefixes.prefix takes them.
        fields, zeros, shifts: _TABLES.

    Returns:
        Where the packet and its payload begin, the payload's length, and the packet's number; -1 where there is none.
    """
    size = len(data)
    if at < 0 or lead < 0:  # pragma: no cover: never; but so the compiler need not ask at each index
        return -1, -1, -1, -1
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
        if end + PAYLOAD_CRC_BYTES <= size:
            whole = moved(short_crc(data, first, place) ^ prefix(data, start, states, lead), length, shifts)
            if whole ^ prefix(data, end, states, lead) == word_at(data, end):
                return offset, start, length, number
    return -1, -1, -1, -1


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
