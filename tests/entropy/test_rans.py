"""The kernels against CompressAI's coder, against Python's own integers, and against any bytes at all."""

from __future__ import annotations

import struct
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from robuststream.entropy import rans
from robuststream.entropy.coder import TileDecoder, TileEncoder
from robuststream.entropy.tables import CdfTables
from tests.helpers import random_tables, slow_rans

SEEDS = st.integers(0, 2**32 - 1)
#: One row of one regular symbol, 0, of probability 1/2; anything else escapes.
COIN = CdfTables(np.array([0, 1 << 15, 1 << 16], np.int32), np.array([3], np.int32), np.array([0], np.int32))


@pytest.fixture(params=["compiled", "plain Python"])
def kernels(request, monkeypatch):
    """The test runs twice: as plain Python an index out of bounds is an error."""
    if request.param == "plain Python":
        for name in ("encode", "start", "decode"):
            monkeypatch.setattr(rans, name, getattr(rans, name).py_func)


def random_symbols(
    rng: np.random.Generator, tables: CdfTables, count: int, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows, and symbols of which most lie in their row's range and the rest spread evenly over orders of magnitude."""
    rows = rng.integers(0, tables.rows, count).astype(np.uint16)
    inside = tables.offsets[rows] + rng.integers(0, tables.lengths[rows] - 2)
    far = (np.exp2(rng.uniform(0, np.log2(limit), count)) * rng.choice([-1, 1], count)).astype(np.int64)
    return rows, np.where(rng.random(count) < 0.7, inside, far).astype(np.int32)


def encode(rows: np.ndarray, symbols: np.ndarray, tables: CdfTables) -> bytes:
    encoder = TileEncoder(tables, 1)
    encoder.code(rows[None], symbols[None])
    return encoder.finish()[0].words


def decode(data: bytes, rows: np.ndarray, tables: CdfTables) -> tuple[np.ndarray, TileDecoder]:
    decoder = TileDecoder(tables, [data], [False])
    return decoder.code(rows[None])[0], decoder


def by_compressai(rows: np.ndarray, symbols: np.ndarray, tables: CdfTables) -> bytes:
    # With fewer than 3 symbols compressai.ans may corrupt its heap.
    assert len(symbols) >= 3
    ans = pytest.importorskip("compressai.ans", reason="compressai is not installed")
    longest = int(tables.lengths.max())
    cdfs = [
        tables.cdf[start : start + length].tolist() + [0] * (longest - length)
        for start, length in zip(tables.starts, tables.lengths, strict=True)
    ]
    return ans.RansEncoder().encode_with_indexes(
        symbols.tolist(), rows.tolist(), cdfs, tables.lengths.tolist(), tables.offsets.tolist()
    )


# --- Valid strings --------------------------------------------------------------------------------------------------


@given(SEEDS, st.integers(3, 400), st.integers(1, 9))
def test_bytes_equal_compressai(seed, count, row_count):
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, row_count, longest=300)
    rows, symbols = random_symbols(rng, tables, count, limit=1 << 13)
    data = by_compressai(rows, symbols, tables)
    assert encode(rows, symbols, tables) == data
    decoded, decoder = decode(data, rows, tables)
    assert (decoded == symbols).all()
    assert decoder.complete().all()


@given(SEEDS, st.integers(3, 60))
def test_bytes_equal_compressai_with_escapes_of_any_size(seed, count):
    """Up to raw values just below 2^28, where compressai.ans itself no longer ends."""
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, 3)
    rows, symbols = random_symbols(rng, tables, count, limit=(1 << 27) - 100)
    assert encode(rows, symbols, tables) == by_compressai(rows, symbols, tables)


@pytest.mark.parametrize("symbol", [(1 << 27), -(1 << 27), 16, -16, 1, -1])
def test_escapes_at_the_borders_of_digits_equal_compressai(symbol):
    """COIN's raw value for s > 0 is 2(s - 1), for s < 0 it is -2s - 1: the first two are 2^28 - 2 and 2^28 - 1."""
    symbols = np.array([0, symbol, 0, symbol + (1 if symbol < 0 else -1)], np.int32)
    rows = np.zeros(4, np.uint16)
    assert encode(rows, symbols, COIN) == by_compressai(rows, symbols, COIN) == slow_rans(symbols, rows, COIN)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("symbol", [(1 << 27) + 1, -(1 << 27) - 1, 2**31 - 1, -(2**31)])
