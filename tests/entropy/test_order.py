"""Coding order, against NumPy's stable sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream.entropy.order import arrange, lay


@pytest.mark.parametrize("arrange_", [arrange, arrange.py_func], ids=["compiled", "plain Python"])
@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 60), st.integers(1, 300))
def test_from_the_largest_row_down_and_equal_ones_as_they_stand(arrange_, seed, tiles, elements, count):
    rows = np.random.default_rng(seed).integers(0, count, (tiles, elements)).astype(np.uint16)
    order, counts = np.empty(rows.shape, np.int32), np.full(count, -7, np.int32)
    arrange_(rows, True, counts, order)
    assert (order == np.argsort(-rows.astype(np.int64), axis=1, kind="stable")).all()
    arrange_(rows, False, counts, order)
    assert (order == np.arange(elements)).all()


@pytest.mark.parametrize("lay_", [lay, lay.py_func], ids=["compiled", "plain Python"])
def test_a_step_is_laid_behind_those_before(lay_):
    rng = np.random.default_rng(1)
    rows, symbols = rng.integers(0, 9, (3, 20)).astype(np.uint16), rng.integers(-99, 99, (3, 20)).astype(np.int32)
    order = np.argsort(rng.random(rows.shape), axis=1).astype(np.int32)
    laid_rows, laid_symbols = np.full((3, 50), 7, np.uint16), np.full((3, 50), 7, np.int32)
    lay_(rows, symbols, order, 11, laid_rows, laid_symbols)
    for laid, step in ((laid_rows, rows), (laid_symbols, symbols)):
        assert (laid[:, 11:31] == np.take_along_axis(step, order, axis=1)).all()
        assert (laid[:, :11] == 7).all()
        assert (laid[:, 31:] == 7).all()
