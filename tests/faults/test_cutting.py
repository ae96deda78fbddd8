"""Bytes that go or come: as many as were asked for, and the others stay as they are and in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from robuststream import faults
from robuststream.faults.cutting import put_in
from tests.faults.common import DATA, within

SEEDS = st.integers(0, 1 << 40)
RUNS = st.integers(0, 4), st.integers(0, 40)


def test_truncate() -> None:
    assert faults.truncate(DATA, 7) == DATA[:7]
    assert faults.truncate(DATA, 0) == b""
    assert faults.truncate(DATA, 10**6) == DATA


def test_cut_start() -> None:
    assert faults.cut_start(DATA, length=7) == DATA[7:]
    assert faults.cut_start(DATA, length=0) == DATA
    assert faults.cut_start(DATA, length=10**6) == b""


@given(st.binary(max_size=100), SEEDS, *RUNS)
def test_deleted_runs(data: bytes, seed: int, count: int, length: int) -> None:
    hurt = faults.delete(data, seed=seed, length=length, count=count)
    assert len(hurt) == max(0, len(data) - count * length)
    assert within(hurt, data)
    once = faults.delete(data, seed=seed, length=length)
    assert once in {data[:start] + data[start + length :] for start in range(max(1, len(data) - length + 1))}


@given(st.binary(max_size=100), SEEDS, *RUNS)
def test_inserted_runs(data: bytes, seed: int, count: int, length: int) -> None:
    hurt = faults.insert(data, seed=seed, length=length, count=count)
    assert len(hurt) == len(data) + count * length
    assert within(data, hurt)
    once = faults.insert(data, seed=seed, length=length)
    assert any(once[:start] + once[start + length :] == data for start in range(len(data) + 1))


def test_places_reach_both_ends() -> None:
    data = b"abc"
    assert {faults.delete(data, seed=seed, length=1) for seed in range(40)} == {b"bc", b"ac", b"ab"}
    inserted = [faults.insert(b"\0\0\0", seed=seed, length=1) for seed in range(300)]
    places = [[place for place, byte in enumerate(hurt) if byte] for hurt in inserted]
    # A random byte may be 0 as well.
    assert all([place] in places for place in range(4))


def test_inserted_bytes_are_random() -> None:
    added = faults.insert(b"", seed=1, length=25_600)
    counts = [added.count(value) for value in range(256)]
    # 100 each on average, with a standard deviation of 10.
    assert 50 < min(counts) <= max(counts) < 150


def test_put_in() -> None:
    assert put_in(b"abc", [3, 0, 1, 0], [b"4", b"2", b"3", b"1"]) == b"21a3bc4"
    assert put_in(b"", [0, 0], [b"y", b"x"]) == b"yx"
    assert put_in(b"abc", [], []) == b"abc"