def test_more_than_seven_digits_is_an_error(symbol):
    with pytest.raises(ValueError, match="7 bypass digits"):
        encode(np.zeros(2, np.uint16), np.array([0, symbol], np.int32), COIN)


@given(SEEDS, st.integers(0, 60))
def test_bytes_equal_pythons_own_integers(seed, count):
    """Also for 0, 1 and 2 symbols, where compressai.ans cannot be asked."""
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, 4)
    rows, symbols = random_symbols(rng, tables, count, limit=1 << 13)
    data = encode(rows, symbols, tables)
    assert data == slow_rans(symbols, rows, tables)
    decoded, decoder = decode(data, rows, tables)
    assert (decoded == symbols).all()
    assert decoder.complete().all()


def test_no_symbol_is_the_bare_state():
    assert encode(np.zeros(0, np.uint16), np.zeros(0, np.int32), COIN) == struct.pack("<II", 1 << 31, 0)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("count", [1, 2])
def test_one_and_two_symbols(count):
    rows, symbols = np.zeros(count, np.uint16), np.array([5, -3][:count], np.int32)
    decoded, decoder = decode(encode(rows, symbols, COIN), rows, COIN)
    assert (decoded == symbols).all()
    assert decoder.complete().all()


def test_rarest_symbols_of_the_longest_row():
    """Frequencies of 1 of 65536, and a row that uses all of them."""
    cdf = np.arange((1 << 16) + 1, dtype=np.int32)
    tables = CdfTables(cdf, np.array([len(cdf)], np.int32), np.array([0], np.int32))
    rows = np.zeros(300, np.uint16)
    symbols = np.random.default_rng(1).integers(0, 1 << 13, 300).astype(np.int32)
    data = encode(rows, symbols, tables)
    assert data == slow_rans(symbols, rows, tables)
    assert (decode(data, rows, tables)[0] == symbols).all()


def call_encode(function, symbols, rows, bounds, marks, tables, words):
    rest = (tables.starts, tables.lengths, tables.offsets, words)
    return function(symbols, rows, bounds, marks, tables.cdf, *tables.reciprocals, *rest)


def test_words_needed_is_enough_for_the_costliest_symbols():
    """A frequency of 1 for the escape, then a count and seven digits: 48 bits a symbol, and none before the array."""
    cdf = np.array([0, (1 << 16) - 1, 1 << 16], np.int32)
    tables = CdfTables(cdf, np.array([3], np.int32), np.array([0], np.int32))
    for tiles, each in ((1, 0), (1, 1), (1, 501), (40, 1), (40, 0), (7, 11)):
        count = tiles * each
        bounds = np.arange(tiles + 1, dtype=np.int64) * each
        marks = np.zeros((tiles, 0), np.int64)
        margin = 50
        words = np.full(margin + rans.words_needed(tiles, count), 0xA5A5A5A5, np.uint32)
        symbols = np.full(count, 1 << 27, np.int32)
        places, _ = call_encode(rans.encode, symbols, np.zeros(count, np.uint16), bounds, marks, tables, words)
        assert places[0] >= margin
        assert (words[:margin] == 0xA5A5A5A5).all()
        if each:
            assert 32 * (places[-1] - places[0]) > 44 * count


