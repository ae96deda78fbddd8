"""The public strategies: streams are intact, damage is total, and both reach what they are there to reach."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robuststream import faults, testing
from robuststream.container.packets import MAX_TILE, Colour, Mode
from robuststream.container.report import TileState
from robuststream.errors import DamagedStream, NotARobustStream, UnsupportedVersion
from robuststream.transfers.reading import read_stream


@given(testing.contents())
def test_streams_are_intact_and_read_as_written(content: testing.Content) -> None:
    stream = read_stream(content.data)
    assert stream.report.intact
    assert replace(stream.header, metadata_packets=0) == content.header
    assert tuple(stream.tiles.values()) == content.tiles
    assert stream.metadata == content.metadata
    assert not stream.unproven


@given(testing.streams())
def test_streams_are_small(data: bytes) -> None:
    assert len(data) > 2 * testing.LONGEST_PIECE
    assert len(data) < 60_000
    assert read_stream(data).report.intact


@given(testing.contents(max_side=1, max_words=3))
def test_limits_hold(content: testing.Content) -> None:
    assert len(content.tiles) == 1
    assert len(content.tiles[0].words) <= 12


KINDS: dict[str, Callable[[testing.Content], Any]] = {
    "native mode, earlier digests": lambda content: content.header.mode == Mode.NATIVE and content.tiles[0].earlier,
    "grey": lambda content: content.header.colour == Colour.GREY,
    "no z": lambda content: not content.header.z_checkpoint,
    "seam at the end": lambda content: content.tiles[0].z_words == len(content.tiles[0].words) // 4 > 2,
    "quality of many bits": lambda content: content.header.quality > 1 << 20,
    "a tile": lambda content: len(content.tiles) == 1,
    "nine tiles": lambda content: len(content.tiles) == 9,
    "tiles cut off": lambda content: content.header.width % content.header.tile,
    "large tiles": lambda content: content.header.tile > MAX_TILE // 2,
    "a long name": lambda content: len(content.header.model_name.encode()) > 30,
    "no metadata": lambda content: not content.metadata.items(),
    "an empty block": lambda content: content.metadata.icc == b"",
    "a block in parts": lambda content: len(content.metadata.xmp or b"") > 1 << 14,
}


def test_streams_of_all_kinds_are_drawn() -> None:
    seen: set[str] = set()

    @settings(max_examples=3000, derandomize=True)
    @given(testing.contents())
    def look(content: testing.Content) -> None:
        seen.update(name for name, is_it in KINDS.items() if is_it(content))

    look()
    assert seen == set(KINDS)


def test_damaged_streams_raise_nothing_else() -> None:
    """And are of all kinds: intact still, readable, without a header, without a packet."""
    seen: set[str] = set()

    @settings(max_examples=500, derandomize=True)
    @given(testing.damaged_streams())
    def look(data: bytes) -> None:
        try:
            stream = read_stream(data)
        except (DamagedStream, NotARobustStream, UnsupportedVersion) as error:
            seen.add(type(error).__name__)
            return
        seen.add("intact" if stream.report.intact else "damaged")
        whole = [tile.index for tile in stream.report.tiles if tile.state == TileState.INTACT]
        assert whole == sorted(stream.tiles)

    look()
    assert seen == {"intact", "damaged", "DamagedStream", "NotARobustStream"}


@given(testing.contents(), testing.damage())
def test_what_is_whole_after_damage_is_what_was_written(content: testing.Content, damage: testing.Damage) -> None:
    data = content.data
    hurt = damage(data)
    try:
        stream = read_stream(hurt)
    except (DamagedStream, NotARobustStream):
        assert hurt != data
        return
    # Packets of another stream may have been put in, before the first that is left of this one.
    if stream.stream_id == read_stream(data).stream_id:
        assert stream.report.intact == (hurt == data)
        for index, tile in stream.tiles.items():
            assert tile == content.tiles[index]


@given(st.binary(max_size=200), testing.damage())
def test_damage_takes_any_bytes(data: bytes, damage: testing.Damage) -> None:
    assert damage(data) == damage(data)


@given(testing.streams(), testing.steps())
def test_no_step_is_refused_by_an_intact_stream(data: bytes, step: testing.Step) -> None:
    assert testing.Damage((step,))(data) == step(data)


def test_every_injector_is_drawn_and_does_something() -> None:
    seen: set[str] = set()

    @settings(max_examples=3000, derandomize=True)
    @given(testing.streams(), testing.steps())
    def look(data: bytes, step: testing.Step) -> None:
        if step(data) != data:
            seen.add(step.name)

    look()
    assert seen == set(faults.__all__) - {"GilbertElliott", "ETHERNET_MTU", "drifted"}


@given(testing.streams(), testing.damage())
def test_printed_damage_is_the_calls_it_makes(data: bytes, damage: testing.Damage) -> None:
    text = repr(damage)
    assert text.startswith("<Damage faults.")
    names = {"faults": faults, "GilbertElliott": faults.GilbertElliott, "data": data}
    call = text.removeprefix("<Damage ").removesuffix(">")
    hurt = data
    try:
        for step in damage.steps:
            hurt = step(hurt)
    except ValueError as error:
        # A step that the data does not allow: `damage` passes it over, the call says so.
        with pytest.raises(ValueError, match=re.escape(str(error))):
            eval(call, names)
    else:
        assert eval(call, names) == hurt == damage(data)


def test_damage_has_as_many_steps_as_allowed() -> None:
    counts: Counter[int] = Counter()

    @given(testing.damage(max_steps=2))
    def count(damage: testing.Damage) -> None:
        counts[len(damage.steps)] += 1

    count()
    assert set(counts) == {1, 2}


def test_without_hypothesis_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['hypothesis'] = None; import robuststream.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert message == "ImportError: robuststream.testing needs hypothesis: pip install 'robuststream[testing]'"
