"""Very many packet headers at once, in NumPy: what the scanner does one by one, for files made to keep it busy.

Headers nested in each other's payloads cost a plain search all that each one claims. Here every byte is summed into
one CRC-32C over the file, and that of each claimed payload comes out of two of its prefixes (spec/format.md, section
10), for all headers of a block together. The scanner imports this module only where a file makes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from robuststream.checksum import crc16, crc32c, crc32c_shift
from robuststream.container.layout import MAX_PACKET_HEADER, MAX_PAYLOAD, PAYLOAD_CRC_BYTES, SYNC
from robuststream.container.packets import DamagedPacket, DamagedPackets, Packet

#: Bytes whose packets are searched for at once: enough to keep NumPy's own cost small, few enough for a cache.
BLOCK = 1 << 18
#: Bytes of file between two CRCs that are not computed by NumPy; even.
CELL = 256

_Bytes = npt.NDArray[np.uint8]
_Ints = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]


class Flood:
    """The search of section 10, block after block."""

    def __init__(self) -> None:
        self._sums = _PrefixSums(0)

    @property
    def block(self) -> int:
        return BLOCK

    @property
    def reach(self) -> int:
        """Bytes that a search must see: a block, the longest packet that begins in it, and a cell's rest."""
        return BLOCK + MAX_PACKET_HEADER + MAX_PAYLOAD + PAYLOAD_CRC_BYTES + CELL

    def search(self, data: bytes, begin: int) -> Iterator[Packet | DamagedPackets]:
        """What begins in the first block of `data`, which begins at file position `begin`, and is in no earlier packet.

        `data` are `reach` bytes, or fewer where the file ends. The blocks of a file must come in its order.
        """
        padded = data.ljust(self.reach, b"\0")
        view = np.frombuffer(padded, np.uint8)
        headers = _find_headers(view, min(BLOCK, len(data)))
        # The zeros are none of the file's: a header is not to end in them.
        headers = headers[headers.start <= len(data)]
        done = at = 0
        for index in self._intact(headers, padded, begin, len(data)):
            offset, start, end = (int(column[index]) for column in (headers.offset, headers.start, headers.end))
            if offset < at:
                continue  # inside the packet before
            if done < index:
                yield _Damaged(headers[done:index], begin)
            at = end + PAYLOAD_CRC_BYTES
            identity = int(headers.identity[index]).to_bytes(4, "little")
            kind, number = int(headers.kind[index]), int(headers.number[index])
            yield Packet(kind, identity, number, data[start:end], begin + offset, at - offset)
            done = int(np.searchsorted(headers.offset, at))
        if done < len(headers):
            yield _Damaged(headers[done:], begin)

    def _intact(self, headers: _Headers, padded: bytes, begin: int, size: int) -> list[int]:
        """Which headers stand before a whole payload whose CRC-32C holds."""
        if not len(headers):
            return []
        if not self._sums.base <= begin <= self._sums.end:
            self._sums = _PrefixSums(begin)
        self._sums.move(begin, padded)
        view = np.frombuffer(padded, np.uint8)
        before, behind = (self._sums.at(places, view) for places in (headers.start, headers.end))
        crc = _shifted(headers.crc ^ before, headers.end - headers.start) ^ behind
        whole = headers.end + PAYLOAD_CRC_BYTES <= size
        intact: list[int] = np.flatnonzero(whole & (crc == _little(view, headers.end, PAYLOAD_CRC_BYTES))).tolist()
        return intact


# --- Headers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Headers:
    """Packet headers whose CRC-16 holds, in the order they stand in, as columns.

    `offset` is the header's, `start` and `end` are the payload's, all in bytes from the begin of what was searched.
    `identity` is the stream id, little-endian; `crc` the CRC-32C of what it covers in the header.
    """

    offset: _Ints
    start: _Ints
    end: _Ints
    kind: _Ints
    identity: _Ints
    number: _Ints
    crc: _Ints

    def __len__(self) -> int:
        return len(self.offset)

    def __getitem__(self, which: slice | _Flags) -> _Headers:
        return _Headers(*(getattr(self, column.name)[which] for column in fields(self)))


