"""What encode takes for its numbers: those of any library, and nothing that only looks like one."""

from __future__ import annotations

import warnings
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import robuststream as rs
from robuststream.coding.arguments import thousandths
from robuststream.coding.settings import Settings
from robuststream.container.packets import MAX_PIXELS
from tests.small import model, picture

IMAGE = picture(70, 70)
DATA = rs.encode(IMAGE, model(), tile=64, checkpoints=2)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int32, np.array, torch.tensor])
def test_whole_numbers_of_other_libraries(kind: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        given = {"tile": kind(64), "checkpoints": kind(2), "quality": kind(0)}
        data = rs.encode(IMAGE, model(), **given)
        assert rs.encode_batch([IMAGE], model(), **given) == [data]
        assert data == DATA
        out = rs.open(data, model()).decode([kind(side) for side in (1, 2, 60, 50)])
        assert out.image.size == (59, 48)
    variable = model("mbt2018-mean-vbr")
    assert rs.encode(IMAGE, variable, tile=64, quality=kind(1)) == rs.encode(IMAGE, variable, tile=64, quality=1)


def test_many_pixels_may_be_any_whole_number() -> None:
    limit = np.int64(70 * 70)
    assert rs.encode(IMAGE, model(), tile=64, checkpoints=2, max_pixels=limit) == DATA
    assert rs.decode(DATA, model(), max_pixels=limit).report.exact
    assert rs.verify(DATA, model(), max_pixels=limit).exact
    assert rs.open(DATA, model(), max_pixels=limit).size == (70, 70)


NO_NUMBERS = [
    True,
    False,
    np.bool_(True),
    torch.tensor(True),
    64.0,
    np.float32(64),
    "64",
    b"64",
    [64],
    None,
    np.array([64, 64]),
    1j,
]


@pytest.mark.parametrize("name", ["tile", "quality", "checkpoints", "max_pixels"])
@pytest.mark.parametrize("wrong", NO_NUMBERS, ids=repr)
def test_what_is_no_whole_number(name: str, wrong: Any) -> None:
    if name == "quality" and wrong is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=rf"^{name} .* is not a whole number$"):
            rs.encode(IMAGE, model(), **{"tile": 64, name: wrong})


@pytest.mark.parametrize("wrong", [None, True, 1e9, "1000"])
def test_limits_of_pixels_that_are_no_whole_number(wrong: Any) -> None:
    for call in (rs.decode, rs.verify, rs.open):
        with pytest.raises(ValueError, match=f"max_pixels {wrong!r} is not a whole number"):
            call(DATA, model(), max_pixels=wrong)
    with pytest.raises(ValueError, match="max_pixels"):
        rs.decode_batch([DATA], model(), max_pixels=wrong)


@pytest.mark.parametrize("wrong", [(0, 0, 9), (0, 0, 9, 9, 9), (0, 0, 9.0, 9), (0, 0, "9", 9), 9, (0, 0, None, 9)])
def test_regions_that_are_not_four_whole_numbers(wrong: Any) -> None:
    with rs.open(DATA, model()) as opened, pytest.raises(ValueError, match="is not four whole numbers: left, top"):
        opened.decode(wrong)


@pytest.mark.parametrize(
    ("parity", "expected"),
    [
        (0, 0),
        (0.0, 0),
        (1e-9, 1),
        (0.1, 100),
        (0.07, 70),
        (0.1001, 101),
        (4, 4000),
        (np.float32(0.1), 100),
        (np.float16(0.1), 100),
        (np.float64(0.07), 70),
        (np.float32(3.3), 3300),
        (np.int64(1), 1000),
        (np.array(0.25), 250),
        (torch.tensor(0.1), 100),
        (Decimal("0.07"), 70),
        (Fraction(1, 3), 334),
    ],
    ids=repr,
)
def test_shares(parity: Any, expected: int) -> None:
    assert thousandths("parity", parity, 4) == expected


def test_shares_of_three_digits_count_as_they_are_written() -> None:
    for digits in range(4001):
        assert thousandths("parity", digits / 1000, 4) == thousandths("parity", np.float32(digits / 1000), 4) == digits


@pytest.mark.parametrize("wrong", [-0.1, 4.1, float("nan"), float("inf"), True, np.bool_(True), "0.1", None, [0.1], 1j])
def test_what_is_no_share(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"parity .* is not a number from 0 to 4"):
        rs.encode(IMAGE, model(), tile=64, parity=wrong)


def test_parity_of_another_library() -> None:
    pytest.importorskip("raptorq")
    assert rs.encode(IMAGE, model(), tile=64, parity=np.float32(0.1)) == rs.encode(IMAGE, model(), tile=64, parity=0.1)


def test_settings_as_the_header_has_them() -> None:
    small = model()
    assert Settings.of(small) == Settings(256, rs.inspect(DATA).header.mode, 0, 0, 3, MAX_PIXELS)
