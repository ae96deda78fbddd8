"""The table of trust: each evidence, and what follows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from robuststream.container import layout
from robuststream.container.packets import Mode
from robuststream.container.proof import HeaderSource, Proof, decoded
from robuststream.container.report import Outcome
from tests.helpers import random_tiles, sample_header

HEADER = sample_header(64, 64)
TILES = dict(enumerate(random_tiles(HEADER)))
PAYLOAD = layout.build_header(HEADER)
IDENTITY = layout.stream_id(PAYLOAD, TILES.values())
SOME = {index: TILES[index] for index in (0, 2, 3)}


def proof(source: HeaderSource = HeaderSource.INTACT, **changes: object) -> Proof:
    return replace(Proof(IDENTITY, PAYLOAD, 4, source), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", HeaderSource)
@pytest.mark.parametrize("evidence", [{}, {"header_conflict": True}, {"tile_conflicts": frozenset({1})}])
def test_with_all_tiles_the_stream_id_decides(source, evidence):
    """Whatever else there is for or against them."""
    assert list(proof(source, **evidence).unproven(TILES)) == []
    other = {**TILES, 1: replace(TILES[1], words=TILES[1].words[:-1] + b"!")}
    assert list(proof(source, **evidence).unproven(other)) == [0, 1, 2, 3]
    assert list(proof(source, identity=bytes(4), **evidence).unproven(TILES)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("source", "confirmed"),
    [
        (HeaderSource.INTACT, True),
        (HeaderSource.AGREED, True),
        (HeaderSource.CORRECTED, False),
        (HeaderSource.RESTORED, True),
        (HeaderSource.COPY, True),
        (HeaderSource.BORROWED, False),
    ],
)
def test_without_all_of_them_the_header_must_be_confirmed(source, confirmed):
    assert source.confirmed == confirmed
    assert list(proof(source).unproven(SOME)) == ([] if confirmed else [0, 1, 2, 3])


def test_conflicts_speak_against_what_they_are_about():
    assert list(proof(header_conflict=True).unproven(SOME)) == [0, 1, 2, 3]
    assert set(proof(tile_conflicts=frozenset({2})).unproven(SOME)) == {2}


@pytest.mark.parametrize(
    ("mode", "whole", "repaired", "outcome"),
    [
        (Mode.EXACT, True, False, Outcome.EXACT),
        (Mode.NATIVE, True, False, Outcome.VERIFIED),
        (Mode.EXACT, True, True, Outcome.REPAIRED),
        (Mode.NATIVE, True, True, Outcome.REPAIRED),
        (Mode.EXACT, False, False, Outcome.CONCEALED),
        (Mode.NATIVE, False, True, Outcome.CONCEALED),
    ],
)
def test_what_a_decoded_tile_is_called(mode, whole, repaired, outcome):
    assert decoded(mode, whole, repaired) == outcome
