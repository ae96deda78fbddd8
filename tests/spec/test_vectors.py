"""The vectors are what the tool makes, and package and reference decoder say of each what its .json says."""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import robuststream as rs

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
sys.path.insert(0, str(Path(__file__).parents[2] / "spec"))

import make_vectors
import reference_decoder as reference
from vectors.models import MODELS

from tests.spec.test_reference_decoder import RULES

FOLDER = make_vectors.FOLDER
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def read(name: str) -> tuple[bytes, dict[str, Any]]:
    return (FOLDER / f"{name}.robs").read_bytes(), json.loads((FOLDER / f"{name}.json").read_text())


def model_bytes(expected: dict[str, Any]) -> bytes:
    return (FOLDER / "models" / f"{expected['model']}.safetensors").read_bytes()


def test_are_reproduced_byte_for_byte(tmp_path: Path) -> None:
    pytest.importorskip("raptorq")
    make_vectors.write(tmp_path)
    made = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file() and path.name != "README.md"]
    assert len(made) == 2 * len(make_vectors.all_vectors()) + len(MODELS)
    for path in made:
        assert (tmp_path / path).read_bytes() == (FOLDER / path).read_bytes(), path


def test_table_has_every_stream() -> None:
    assert (FOLDER / "README.md").read_text() == make_vectors.table(FOLDER)
    assert {path.stem for path in FOLDER.glob("*.robs")} == set(NAMES)
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 300_000


@pytest.mark.parametrize("name", NAMES)
def test_package(name: str) -> None:
    data, expected = read(name)
    frozen = rs.Model.from_bytes(model_bytes(expected))
    if "refuse" in expected:
        error, word = expected["refuse"]
        with pytest.raises(getattr(rs, error)) as raised:
            rs.decode(data, frozen)
        assert type(raised.value).__name__ == error
        assert word in str(raised.value)
        return
    said = make_vectors.expectation(data, frozen)
    assert {"what": expected["what"], "model": expected["model"], **said} == expected
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.DamageWarning)
        assert rs.verify(data, frozen).exact == all(outcome == "exact" for outcome, _ in expected["tiles"])


@pytest.mark.parametrize("name", NAMES)
def test_reference_decoder(name: str) -> None:
    data, expected = read(name)
    model = reference.load_model(model_bytes(expected))
    outcomes = [outcome for outcome, _ in expected.get("tiles", [])]
    if "refuse" in expected or "verified" in outcomes:
        word = "§16" if "verified" in outcomes else expected["refuse"][1]
        with pytest.raises(reference.Refusal) as raised:
            reference.decode(data, model)
        assert word in str(raised.value)
        return
    stream, latents = reference.decode(data, model)
    side = stream.header.tile // model.stride
    for index, (outcome, stated) in enumerate(expected["tiles"]):
        row, column = divmod(index, stream.header.columns)
        own = latents[:, side * row : side * (row + 1), side * column : side * (column + 1)]
        found = stream.outcomes.get(index, "missing")
        if outcome == "repaired":
            assert found in ("concealed", "missing")
            continue
        assert found == outcome
        assert stated is None or stated == short_hash(np.ascontiguousarray(own, "<i4").tobytes())
    ruled = {rule.value for rule in RULES}
    assert {tuple(finding) for finding in expected["findings"] if finding[0] in ruled} == stream.findings
    assert {str(kind): short_hash(block) for kind, block in stream.metadata.items()} == expected["metadata"]


def short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def test_tables_are_used_in_their_width() -> None:
    """The streams reach most rows of the tables, escapes, and both signs: vectors of zeros would prove little."""
    for name in MODELS:
        data, expected = read(f"good-{name}")
        model = reference.load_model(model_bytes(expected))
        rows: set[int] = set()
        symbol = reference.Rans.symbol

        def seen(self: reference.Rans, row: int) -> int:
            rows.add(row)  # noqa: B023
            return symbol(self, row)  # noqa: B023

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reference.Rans, "symbol", seen)
            _, latents = reference.decode(data, model)
        assert len(rows) > len(model.tables.rows) / 2
        assert latents.min() < 0 < latents.max()
