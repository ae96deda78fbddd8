"""Bytes that become others in their places: as many as were asked for, where a seed decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream import faults
from tests.faults.common import DATA, changed


def flipped(a: bytes, b: bytes) -> int:
    """Bits that differ."""
    return sum((x ^ y).bit_count() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("count", [0, 1, 2, 100, 8 * 5000])
def test_so_many_bits_are_flipped(count: int) -> None:
    assert flipped(faults.flip_bits(DATA, seed=3, count=count), DATA) == count


def test_a_rate_flips_about_its_share() -> None:
    counts = [flipped(faults.flip_bits(DATA, seed=seed, rate=0.01), DATA) for seed in range(50)]
    # 40,000 bits: 400 on average, with a standard deviation of 20; of a mean of 50, below 3.
    assert abs(np.mean(counts) - 400) < 12
    assert 12 < np.std(counts) < 30
    assert faults.flip_bits(DATA, seed=1, rate=0) == DATA
    assert flipped(faults.flip_bits(DATA, seed=1, rate=1), DATA) == 8 * len(DATA)


def test_every_bit_can_be_flipped() -> None:
    places = {faults.flip_bits(bytes(2), seed=seed, count=1) for seed in range(300)}
    assert places == {(1 << bit).to_bytes(2, "little") for bit in range(16)}


def test_a_burst_stays_in_its_run() -> None:
    for seed in range(30):
        places = changed(faults.burst(DATA, seed=seed, length=12), DATA)
        assert places
        assert places[-1] - places[0] < 12


def test_bursts_reach_both_ends() -> None:
    hurt = {faults.burst(bytes(4), seed=seed, length=2) for seed in range(60)}
    assert any(data[0] for data in hurt)
    assert any(data[3] for data in hurt)
    assert len(changed(faults.burst(DATA, seed=1, length=10**6), DATA)) > 4900


def test_sectors_are_aligned() -> None:
    ones = b"\1" * 1300
    for seed in range(10):
        hurt = faults.zero_sectors(ones, seed=seed, count=1)
        zeros = [place for place, byte in enumerate(hurt) if not byte]
        assert zeros in (list(range(512)), list(range(512, 1024)), list(range(1024, 1300)))
    assert faults.zero_sectors(ones, seed=1, count=9) == bytes(1300)


@given(st.binary(max_size=300), st.integers(0, 1 << 40), st.data())
def test_counts_are_exact(data: bytes, seed: int, draw: st.DataObject) -> None:
    count = draw.draw(st.integers(0, 8 * len(data)))
    hurt = faults.flip_bits(data, seed=seed, count=count)
    assert flipped(hurt, data) == count
    sectors, size = draw.draw(st.integers(0, 9)), draw.draw(st.integers(1, 99))
    ones = bytes(len(data)).replace(b"\0", b"\1")
    zeroed = faults.zero_sectors(ones, seed=seed, count=sectors, size=size)
    starts = {place // size for place in changed(zeroed, ones)}
    assert len(starts) == min(sectors, -(-len(data) // size))
    assert zeroed == b"".join(
        bytes(len(ones[start : start + size])) if start // size in starts else ones[start : start + size]
        for start in range(0, len(ones), size)
    )
