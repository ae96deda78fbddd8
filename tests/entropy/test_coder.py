"""Many tiles, many steps, marks: the same strings as each tile alone in one step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream.entropy import rans
from robuststream.entropy.coder import REASONS, TileDecoder, TileEncoder
from tests.entropy.test_rans import random_symbols
from tests.helpers import random_tables, slow_rans

SEEDS = st.integers(0, 2**32 - 1)


def random_steps(rng, tables, tiles: int, sizes: list[int]):
    """For each step rows and symbols, (T, n)."""
    steps = []
    for size in sizes:
        rows, symbols = random_symbols(rng, tables, tiles * size, limit=1 << 12)
        steps.append((rows.reshape(tiles, size), symbols.reshape(tiles, size)))
    return steps


def encode(tables, tiles: int, steps, mark_after: set[int]):
    encoder = TileEncoder(tables, tiles)
    for number, (rows, symbols) in enumerate(steps):
        encoder.code(rows, symbols)
        if number in mark_after:
            encoder.mark()
    return encoder.finish()


@given(SEEDS, st.integers(1, 4), st.lists(st.integers(0, 30), min_size=1, max_size=4))
def test_tiles_in_lock_step_equal_tiles_alone(seed, tiles, sizes):
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, 4)
    steps = random_steps(rng, tables, tiles, sizes)
    coded = encode(tables, tiles, steps, set())
    for tile in range(tiles):
        symbols = np.concatenate([step[1][tile] for step in steps])
        rows = np.concatenate([step[0][tile] for step in steps])
        assert coded[tile].words == slow_rans(symbols, rows, tables)
    decoder = TileDecoder(tables, [tile.words for tile in coded], [False] * tiles)
    for rows, symbols in steps:
        assert (decoder.code(rows) == symbols).all()
    assert decoder.complete().all()


@given(SEEDS, st.integers(1, 3), st.integers(0, 40), st.integers(0, 40))
def test_mark_is_where_the_decoder_stands(seed, tiles, before, after):
    """Cut at the mark, all symbols before it decode; cut one word earlier, they do not."""
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, 4)
    steps = random_steps(rng, tables, tiles, [before, after])
    coded = encode(tables, tiles, steps, {0})
    assert all(len(tile.marks) == 1 for tile in coded)
    cut = [tile.words[: 4 * tile.marks[0]] for tile in coded]
    decoder = TileDecoder(tables, cut, [True] * tiles)
    assert (decoder.code(steps[0][0]) == steps[0][1]).all()
    assert (decoder.status == rans.OK).all()
    decoder.mark()
    assert (decoder.status == rans.ENDED).all()
    assert not decoder.code(steps[1][0]).any()
    assert not decoder.complete().any()
    shorter = TileDecoder(tables, [words[:-4] for words in cut], [True] * tiles)
    shorter.code(steps[0][0])
    assert (shorter.status == rans.TRUNCATED).all()


def test_several_marks_and_marks_at_both_ends():
    rng = np.random.default_rng(3)
    tables = random_tables(rng, 4)
    steps = random_steps(rng, tables, 2, [0, 30, 50, 20])
    coded = encode(tables, 2, steps, {0, 1, 2, 3})
    for number, tile in enumerate(coded):
        assert tile.marks[0] == 2  # only the state is read before the first symbol
        assert tile.marks[3] == len(tile.words) // 4
        assert list(tile.marks) == sorted(tile.marks)
        rows = np.concatenate([step[0][number] for step in steps])[None]
        for mark, symbols in zip(tile.marks, (0, 30, 80, 100), strict=True):
            whole = TileDecoder(tables, [tile.words[: 4 * mark]], [False])
            whole.code(rows[:, :symbols])
            assert whole.status[0] == rans.OK
            if mark > 2:
                short = TileDecoder(tables, [tile.words[: 4 * mark - 4]], [False])
                short.code(rows[:, :symbols])
                assert short.status[0] == rans.TRUNCATED


def test_only_some_tiles_end_at_the_mark():
    rng = np.random.default_rng(4)
    tables = random_tables(rng, 4)
    steps = random_steps(rng, tables, 3, [20, 30])
    coded = encode(tables, 3, steps, {0})
    strings = [tile.words for tile in coded]
    strings[1] = strings[1][: 4 * coded[1].marks[0]]
    decoder = TileDecoder(tables, strings, [False, True, False])
    assert (decoder.code(steps[0][0]) == steps[0][1]).all()
    decoder.mark()
    decoded = decoder.code(steps[1][0])
    assert (decoded[[0, 2]] == steps[1][1][[0, 2]]).all()
    assert not decoded[1].any()
    assert decoder.complete().tolist() == [True, False, True]


@pytest.mark.parametrize("mark", [True, False])
def test_a_partial_tile_ends_where_its_words_do(mark):
    """Every length: the symbols decoded are the encoder's, and without words for z the tile has failed."""
    rng = np.random.default_rng(11)
    tables = random_tables(rng, 4)
    steps = random_steps(rng, tables, 1, [20, 60, 30])
    (coded,) = encode(tables, 1, steps, {0})
    all_symbols = np.concatenate([symbols[0] for _, symbols in steps])
    seam = coded.marks[0]
    before = 0
    for end in range(2, len(coded.words) // 4):
        decoder = TileDecoder(tables, [coded.words[: 4 * end]], [False], [seam if mark else None], [True])
        decoded = [decoder.code(steps[0][0])[0]]
        if mark:
            decoder.mark()
        decoded += [decoder.code(rows)[0] for rows, _ in steps[1:]]
        if mark and end < seam:
            assert decoder.status.tolist() in ([rans.TRUNCATED], [rans.SEAM])
            continue
        assert decoder.status.tolist() == [rans.ENDED], end
        together = np.concatenate(decoded)
        right = together == all_symbols
        kept = int(np.argmin(right)) if not right.all() else len(right)
        assert kept >= before
        assert not together[kept:].any()
        before = kept
    assert before > 90


def test_stopped_tiles_yield_zeros_and_keep_their_fault():
    rng = np.random.default_rng(5)
    tables = random_tables(rng, 4)
    steps = random_steps(rng, tables, 3, [20, 30])
    strings = [tile.words for tile in encode(tables, 3, steps, set())]
    decoder = TileDecoder(tables, [strings[0], strings[1], strings[2][:8]], [False] * 3)
    decoder.code(steps[0][0])
    decoder.stop(np.array([False, True, True]))
    assert decoder.status.tolist() == [rans.OK, rans.ENDED, rans.TRUNCATED]
    decoded = decoder.code(steps[1][0])
    assert (decoded[0] == steps[1][1][0]).all()
    assert not decoded[1:].any()


@pytest.mark.parametrize(
    "rows",
    [
        np.array([[0, 4]], np.uint16),  # row 4 of 4
        np.array([[0, 65535]], np.uint16),
        np.array([[0, 1]], np.int32),
        np.array([[0, 1]], np.uint8),
        np.array([[0.0, 1.0]]),
    ],
    ids=["one too many", "largest", "int32", "uint8", "float"],
)
def test_wrong_rows_are_refused_both_ways(rows):
    tables = random_tables(np.random.default_rng(6), 4)
    with pytest.raises(ValueError, match="uint16 below 4"):
        TileEncoder(tables, 1).code(rows, np.zeros((1, 2), np.int32))
    with pytest.raises(ValueError, match="uint16 below 4"):
        TileDecoder(tables, [bytes(8)], [False]).code(rows)


def test_string_of_odd_length_is_read_up_to_its_last_whole_word():
    rng = np.random.default_rng(8)
    tables = random_tables(rng, 4)
    steps = random_steps(rng, tables, 1, [30])
    words = encode(tables, 1, steps, set())[0].words
    decoder = TileDecoder(tables, [words + b"abc"], [False])
    assert (decoder.code(steps[0][0]) == steps[0][1]).all()
    assert decoder.complete()[0]


def test_no_tiles_at_all():
    tables = random_tables(np.random.default_rng(9), 2)
    decoder = TileDecoder(tables, [], [])
    assert decoder.code(np.zeros((0, 5), np.uint16)).shape == (0, 5)
    assert decoder.complete().shape == (0,)


def test_every_status_of_failure_has_words():
    assert set(REASONS) == {rans.ENDED, rans.TRUNCATED, rans.ESCAPE, rans.RANGE, rans.SEAM}


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_seam_in_another_place_is_told(shift):
    rng = np.random.default_rng(10)
    tables = random_tables(rng, 4)
    steps = random_steps(rng, tables, 3, [20, 30])
    coded = encode(tables, 3, steps, {0})
    marks = [coded[0].marks[0], coded[1].marks[0] + shift, None]
    decoder = TileDecoder(tables, [tile.words for tile in coded], [False] * 3, marks)
    decoder.code(steps[0][0])
    decoder.mark()
    assert decoder.status.tolist() == [rans.OK, rans.SEAM, rans.OK]
    assert not decoder.code(steps[1][0])[1].any()
    assert decoder.complete().tolist() == [True, False, True]
