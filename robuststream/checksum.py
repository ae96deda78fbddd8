"""The two checksums of the format, defined by crcmod (spec/format.md, section 3).

crcmod is a source package: where no compiler was at hand it runs in pure Python (13 against 500 MB/s). The same two
CRCs are in google-crc32c (wheels, 8 GB/s) and in the standard library, so those run where they can; the tests hold
all of them equal.
"""

from __future__ import annotations

import binascii
import contextlib
import importlib.util
import warnings
from collections.abc import Callable

import crcmod

#: Of CRC-32C, reflected, without x^32.
CRC32C_POLYNOMIAL = 0x82F63B78
#: CRC-32C (Castagnoli): reflected, initial value and final XOR 0xFFFFFFFF; "123456789" gives 0xE3069283.
crcmod_crc32c: Callable[..., int] = crcmod.mkCrcFun(0x11EDC6F41, initCrc=0, xorOut=0xFFFFFFFF, rev=True)
#: CRC-16/IBM-3740 ("CCITT-FALSE"): not reflected, initial value 0xFFFF; "123456789" gives 0x29B1.
crcmod_crc16: Callable[..., int] = crcmod.mkCrcFun(0x11021, initCrc=0xFFFF, xorOut=0, rev=False)


def _fastest_crc32c() -> tuple[Callable[[bytes, int], int], str]:
    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        # Its pure Python form warns at import; that one is not wanted anyway.
        warnings.simplefilter("ignore")
        import google_crc32c

        if google_crc32c.implementation == "c":
            extend = google_crc32c.extend
            return lambda data, crc: int(extend(crc, data)), "google-crc32c"
    compiled = importlib.util.find_spec("crcmod._crcfunext") is not None
    return crcmod_crc32c, "crcmod (C)" if compiled else "crcmod (pure Python, slow)"


_crc32c, kernel = _fastest_crc32c()


def crc32c(data: bytes | memoryview, crc: int = 0) -> int:
    """CRC-32C of `data`, going on from `crc` (the CRC-32C of what came before)."""
    # The packages take no views.
    return _crc32c(bytes(data), crc)


def crc16(data: bytes | memoryview) -> int:
    """CRC-16/IBM-3740 of `data`."""
    return binascii.crc_hqx(data, 0xFFFF)


def crc32c_shift(crc: int, length: int) -> int:
    """What `crc` becomes inside a combined CRC when `length` more bytes follow it.

    crc32c(a + b) == crc32c_shift(crc32c(a), len(b)) ^ crc32c(b): a CRC is linear, and appending a byte is
    multiplication by x^8 modulo the polynomial.
    """
    power = 0
    while length:
        if power == len(_SHIFTS):
            _SHIFTS.append(_squared(_SHIFTS[-1]))
        if length & 1:
            a, b, c, d = _SHIFTS[power]
            crc = a[crc & 255] ^ b[crc >> 8 & 255] ^ c[crc >> 16 & 255] ^ d[crc >> 24]
        length >>= 1
        power += 1
    return crc


_Tables = tuple[list[int], list[int], list[int], list[int]]


def _tables(columns: list[int]) -> _Tables:
    """A 32 x 32 matrix over GF(2), given by its columns, as four tables to look bytes up in."""

    def product(vector: int) -> int:
        total = 0
        for bit in range(vector.bit_length()):
            if vector >> bit & 1:
                total ^= columns[bit]
        return total

    def table(shift: int) -> list[int]:
        return [product(byte << shift) for byte in range(256)]

    return table(0), table(8), table(16), table(24)


def _squared(tables: _Tables) -> _Tables:
    def apply(vector: int) -> int:
        a, b, c, d = tables
        return a[vector & 255] ^ b[vector >> 8 & 255] ^ c[vector >> 16 & 255] ^ d[vector >> 24]

    return _tables([apply(apply(1 << bit)) for bit in range(32)])


def _one_byte() -> _Tables:
    columns = []
    for bit in range(32):
        value = 1 << bit
        for _ in range(8):
            value = value >> 1 ^ (CRC32C_POLYNOMIAL if value & 1 else 0)
        columns.append(value)
    return _tables(columns)


#: Entry k appends 2^k bytes; grown when a longer shift is first asked for.
_SHIFTS: list[_Tables] = [_one_byte()]
