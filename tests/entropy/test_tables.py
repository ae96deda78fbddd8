"""Valid tables do what searching a row does; each invalid one is refused for its reason."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream.entropy.tables import MAX_OFFSET, MAX_ROWS, CdfTables
from robuststream.errors import UnsupportedModel
from tests.helpers import random_tables

TOP = 1 << 16


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def tables(cdf=(0, 10, TOP, 0, 5, 9, TOP), lengths=(3, 4), offsets=(0, -1)) -> CdfTables:
    return CdfTables(ints(*cdf), ints(*lengths), ints(*offsets))


def test_rows_and_where_they_begin():
    two = tables()
    assert two.rows == 2
    assert two.starts.tolist() == [0, 3]


INVALID = {
    "not int32": (lambda: CdfTables(np.array([0, 1, TOP]), ints(3), ints(0)), "int32"),
    "unsigned lengths": (lambda: CdfTables(ints(0, 1, TOP), np.array([3], np.uint32), ints(0)), "int32"),
    "two dimensions": (lambda: CdfTables(ints(0, 1, TOP)[None], ints(3), ints(0)), "one dimension"),
    "no rows": (lambda: tables((), (), ()), "0 lengths"),
    "lengths without offsets": (lambda: tables(offsets=(0,)), "2 lengths, 1 offsets"),
    "too many rows": (
        lambda: CdfTables(
            np.tile(ints(0, 1, TOP), MAX_ROWS + 1), np.full(MAX_ROWS + 1, 3, np.int32), np.zeros(MAX_ROWS + 1, np.int32)
        ),
        "65537 lengths",
    ),
    "row of two values": (lambda: tables((0, TOP, 0, 5, 9, TOP), (2, 4)), "below 3"),
    "negative length": (lambda: tables(lengths=(-3, 10)), "below 3"),
    "values left over": (lambda: tables((0, 10, TOP, 0, 5, 9, TOP, 1)), "sum"),
    "values missing": (lambda: tables((0, 10, TOP, 0, 5, 9)), "sum"),
    "lengths that wrap to the right sum": (lambda: tables((0, 10, TOP), (2**31 - 1, 2**31 - 1, 5), (0, 0, 0)), "sum"),
    "offset too large": (lambda: tables(offsets=(0, MAX_OFFSET + 1)), "offset beyond"),
    "offset too small": (lambda: tables(offsets=(-(2**31), 0)), "offset beyond"),
    "row begins above zero": (lambda: tables((1, 10, TOP, 0, 5, 9, TOP)), "from 0 to 2"),
    "row ends below the top": (lambda: tables((0, 10, TOP - 1, 0, 5, 9, TOP)), "from 0 to 2"),
    "row ends above the top": (lambda: tables((0, 10, TOP, 0, 5, 9, TOP + 1)), "from 0 to 2"),
    "step of zero": (lambda: tables((0, 10, TOP, 0, 9, 9, TOP)), "rise"),
    "falling step": (lambda: tables((0, 10, TOP, 0, 9, 5, TOP)), "rise"),
    "negative value": (lambda: tables((0, -10, TOP, 0, 5, 9, TOP)), "rise"),
    "value above the top": (lambda: tables((0, TOP + 5, TOP, 0, 5, 9, TOP)), "rise"),
    "difference that wraps": (lambda: tables((0, -(2**31), TOP, 0, 5, 9, TOP)), "rise"),
    # bad-wrapping-table
    "fall that wraps to a rise": (lambda: tables((0, 2143289344, -8388608, TOP), (4,), (0,)), "rise"),
}


@pytest.mark.parametrize(("make", "reason"), INVALID.values(), ids=INVALID)
def test_invalid_tables_are_refused_for_their_reason(make, reason):
    with pytest.raises(UnsupportedModel, match=reason):
        make()


def test_borders_are_valid():
    tables(offsets=(MAX_OFFSET, -MAX_OFFSET))
    tables((0, 1, TOP, 0, 1, TOP - 1, TOP))


def test_from_padded_takes_each_row_to_its_length():
    padded = ints(0, 10, TOP, 99, 0, 5, 9, TOP).reshape(2, 4)
    made = CdfTables.from_padded(padded, ints(3, 4), ints(0, -1))
    for name in ("cdf", "lengths", "offsets"):
        assert (getattr(made, name) == getattr(tables(), name)).all()


def test_joined_rows_stand_behind_each_other():
    rng = np.random.default_rng(1)
    first, second = random_tables(rng, 3), random_tables(rng, 2)
    both = first.joined(second)
    assert both.rows == 5
    assert both.lengths.tolist() == [*first.lengths, *second.lengths]
    assert both.offsets.tolist() == [*first.offsets, *second.offsets]
    assert both.cdf.tolist() == [*first.cdf, *second.cdf]
    assert (both.lookup == np.concatenate((first.lookup, second.lookup))).all()


def test_lookup_gives_the_symbol_that_holds_the_slot():
    made = random_tables(np.random.default_rng(2), 6, longest=300)
    assert made.lookup.shape == (6, 256)
    for row in range(6):
        cdf = made.cdf[made.starts[row] : made.starts[row] + made.lengths[row]].tolist()
        for high in range(256):
            symbol = int(made.lookup[row, high])
            assert cdf[symbol] <= high << 8 < cdf[symbol + 1]


@given(st.integers(2, TOP - 1), st.integers(0, (1 << 63) - 1), st.integers(1, 1 << 47))
def test_reciprocals_divide_exactly(frequency, any_state, quotient):
    """Also on either side of a multiple, where a rounded reciprocal would be wrong first."""
    made = tables((0, frequency, TOP), (3,), (0,))
    reciprocal, shift = (int(part[0]) for part in made.reciprocals)
    for state in (any_state, quotient * frequency, quotient * frequency - 1):
        if state < 1 << 63:
            assert (state * reciprocal >> 64) >> shift == state // frequency


def test_reciprocals_of_every_frequency_at_the_worst_state():
    """Rows of two intervals, of every frequency and its complement; just below the last multiple below 2^63."""
    rows = TOP // 2
    cdf = np.stack([np.zeros(rows), np.arange(1, rows + 1), np.full(rows, TOP)], axis=1).astype(np.int32)
    made = CdfTables(cdf.ravel(), np.full(rows, 3, np.int32), np.zeros(rows, np.int32))
    reciprocals, shifts = (part.reshape(rows, 3).tolist() for part in made.reciprocals)
    for row in range(rows):
        for entry, frequency in enumerate((row + 1, TOP - row - 1)):
            if frequency > 1:
                state = ((1 << 63) - 1) // frequency * frequency - 1
                assert (state * reciprocals[row][entry] >> 64) >> shifts[row][entry] == state // frequency
