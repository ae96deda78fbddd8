"""Which engine is taken: none that is wrong, else the fastest; and what is kept of it on disk."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from robuststream.errors import UnsupportedModel
from robuststream.networks import choice
from robuststream.networks.choice import engine_for
from robuststream.networks.engines import ENGINES, Float32, Float64

CPU = torch.device("cpu")
SHAPES = [(18, 5), (75, 8)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def kept(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.json"))


def ranked(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """The first is the fastest."""
    times = {name: float(place + 1) for place, name in enumerate(names)}
    monkeypatch.setattr(choice, "_times", lambda device: dict(times))


class Narrow(Float64):
    """Sums that do not hold 24 bits of value: as a kernel's that saturates."""

    name = "int8"

    def sums(self, columns: Tensor, prepared: Tensor) -> Tensor:
        return super().sums(columns, prepared).clamp(max=(1 << 31) - 1)


def test_the_verdict_is_kept_and_read(folder, monkeypatch):
    ranked(monkeypatch, "float64", "int8")
    assert engine_for(CPU, SHAPES).name == "float64"
    (path,) = kept(folder)
    verdict = json.loads(path.read_bytes())
    exact = {"float64 18x5": True, "float64 75x8": True}
    assert verdict == {"rounds": 1, "seconds": {"float64": 1.0, "int8": 2.0}, "exact": exact}
    monkeypatch.setattr(choice, "_known_answer", None)
    assert engine_for(CPU, SHAPES).name == "float64"


def test_the_least_time_of_the_first_processes_counts(folder, monkeypatch):
    """One that measured on a busy machine does not decide for ever."""
    for rounds in range(1, choice.ENOUGH_ROUNDS + 3):
        busy = rounds != 3
        times = {"int8": 5.0 if busy else 0.5, "float64": 1.0}
        monkeypatch.setattr(choice, "_times", lambda device, times=times: times)
        assert engine_for(CPU, SHAPES).name == ("float64" if rounds < 3 else "int8")
        verdict = json.loads(kept(folder)[0].read_bytes())
        assert verdict["rounds"] == min(rounds, choice.ENOUGH_ROUNDS)
        assert verdict["seconds"] == {"int8": 5.0 if rounds < 3 else 0.5, "float64": 1.0}


def test_a_shape_that_was_not_tried_is(folder, monkeypatch):
    ranked(monkeypatch, "float64")
    engine_for(CPU, SHAPES)
    engine_for(CPU, [(4, 4)])
    assert "float64 4x4" in json.loads(kept(folder)[0].read_bytes())["exact"]


def test_an_engine_that_is_wrong_is_not_taken(folder, monkeypatch, caplog):
    ranked(monkeypatch, "int8", "float64")
    monkeypatch.setitem(ENGINES, "int8", Narrow())
    with caplog.at_level(logging.WARNING):
        assert engine_for(CPU, SHAPES).name == "float64"
    assert "int8 is not exact on cpu" in caplog.text
    assert json.loads(kept(folder)[0].read_bytes())["exact"]["int8 18x5"] is False


def test_where_none_is_exact_nothing_is_computed(monkeypatch):
    ranked(monkeypatch, "int8")
    monkeypatch.setitem(ENGINES, "int8", Narrow())
    with pytest.raises(UnsupportedModel, match="no engine computes exactly on cpu"):
        engine_for(CPU, SHAPES)


NONSENSE = ["", "[]", "{", "\0", '{"rounds": 1, "seconds": {}, "exact": {}}', '{"rounds": 1}']
NONSENSE += [
    '{"rounds": 1, "seconds": {"magic": 1.0}, "exact": {}}',
    '{"rounds": 1, "seconds": {"int8": "1"}, "exact": {}}',
]


@pytest.mark.parametrize("text", NONSENSE)
def test_a_damaged_verdict_is_found_anew(folder, monkeypatch, text):
    ranked(monkeypatch, "int8")
    engine_for(CPU, SHAPES)
    kept(folder)[0].write_text(text)
    assert engine_for(CPU, SHAPES).name == "int8"
    assert json.loads(kept(folder)[0].read_bytes())["seconds"] == {"int8": 1.0}


def test_without_a_folder_only_time_is_lost(folder, monkeypatch):
    (folder / "robuststream").write_text("a file where a folder would be")
    assert engine_for(CPU, SHAPES).name in ENGINES
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "")
    monkeypatch.chdir(folder)
    assert engine_for(CPU, SHAPES).name in ENGINES
    assert sorted(path.name for path in folder.iterdir()) == ["robuststream"]


def test_settings_that_change_kernels_have_verdicts_of_their_own(folder):
    before = choice._path(CPU)
    with torch.backends.mkldnn.flags(enabled=False):
        assert choice._path(CPU) != before
    assert choice._path(CPU) == before


def test_long_sums_are_tried_as_far_as_they_may_go():
    """Full-size terms in all places would leave the bounds, and a model that keeps them would be refused."""
    for name in ("int8", "float64"):
        assert choice._known_answer(ENGINES[name], ((1 << 17), 2), CPU)


def test_an_engine_can_be_forced(monkeypatch):
    for name in ENGINES:
        monkeypatch.setenv(choice.VARIABLE, name)
        assert engine_for(CPU, SHAPES).name == name
    monkeypatch.setenv(choice.VARIABLE, "magic")
    with pytest.raises(UnsupportedModel, match="magic: the engines are int8, float64"):
        engine_for(CPU, SHAPES)


def test_engines_that_a_device_has_not_are_left_out(monkeypatch):
    monkeypatch.setattr(choice, "_time", lambda engine, device: None if engine.name == "float64" else 1.0)
    assert choice._times(CPU) == {"int8": 1.0}
    monkeypatch.setattr(choice, "_time", lambda engine, device: 1.0)
    assert choice._times(torch.device("mps")) == {"float32": 1.0}


def test_a_device_without_a_kernel_has_no_time():
    class Missing(Float32):
        def sums(self, columns: Tensor, prepared: Tensor) -> Tensor:
            raise RuntimeError("not implemented for 'Char'")

    assert choice._time(Missing(), CPU) is None
    assert (choice._time(Float64(), CPU) or 0) > 0