def _find_headers(data: _Bytes, block: int) -> _Headers:
    """All whose sync begins in the first `block` bytes; MAX_PACKET_HEADER bytes follow these at least."""
    sync = data[:block] == SYNC[0]
    for place in range(1, len(SYNC)):
        sync &= data[place : block + place] == SYNC[place]
    offset = np.flatnonzero(sync)
    first = offset + len(SYNC)
    number, behind, valid = _varints(data, first + 5, 5)
    # MAX_PAYLOAD takes 3 bytes.
    length, behind, short = _varints(data, behind, 3)
    crcs = _header_crcs(data, first, behind - first)
    valid &= short & (length <= MAX_PAYLOAD) & (crcs >> 32 == _little(data, behind, 2))
    offset, first, number, length, behind, crcs = (
        column[valid] for column in (offset, first, number, length, behind, crcs)
    )
    kind, identity = _little(data, first, 1), _little(data, first + 1, 4)
    return _Headers(offset, behind + 2, behind + 2 + length, kind, identity, number, crcs & 0xFFFFFFFF)


def _varints(data: _Bytes, at: _Ints, longest: int) -> tuple[_Ints, _Ints, _Flags]:
    """Values, the places behind them, and which of them keep to section 2 in at most `longest` bytes."""
    byte = data[at]
    value = (byte & 0x7F).astype(np.int64)
    at = at + 1
    more = byte >= 0x80
    valid = np.ones(len(at), bool)
    for place in range(1, longest):
        if not more.any():
            break
        byte = np.where(more, data[at], 0)
        valid &= ~more | (byte != 0)
        value |= (byte & 0x7F).astype(np.int64) << 7 * place
        at += more
        more = byte >= 0x80
    return value, at, valid & ~more & (value < 1 << 32)


def _little(data: _Bytes, at: _Ints, size: int) -> _Ints:
    """Little-endian integers of `size` bytes."""
    value = data[at].astype(np.int64)
    for place in range(1, size):
        value |= data[at + place].astype(np.int64) << 8 * place
    return value


class _Damaged(DamagedPackets):
    """One or more headers without an intact payload; `begin` is the file position that their places count from."""

    def __init__(self, headers: _Headers, begin: int) -> None:
        self._headers = headers
        self._begin = begin

    def __len__(self) -> int:
        return len(self._headers)

    def __iter__(self) -> Iterator[DamagedPacket]:
        h, begin = self._headers, self._begin
        identities = (identity.to_bytes(4, "little") for identity in h.identity.tolist())
        places = ((column + begin).tolist() for column in (h.offset, h.start, h.end))
        return map(DamagedPacket, h.kind.tolist(), identities, h.number.tolist(), *places)

    def firsts(self) -> Iterator[DamagedPacket]:
        h = self._headers
        name = h.identity << 8 | h.kind
        # Each takes its place in a table of hashes, the first last: so that one stays.
        # The highest bits of a product hang on all bits below; products of 64 bits wrap around.
        places = name * 0x1E3779B97F4A7C15 + h.number * 0x3F58476D1CE4E5B9 >> 48 & 0xFFFF
        table = np.empty(1 << 16, np.int64)
        order = np.arange(len(h))
        table[places[::-1]] = order[::-1]
        first = table[places]
        repeated = (first < order) & (name[first] == name) & (h.number[first] == h.number)
        return iter(_Damaged(h[~repeated], self._begin))


# --- CRCs as tables ------------------------------------------------------------------------------------------------
#
# But for initial value and final XOR a CRC is linear: what a byte adds to it can be looked up, and is XORed in.


def _sums_of(columns: list[int]) -> _Ints:
    """Entry v is the XOR of those `columns` for which v has the bit set."""
    table = np.zeros(1, np.int64)
    for column in columns:
        table = np.concatenate((table, table ^ column))
    return table


def _shift_tables(step: int) -> _Ints:
    """Entry [n << 10 | k << 8 | v]: what v as byte k of a CRC-32C becomes when n * `step` bytes follow; n < 128."""
    columns = [1 << bit for bit in range(32)]
    tables = []
    for _ in range(128):
        tables += [_sums_of(columns[bit : bit + 8]) for bit in range(0, 32, 8)]
        columns = [crc32c_shift(column, step) for column in columns]
    return np.concatenate(tables)


#: Lengths in three digits of 7 bits: enough for MAX_PAYLOAD.
_SHIFTS = [_shift_tables(1 << 7 * place) for place in range(3)]


