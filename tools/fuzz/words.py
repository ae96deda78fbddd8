"""The rANS kernels: any words end as section 13 says, symbol by symbol; what is encoded comes back.

Decoding is held against the section written out in Python's own integers.
"""

from __future__ import annotations

from random import Random

import atheris
import numpy as np

from fuzz.harness import Broken
from robuststream.entropy import rans
from robuststream.entropy.coder import TileDecoder, TileEncoder
from robuststream.entropy.tables import CdfTables

LARGEST = 256
ERRORS = ()
#: Of an input: round trip or words; tables; tiles; symbols a step; steps.
HEAD = 5
TILES, SYMBOLS, STEPS = 3, 12, 2
END = 1 << 31


def _tables(number: int) -> CdfTables:
    """Rows of few symbols and many, of even and of extreme frequencies."""
    random = np.random.default_rng(number)
    rows, offsets = [], []
    for row in range(5):
        inner = int(random.integers(1, (3, 40, 300)[number % 3]))
        places = np.arange(1, 1 << 16) if row % 2 else np.arange(1, inner + 1) + (row % 4) * (65535 - inner) // 2
        cuts = np.sort(random.choice(places, inner, replace=False))
        rows.append(np.concatenate(([0], cuts, [1 << 16])).astype(np.int32))
        offsets.append(int(random.choice([-rans.MAX_SYMBOL, -inner // 2, 0, rans.MAX_SYMBOL])))
    lengths = np.array([len(row) for row in rows], np.int32)
    return CdfTables(np.concatenate(rows), lengths, np.array(offsets, np.int32))


TABLES = [_tables(number) for number in range(6)]
#: As Python's own, for the plain decoder: CDF, escape, offset.
PLAIN = [
    [
        (tables.cdf[start : start + length].tolist(), int(length) - 2, int(offset))
        for start, length, offset in zip(tables.starts, tables.lengths, tables.offsets, strict=True)
    ]
    for tables in TABLES
]


def seeds() -> list[bytes]:
    random = Random(1)
    made = []
    for number in range(len(TABLES)):
        made.append(bytes([0, number, number % TILES, SYMBOLS - 1, number % STEPS]) + random.randbytes(200))
        made.append(b"\1" + made[-1][1:])
        rows = np.zeros((1, 8), np.uint16)
        coder = TileEncoder(TABLES[number], 1)
        coder.code(rows, np.arange(-4, 4, dtype=np.int32)[None])
        made.append(bytes([0, number, 0, 8, 0]) + rows.astype(np.uint8).tobytes() + coder.finish()[0].words)
    return made


def mutate(data: bytes, limit: int, random: Random) -> bytes:
    if random.random() < 0.2:
        at = random.randrange(HEAD)
        return data[:at] + random.randbytes(1) + data[at + 1 :]
    return data[:HEAD].ljust(HEAD, b"\0") + bytes(atheris.Mutate(data[HEAD:], limit - HEAD))


def check(data: bytes) -> None:
    if len(data) < HEAD:
        return
    trip, number, tiles, symbols, steps = data[:HEAD]
    number, tiles, symbols, steps = number % len(TABLES), tiles % TILES + 1, symbols % SYMBOLS, steps % STEPS + 1
    count = tiles * steps * symbols
    taken = np.frombuffer(data[HEAD : HEAD + count].ljust(count, b"\0"), np.uint8)
    rows = (taken % TABLES[number].rows).astype(np.uint16).reshape(steps, tiles, symbols)
    rest = data[HEAD + count :]
    if trip % 8 == 1:
        _round_trip(number, rows, rest)
    elif trip % 16 == 2:
        _refuses(number, rows, taken)
    else:
        _decode(number, rows, rest, trip)


def _refuses(number: int, rows: np.ndarray, taken: np.ndarray) -> None:
    """Rows that no table has."""
    wrong = rows[0] + np.uint16(TABLES[number].rows)
    if not wrong.size:
        return
    try:
        TileDecoder(TABLES[number], [bytes(8)] * len(wrong), [False] * len(wrong)).code(wrong)
    except ValueError:
        return
    raise Broken("a row that no table has is taken")


def _decode(number: int, rows: np.ndarray, rest: bytes, trip: int) -> None:
    steps, tiles, _ = rows.shape
    size = len(rest) // tiles
    strings = [rest[tile * size : (tile + 1) * size] for tile in range(tiles)]
    decoder = TileDecoder(TABLES[number], strings, [bool(trip & 32)] * tiles, [trip >> 6] * tiles if trip & 4 else None)
    found = []
    for step in range(steps):
        found.append(decoder.code(rows[step]))
        if step == 0 and trip & 8:
            decoder.mark()
    complete = decoder.complete()
    if trip & 8:
        return
    for tile, string in enumerate(strings):
        wanted, status, ended = plain(string, rows[:, tile].ravel().tolist(), PLAIN[number])
        got = [int(value) for step in found for value in step[tile]]
        if got != wanted or int(decoder.status[tile]) != status or bool(complete[tile]) != ended:
            raise Broken(f"symbols {got} with status {decoder.status[tile]}, not {wanted} with {status}")


# Its branches are the compiled kernel's, which has no coverage of its own.
@atheris.instrument_func
def plain(string: bytes, rows: list[int], tables: list[tuple[list[int], int, int]]) -> tuple[list[int], int, bool]:
    """Section 13 as it stands there: symbols (zeros from a fault on), status, and whether the end is right."""
    words = [int.from_bytes(string[at : at + 4], "little") for at in range(0, len(string) // 4 * 4, 4)]
    symbols = [0] * len(rows)
    if len(words) < 2:
        return symbols, rans.TRUNCATED, False
    state, at = words[0] | words[1] << 32, 2
    if state < END:
        return symbols, rans.RANGE, False

    def refill() -> bool:
        nonlocal state, at
        if state < END:
            if at == len(words):
                return False
            state, at = state << 32 | words[at], at + 1
        return True

    for place, row in enumerate(rows):
        cdf, escape, offset = tables[row]
        slot = state & 0xFFFF
        index = next(k for k in range(escape + 1) if slot < cdf[k + 1])
        state = (cdf[index + 1] - cdf[index]) * (state >> 16) + slot - cdf[index]
        if not refill():
            return symbols, rans.TRUNCATED, False
        value = index
        if index == escape:
            digits = []
            count = None
            while count is None or len(digits) < count:
                digit, state = state & 15, state >> 4
                if not refill():
                    return symbols, rans.TRUNCATED, False
                if count is None:
                    count = digit
                    if count > 7:
                        return symbols, rans.ESCAPE, False
                else:
                    digits.append(digit)
            raw = sum(digit << 4 * k for k, digit in enumerate(digits))
            value = -(raw + 1) // 2 if raw & 1 else escape + raw // 2
        value += offset
        if abs(value) > rans.MAX_SYMBOL:
            return symbols, rans.RANGE, False
        symbols[place] = value
    return symbols, rans.OK, at == len(words) and state == END


def _round_trip(number: int, rows: np.ndarray, rest: bytes) -> None:
    steps, tiles, _ = rows.shape
    count = rows.size
    values = np.frombuffer(rest[: 2 * count].ljust(2 * count, b"\0"), "<i2").astype(np.int32)
    values = np.clip(values, -rans.MAX_SYMBOL, rans.MAX_SYMBOL).reshape(rows.shape)
    encoder = TileEncoder(TABLES[number], tiles)
    for step in range(steps):
        encoder.code(rows[step], values[step])
        if step == 0:
            encoder.mark()
    coded = encoder.finish()
    decoder = TileDecoder(
        TABLES[number], [tile.words for tile in coded], [False] * tiles, [tile.marks[0] for tile in coded]
    )
    for step in range(steps):
        if not np.array_equal(decoder.code(rows[step]), values[step]):
            raise Broken("other symbols come back")
        if step == 0:
            decoder.mark()
    if not decoder.complete().all():
        raise Broken("the state does not end where the encoder began")
