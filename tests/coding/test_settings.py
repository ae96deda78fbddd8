"""What encode takes for its numbers: those of any library, and nothing that only looks like one."""

from __future__ import annotations

import ast
import warnings
from decimal import Decimal
from fractions import Fraction
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import robuststream as rs
from robuststream.cli.encode import encode as encode_command
from robuststream.coding.arguments import thousandths
from robuststream.coding.settings import Settings
from robuststream.compressai import RobustCodec
from robuststream.container.packets import Mode
from tests.small import model, picture

IMAGE = picture(70, 70)
#: Where a parameter of such a name is what an encoder is asked.
ROOMS = ("cli", "coding", "compressai", "picture")
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
    given = {"tile": 64, "mode": "native", "quality": None, "parity": 0.0, "checkpoints": 1, "max_pixels": np.int64(9)}
    assert Settings.of(model(), **given) == Settings(64, Mode.NATIVE, 0, 0, 1, 9)


def test_defaults_are_those_of_the_program_as_well() -> None:
    settings = ("tile", "mode", "quality", "parity", "checkpoints", "max_pixels")
    defaults = {name: parameter.default for name, parameter in signature(rs.encode).parameters.items()}
    many = signature(rs.encode_batch).parameters
    options = {option.name: option for option in encode_command.params}
    adapter = signature(RobustCodec).parameters
    assert defaults["tile"] == 256
    assert defaults["mode"] == "exact"
    for name in settings:
        assert many[name].default == defaults[name]
        assert options[name].default == defaults[name] or defaults[name] is None
        assert name not in adapter or adapter[name].default == defaults[name]


def test_defaults_stand_once() -> None:
    """Where a function, or the program, has a default for what an encoder is asked, it names the one there is."""
    names = {"tile", "mode", "parity", "checkpoints", "max_pixels", "--tile", "--mode", "--parity", "--checkpoints"}
    package = Path(rs.__file__).parent
    literal = []
    for path in [*package.glob("*.py"), *(path for room in ROOMS for path in (package / room).glob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                plain = node.args.posonlyargs + node.args.args
                pairs = list(zip(plain[::-1], node.args.defaults[::-1], strict=False))
                pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                given = [(argument.arg, default) for argument, default in pairs]
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                given = [(node.args[0].value, more.value) for more in node.keywords if more.arg == "default"]
            else:
                continue
            literal += [
                f"{path.name}:{default.lineno} {name}"
                for name, default in given
                if name in names and isinstance(default, ast.Constant) and default.value is not ...
            ]
    assert literal == []
