"""The diagrams in the docstrings of priors are there, and say what the code does."""

from __future__ import annotations

import importlib
import pkgutil
import string
from collections.abc import Sequence
from itertools import takewhile

import pytest

from robuststream import priors
from robuststream.priors import autoregressive, checkerboard
from robuststream.priors.context import Order, Places

#: What looks a number up has nothing to draw; gaussian.py's diagram shows where it stands.
WITHOUT = {"thresholds"}
MODULES = [module.name for module in pkgutil.iter_modules(priors.__path__) if module.name not in WITHOUT]
#: Signs of places: those a step decodes, those of earlier steps, and the rest.
NOW, BEFORE, EMPTY = "◌■□"
RASTER_REACH = 2


@pytest.mark.parametrize("name", MODULES)
def test_each_module_has_one(name: str) -> None:
    doc = importlib.import_module(f"robuststream.priors.{name}").__doc__
    assert doc
    assert any(sign in doc for sign in ("►", "■"))
    assert "\t" not in doc


def _rows(doc: str, signs: str) -> list[list[str]]:
    """Lines of the docstring that begin with four such signs or more, without what else stands there."""
    words = [line.split() for line in doc.splitlines() if line.startswith("    ")]
    rows = [list(takewhile(lambda word: set(word) <= set(signs), line)) for line in words]
    return [row for row in rows if len(row) >= 4]


def test_wavefronts() -> None:
    drawn = [[int(step) for step in row] for row in _rows(autoregressive.__doc__ or "", string.digits)]
    height, width = len(drawn), len(drawn[0])
    steps = autoregressive.wavefronts(height, width, RASTER_REACH)
    assert drawn == _numbers(steps, height, width)


def test_what_a_raster_scan_sees() -> None:
    drawn = _rows(autoregressive.__doc__ or "", NOW + BEFORE + EMPTY)
    around = range(-RASTER_REACH, RASTER_REACH + 1)
    seen = [[_seen(autoregressive.RASTER_SCAN, down, across) for across in around] for down in around]
    seen[RASTER_REACH][RASTER_REACH] = NOW
    assert [row[: len(around)] for row in drawn] == seen


def test_halves_of_a_checkerboard() -> None:
    drawn = _rows(checkerboard.__doc__ or "", NOW + BEFORE + EMPTY)
    height, width = len(drawn), 4
    numbers = _numbers(checkerboard.CHECKERBOARD.steps(height, width, 1), height, width)
    first = [[NOW if step == 0 else EMPTY for step in row] for row in numbers]
    second = [[NOW if step == 1 else BEFORE for step in row] for row in numbers]
    assert [row[:8] for row in drawn] == [left + right for left, right in zip(first, second, strict=True)]
    odd = checkerboard.CHECKERBOARD_ODD.steps(height, width, 1)
    assert numbers == [[1 - step for step in row] for row in _numbers(odd, height, width)]


def _seen(order: Order, down: int, across: int) -> str:
    return BEFORE if order.sees(down, across) else EMPTY


def _numbers(steps: Sequence[Places], height: int, width: int) -> list[list[int]]:
    """The number of the step that codes each place."""
    numbers = [[-1] * width for _ in range(height)]
    for number, (rows, columns) in enumerate(steps):
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            numbers[row][column] = number
    return numbers
