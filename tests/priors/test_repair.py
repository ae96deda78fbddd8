"""Digest-guided repair: flips near thresholds are found, and nothing else is made up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream.checksum import crc32c
from robuststream.priors.repair import MAX_UNKNOWNS, repaired_rows, solve


def digest(rows: np.ndarray, before: int) -> int:
    return crc32c(rows.astype("<u2").tobytes(), before)


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(0, MAX_UNKNOWNS), st.data())
def test_flips_among_few_doubts_are_found(seed, count, doubtful, data):
    rng = np.random.default_rng(seed)
    theirs = rng.integers(0, 64, count).astype(np.uint16)
    places = rng.choice(count, min(doubtful, count), replace=False)
    here = theirs.copy()
    flipped = places[: data.draw(st.integers(0, len(places)))]
    here[flipped] += 1
    others = here.astype(np.int64)
    others[places] += np.where(np.isin(places, flipped), -1, 1)
    before = int(rng.integers(0, 2**32))
    found = repaired_rows(here, before, digest(theirs, before), lambda tolerance: others)
    # With 20 unknowns the effects may happen to be dependent: then it must refuse, never guess.
    assert found is None or (found == theirs).all()
    if len(places) <= 8:
        assert found is not None


def test_smaller_tolerances_are_tried_first_and_too_many_doubts_refused():
    theirs = np.arange(64, dtype=np.uint16)
    here = theirs.copy()
    here[5] += 1
    asked = []

    def doubts(tolerance):
        asked.append(tolerance)
        others = here.astype(np.int64)
        others[: 4 * len(asked)] -= 1
        return others

    found = repaired_rows(here, 7, digest(theirs, 7), doubts)
    assert (found == theirs).all()
    assert len(asked) == 2
    assert asked == sorted(asked)
    asked.clear()
    here[60] += 1
    assert repaired_rows(here, 7, digest(theirs, 7), doubts) is None
    assert len(asked) == 6  # 24 unknowns are too many


@pytest.mark.parametrize("unknowns", [20, 21])
def test_20_unknowns_are_the_most(unknowns):
    theirs = np.arange(64, dtype=np.uint16)
    here = theirs.copy()
    here[5] += 1
    others = here.astype(np.int64)
    others[:unknowns] -= 1
    found = repaired_rows(here, 7, digest(theirs, 7), lambda tolerance: others)
    assert (found is None) == (unknowns > 20)


def test_no_doubts_no_repair():
    here = np.arange(10, dtype=np.uint16)
    assert repaired_rows(here, 0, 1, lambda tolerance: here.astype(np.int64)) is None


@pytest.mark.parametrize(
    ("columns", "target", "answer"),
    [
        ([0b001, 0b011, 0b111], 0b110, [0, 2]),
        ([0b001, 0b011, 0b111], 0, []),
        ([0b001, 0b010], 0b100, None),
        ([0b001, 0b010, 0b011], 0b011, None),
        ([], 0, []),
        ([], 1, None),
    ],
    ids=["solved", "nothing to flip", "no solution", "several solutions", "no unknowns", "none, and a difference"],
)
def test_equations(columns, target, answer):
    assert solve(columns, target) == answer
