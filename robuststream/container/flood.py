"""Very many packet headers at once, compiled: what the scanner does one by one, for files made to keep it busy.

Headers nested in each other's payloads cost a plain search all that each one claims. Here every byte is summed into
one CRC-32C over the file, and that of each claimed payload comes out of that (prefixes.py). The scanner imports this
module only where a file makes it, because numba takes a while.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from robuststream.checksum import crc16
from robuststream.container.layout import MAX_PACKET_HEADER, MAX_PAYLOAD, MIN_PACKET_HEADER, PAYLOAD_CRC_BYTES, SYNC
from robuststream.container.packets import Packet
from robuststream.container.prefixes import SHIFTS, moved, sum_up
from robuststream.kernels import kernel

#: Bytes whose packets are searched for at once.
BLOCK = 1 << 20

_Words = npt.NDArray[np.uint32]


class Flood:
    """The search of section 10, block after block."""

    def __init__(self) -> None:
        # The CRC-32C's states before each byte from file position `_base` up to `_summed`. Only what lies between two
        # of them counts, so the first may be any.
        self._base = self._summed = 0
        self._states: _Words = np.zeros(self.reach + 1, np.uint32)

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
            found, start, length, number = _search(view, at, BLOCK, MAX_PAYLOAD, self._states, *_TABLES)
            if found < 0:
                return packets
            fields = bytes(data[found + len(SYNC) : found + len(SYNC) + 5])
            at = start + length + PAYLOAD_CRC_BYTES
            payload = bytes(data[start : start + length])
            packets.append(Packet(fields[0], fields[1:], number, payload, begin + found, at - found))

    def _sum(self, view: npt.NDArray[np.uint8], begin: int) -> None:
        """From now on `_states` are those of `view`, which begins at file position `begin`."""
        kept = max(0, self._summed - begin)
        if kept:
            self._states[: kept + 1] = self._states[begin - self._base :][: kept + 1]
        sum_up(view, kept, self._states)
        self._base, self._summed = begin, begin + len(view)


# --- Search ---------------------------------------------------------------------------------------------------------

_SYNC0, _SYNC1, _SYNC2 = SYNC


@kernel
def _search(data, at, block, limit, states, fields, zeros, shifts):  # type: ignore[no-untyped-def]
    """The first intact packet from `at` on.

    Args:
        data: uint8 (n,), from some position of the file on.
        at: where to begin, in bytes; a sync at `block` or later is not looked at, nor a payload above `limit` bytes.
        states: as prefixes.sum_up makes them.
        fields, zeros, shifts: _TABLES.

    Returns:
        Where the packet and its payload begin, the payload's length, and the packet's number; -1 where there is none.
    """
    size = len(data)
    last = min(block, size - MIN_PACKET_HEADER + 1)
    while at < last:
        # The three bytes of a sync differ: its last one says how far to go on (Horspool, 1980).
        byte = data[at + 2]
        if byte != _SYNC2:
            at += 1 if byte == _SYNC1 else 2 if byte == _SYNC0 else 3
            continue
        if data[at] != _SYNC0 or data[at + 1] != _SYNC1:
            at += 3
            continue
        offset, first = at, at + 3
        at += 3
        number, place = _varint(data, first + 5)
        length, place = _varint(data, place)
        if number >> 32 or length > limit or place + 2 > size:
            continue
        covered = place - first
        crc = zeros[covered]
        row = (covered - 1) << 8
        for i in range(covered):
            crc ^= fields[row - (i << 8) | data[first + i]]
        if crc != np.uint32(data[place]) | np.uint32(data[place + 1]) << np.uint32(8):
            continue
        start = place + 2
        end = start + length
        if end + PAYLOAD_CRC_BYTES <= size:
            summed = moved(states[first] ^ np.uint32(0xFFFFFFFF), covered, shifts) ^ states[place]
            state = moved(summed ^ states[start], length, shifts) ^ states[end]
            stored = np.uint32(0)
            for i in range(PAYLOAD_CRC_BYTES):
                stored |= np.uint32(data[end + i]) << np.uint32(8 * i)
            if state ^ stored == np.uint32(0xFFFFFFFF):
                return offset, start, length, number
    return -1, -1, -1, -1


@kernel
def _varint(data, at):  # type: ignore[no-untyped-def]
    """Value, and the place behind; 2^40 where section 2 is broken, or the data end."""
    size = len(data)
    # Most have one digit.
    if at < size and data[at] < 0x80:
        return np.int64(data[at]), at + 1
    value = np.int64(0)
    for digit in range(5):
        if at >= size:
            break
        byte = np.int64(data[at])
        at += 1
        value |= (byte & 0x7F) << 7 * digit
        if byte < 0x80:
            return (np.int64(1) << 40 if byte == 0 and digit else value), at
    return np.int64(1) << 40, at


# --- CRC-16 ---------------------------------------------------------------------------------------------------------

#: The most bytes that it covers: kind, stream id, number (5) and length (5).
_LONGEST = 15


def _field_table() -> _Words:
    """Entry [n << 8 | v]: what v adds with n bytes behind it."""
    rows = []
    for behind in range(_LONGEST):
        zeros = bytes(behind)
        rows += [crc16(bytes((value,)) + zeros) ^ crc16(b"\0" + zeros) for value in range(256)]
    return np.array(rows, np.uint32)


_TABLES = _field_table(), np.array([crc16(bytes(size)) for size in range(_LONGEST + 1)], np.uint32), SHIFTS