def _shifted(crc: _Ints, length: _Ints) -> _Ints:
    """crc32c_shift of each."""
    for place, table in enumerate(_SHIFTS):
        digit = length >> 7 * place & 127
        if digit.any():
            row = digit << 10
            low = table[row | crc & 255] ^ table[row | 256 | crc >> 8 & 255]
            crc = low ^ table[row | 512 | crc >> 16 & 255] ^ table[row | 768 | crc >> 24]
    return crc


#: Bytes of what both CRCs cover in a header: kind, stream id, number (1 to 5) and length (1 to 3).
_SHORTEST, _LONGEST = 7, 13


def _both(data: bytes) -> int:
    return crc16(data) << 32 | crc32c(data)


def _field_table() -> _Ints:
    """Entry [n << 8 | v]: what v adds to both CRCs with n - (_LONGEST - _SHORTEST) bytes behind it, if that is >= 0."""
    table = np.zeros((2 * _LONGEST - _SHORTEST, 256), np.int64)
    for behind in range(_LONGEST):
        zeros = bytes(behind)
        row = [_both(bytes((value,)) + zeros) ^ _both(b"\0" + zeros) for value in range(256)]
        table[behind + _LONGEST - _SHORTEST] = row
    return table.ravel()


_FIELDS = _field_table()
_ZEROS = np.array([_both(bytes(size)) for size in range(_LONGEST + 1)])


def _header_crcs(data: _Bytes, first: _Ints, size: _Ints) -> _Ints:
    """_both of the `size` bytes from `first` on."""
    crcs = _ZEROS[size]
    row = size + (_LONGEST - _SHORTEST) << 8
    for place in range(size.max(initial=0)):
        row -= 256
        crcs ^= _FIELDS[row + data[first + place]]
    return crcs


# --- Prefixes ------------------------------------------------------------------------------------------------------

#: What the lowest bits of a CRC-32C become when one byte or two follow.
_ONE = _sums_of([crc32c_shift(1 << bit, 1) for bit in range(8)])
_TWO = _sums_of([crc32c_shift(1 << bit, 2) for bit in range(16)])


class _PrefixSums:
    """CRC-32C from some file position on up to each of those that are wanted, each byte summed once."""

    def __init__(self, base: int) -> None:
        self.base = base
        # Up to every second byte, without the final XOR.
        self._states = np.full(1, 0xFFFFFFFF, np.uint32)
        self._begin = base

    @property
    def end(self) -> int:
        return self.base + 2 * (len(self._states) - 1)

    def move(self, begin: int, data: bytes) -> None:
        """From now on the CRCs up to places in `data` are wanted, which stand at `begin` (from base to end)."""
        cells = (begin - self.base) // CELL
        further = self._further(data[self.end - begin :])
        self._states = np.concatenate((self._states[cells * CELL // 2 :], further))
        self.base += cells * CELL
        self._begin = begin

    def _further(self, data: bytes) -> npt.NDArray[np.uint32]:
        """The states behind the last, over the whole cells in `data`; all cells take their first step together."""
        cells = [data[at : at + CELL] for at in range(0, len(data) - CELL + 1, CELL)]
        first = int(self._states[-1]) ^ 0xFFFFFFFF
        edges = list(accumulate(cells, lambda crc, cell: crc32c(cell, crc), initial=first))
        words = np.frombuffer(data, "<u2", len(cells) * CELL // 2).reshape(-1, CELL // 2)
        states = np.empty((CELL // 2, len(cells)), np.uint32)
        state = np.array(edges[:-1], np.int64) ^ 0xFFFFFFFF
        for place, word in enumerate(words.T.astype(np.int64, order="C")):
            state ^= word
            state = state >> 16 ^ _TWO[state & 0xFFFF]
            states[place] = state
        return states.T.ravel()

    def at(self, places: _Ints, data: _Bytes) -> _Ints:
        """The CRCs up to `places` of `data`, which are 1 at least."""
        from_base = places + (self._begin - self.base)
        even = self._states[from_base >> 1].astype(np.int64)
        odd = even >> 8 ^ _ONE[(even ^ data[places - 1]) & 255]
        return np.where(from_base & 1, odd, even) ^ 0xFFFFFFFF