# --- Without numba --------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(SEEDS, st.integers(1, 3), st.integers(0, 30))
def test_kernels_as_plain_python_give_the_same(seed, tiles, each):
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, 3)
    rows, symbols = random_symbols(rng, tables, tiles * each, limit=1 << 13)
    bounds = np.arange(tiles + 1, dtype=np.int64) * each
    marks = np.tile(np.array([0, each // 2, each], np.int64), (tiles, 1))
    size = rans.words_needed(tiles, tiles * each)
    assert size == rans.words_needed.py_func(tiles, tiles * each)
    compiled, plain = np.zeros(size, np.uint32), np.zeros(size, np.uint32)
    places, marked = call_encode(rans.encode, symbols, rows, bounds, marks, tables, compiled)
    with np.errstate(over="raise"):
        places_, marked_ = call_encode(rans.encode.py_func, symbols, rows, bounds, marks, tables, plain)
    assert (places == places_).all()
    assert (marked == marked_).all()
    assert (compiled == plain).all()
    words, word_bounds = compiled[places[0] :], places - places[0]
    damaged = words.copy()
    damaged[rng.integers(len(words))] ^= np.uint32(1 << int(rng.integers(32)))
    for given_words, intact in ((words, True), (damaged, False)):
        outcomes = [
            run_decoder(start, decode_, given_words, word_bounds, rows.reshape(tiles, each), tables)
            for start, decode_ in ((rans.start, rans.decode), (rans.start.py_func, rans.decode.py_func))
        ]
        for compiled_part, plain_part in zip(*outcomes, strict=True):
            assert (compiled_part == plain_part).all()
        if intact:
            assert (outcomes[0][0].ravel() == symbols).all()


def test_high_product_compiled_now_is_pythons_own():
    """Compiled anew: what is on disk may be from before a change."""
    compiled = njit(lambda a, b: rans.high_product(a, b))
    edges = [0, 1, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
    values = edges + np.random.default_rng(2).integers(0, 1 << 64, 9, np.uint64).tolist()
    for a, b in product(values, values):
        assert int(compiled(np.uint64(a), np.uint64(b))) == a * b >> 64 == int(rans.high_product(a, b))


def run_decoder(start, decode_, words, bounds, rows, tables):
    tiles = len(rows)
    states, positions, status = np.zeros(tiles, np.uint64), np.zeros(tiles, np.int64), np.zeros(tiles, np.int32)
    start(words, bounds, states, positions, status)
    symbols = np.zeros(rows.shape, np.int32)
    parts = (tables.cdf, tables.starts, tables.lengths, tables.offsets, tables.lookup)
    order = np.tile(np.arange(rows.shape[1], dtype=np.int32), (tiles, 1))
    decode_(words, bounds, states, positions, status, rows, order, *parts, symbols)
    return symbols, states, positions, status


# --- Any bytes at all -----------------------------------------------------------------------------------------------


@given(SEEDS, st.binary(max_size=200), st.integers(0, 100))
def test_any_bytes_end_in_symbols_or_a_status(seed, data, count):
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, 5)
    rows = rng.integers(0, 5, count).astype(np.uint16)
    symbols, decoder = decode(data, rows, tables)
    assert decoder.status[0] in (rans.OK, rans.TRUNCATED, rans.ESCAPE, rans.RANGE)
    assert np.abs(symbols.astype(np.int64)).max(initial=0) <= rans.MAX_SYMBOL
    if decoder.complete()[0]:
        # What is accepted is what an encoder would have written.
        assert encode(rows, symbols, tables) == data[: len(data) // 4 * 4]


@given(SEEDS, st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=40))
def test_a_decoder_reads_no_word_of_its_neighbour(seed, words):
    """The same bounds in an array that goes on with other words: the same outcome."""
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, 2, longest=4)
    rows = np.zeros((1, 80), np.uint16)
    bounds = np.array([0, len(words)], np.int64)
    outcomes = [
        run_decoder(rans.start, rans.decode, np.array([*words, *rest], np.uint32), bounds, rows, tables)
        for rest in ([], [0] * 50, [2**32 - 1] * 50)
    ]
    for outcome in outcomes[1:]:
        for part, expected in zip(outcome, outcomes[0], strict=True):
            assert (part == expected).all()
    assert outcomes[0][2][0] <= len(words)


@pytest.mark.usefixtures("kernels")
def test_cut_at_every_word_is_truncated_and_keeps_what_came_before():
    rng = np.random.default_rng(5)
    tables = random_tables(rng, 4)
    rows, symbols = random_symbols(rng, tables, 200, limit=1 << 13)
    data = encode(rows, symbols, tables)
    kept = 0
    for words in range(len(data) // 4):
        decoded, decoder = decode(data[: 4 * words], rows, tables)
        assert decoder.status[0] == rans.TRUNCATED
        assert not decoder.complete()[0]
        if words >= 2:
            wrong = np.flatnonzero(decoded != symbols)
            first = wrong[0] if len(wrong) else len(symbols)
            assert first >= kept, "a longer string decodes no fewer symbols"
            assert not decoded[first:].any()
            kept = first
    assert kept > 150


@pytest.mark.usefixtures("kernels")
def test_cut_inside_an_escape_is_truncated():
    """Each value takes a count and four digits, 21 bits in all: most words end inside one."""
    rows, symbols = np.zeros(12, np.uint16), np.full(12, 8192, np.int32)
    data = encode(rows, symbols, COIN)
    for words in range(len(data) // 4):
        decoded, decoder = decode(data[: 4 * words], rows, COIN)
        assert decoder.status[0] == rans.TRUNCATED
        whole = int((decoded == 8192).sum())
        assert decoded.tolist() == [8192] * whole + [0] * (12 - whole)
    assert (decode(data, rows, COIN)[0] == symbols).all()


def test_words_too_many_are_not_complete():
    rows = np.zeros(5, np.uint16)
    data = encode(rows, np.arange(5, dtype=np.int32), COIN)
    decoded, decoder = decode(data + bytes(4), rows, COIN)
    assert (decoded == np.arange(5)).all()
    assert decoder.status[0] == rans.OK
    assert not decoder.complete()[0]


def test_symbols_too_few_are_not_complete():
    rows = np.zeros(50, np.uint16)
    data = encode(rows, np.arange(50, dtype=np.int32), COIN)
    assert not decode(data, rows[:-1], COIN)[1].complete()[0]


@pytest.mark.parametrize("end", [1 << 31, (1 << 31) + 1, (1 << 32) - 1])
def test_a_state_that_is_another_at_the_end_is_not_complete(end):
    """All words are read, and every symbol is right."""
    state = (end >> 15 << 16) + (end & 0x7FFF)  # before COIN's 0 is pushed it was `end`
    symbols, decoder = decode(struct.pack("<Q", state), np.zeros(1, np.uint16), COIN)
    assert (symbols.tolist(), decoder.status[0]) == ([0], rans.OK)
    assert decoder.complete()[0] == (end == 1 << 31)


@pytest.mark.usefixtures("kernels")
def test_state_below_its_range_is_refused():
    assert decode(struct.pack("<II", (1 << 31) - 1, 0), np.zeros(1, np.uint16), COIN)[1].status[0] == rans.RANGE


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("digits", [8, 9, 15])
def test_more_than_seven_digits_is_escape(digits):
    """A state whose low 16 bits fall into COIN's escape, and whose next 4 bits are then the count of digits."""
    state = (1 << 15) + (digits << 16) + (1 << 50)
    after = (1 << 15) * (state >> 16)  # (slot - low) is 0
    assert after & 15 == 0  # the count read here is 0: COIN's frequency shifts it up; so choose the slot instead
    state = state & ~0xFFFF | 1 << 15 | digits
    symbols, decoder = decode(struct.pack("<QII", state, 1, 2), np.zeros(3, np.uint16), COIN)
    assert decoder.status[0] == rans.ESCAPE
    assert not symbols.any()


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    ("symbol", "status"), [(8192, rans.OK), (-8192, rans.OK), (8193, rans.RANGE), (-8193, rans.RANGE)]
)
def test_symbol_beyond_its_range(symbol, status):
    rows = np.zeros(3, np.uint16)
    symbols, decoder = decode(encode(rows, np.array([0, symbol, 1], np.int32), COIN), rows, COIN)
    assert decoder.status[0] == status
    assert symbols.tolist() == ([0, symbol, 1] if status == rans.OK else [0, 0, 0])


@pytest.mark.usefixtures("kernels")
def test_a_failed_tile_only_yields_zeros_and_holds_up_no_other():
    rng = np.random.default_rng(7)
    tables = random_tables(rng, 3)
    rows, symbols = random_symbols(rng, tables, 90, limit=1 << 13)
    good = encode(rows, symbols, tables)
    decoder = TileDecoder(tables, [good, good[:8], b"", good], [False] * 4)
    batch = np.stack([rows] * 4)
    decoded = np.concatenate([decoder.code(batch[:, :40]), decoder.code(batch[:, 40:])], axis=1)
    assert (decoded[[0, 3]] == symbols).all()
    assert not decoded[1:3, 40:].any()
    assert decoder.complete().tolist() == [True, False, False, True]
    assert (decoder.status[1:3] == rans.TRUNCATED).all()
