"""Seeded damage: the amount asked for, at places a seed decides."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from robuststream import faults
from robuststream.container.reader import read_stream
from robuststream.container.report import TileState
from tests.helpers import sample_stream

DATA = np.random.default_rng(5).bytes(5000)


def flipped(a: bytes, b: bytes) -> int:
    """Bits that differ."""
    return sum((x ^ y).bit_count() for x, y in zip(a, b, strict=True))


def changed(a: bytes, b: bytes) -> list[int]:
    return [place for place, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]


DAMAGES = {
    "bits": lambda data, seed: faults.flip_bits(data, seed=seed, count=9),
    "rate": lambda data, seed: faults.flip_bits(data, seed=seed, rate=1e-3),
    "burst": lambda data, seed: faults.burst(data, seed=seed, length=20, count=2),
    "sectors": lambda data, seed: faults.zero_sectors(data, seed=seed, count=2),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_the_seed_decides(name: str) -> None:
    damage = DAMAGES[name]
    before = bytes(DATA)
    results = [damage(DATA, seed) for seed in range(5)]
    assert results == [damage(DATA, seed) for seed in range(5)]
    assert len(set(results)) == 5
    assert before == DATA
    assert all(len(result) == len(DATA) for result in results)


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


def test_truncate() -> None:
    assert faults.truncate(DATA, 7) == DATA[:7]
    assert faults.truncate(DATA, 0) == b""
    assert faults.truncate(DATA, 10**6) == DATA


def test_empty_data() -> None:
    assert faults.flip_bits(b"", seed=1, rate=0.5) == b""
    assert faults.burst(b"", seed=1, length=5) == b""
    assert faults.zero_sectors(b"", seed=1) == b""
    assert faults.drop_tiles(b"", count=0) == b""


class TestDropTiles:
    header, tiles, stream = sample_stream()

    def states(self, data: bytes) -> list[TileState]:
        return [tile.state for tile in read_stream(data).report.tiles]

    def test_by_name(self) -> None:
        hurt = faults.drop_tiles(self.stream, tiles=[0, 4])
        expected = [TileState.MISSING if index in (0, 4) else TileState.INTACT for index in range(6)]
        assert self.states(hurt) == expected
        packets = {tile.index: tile for tile in read_stream(self.stream).report.tiles}
        cut = self.stream
        for index in (4, 0):
            offset, size = packets[index].offset, packets[index].size
            assert offset is not None
            assert size is not None
            cut = cut[:offset] + cut[offset + size :]
        assert hurt == cut

    @pytest.mark.parametrize("count", range(7))
    def test_by_count(self, count: int) -> None:
        hurt = [faults.drop_tiles(self.stream, seed=seed, count=count) for seed in range(20)]
        assert all(self.states(data).count(TileState.MISSING) == count for data in hurt)
        assert (len(set(hurt)) > 1) == (0 < count < 6)

    def test_all_copies_go(self) -> None:
        hurt = faults.drop_tiles(self.stream + self.stream, tiles=[2])
        assert self.states(hurt)[2] == TileState.MISSING

    def test_tiles_that_are_gone_already(self) -> None:
        assert faults.drop_tiles(self.stream, tiles=[77]) == self.stream


@pytest.mark.parametrize(
    "call",
    [
        lambda: faults.flip_bits(DATA, seed=1),
        lambda: faults.flip_bits(DATA, seed=1, count=1, rate=0.1),
        lambda: faults.flip_bits(DATA, seed=1, count=-1),
        lambda: faults.flip_bits(DATA, seed=1, count=8 * len(DATA) + 1),
        lambda: faults.flip_bits(DATA, seed=1, rate=1.1),
        lambda: faults.flip_bits(DATA, seed=1, rate=float("nan")),
        lambda: faults.burst(DATA, seed=1, length=-1),
        lambda: faults.burst(DATA, seed=1, length=1, count=-1),
        lambda: faults.zero_sectors(DATA, seed=1, count=-1),
        lambda: faults.zero_sectors(DATA, seed=1, size=0),
        lambda: faults.truncate(DATA, -1),
        lambda: faults.drop_tiles(DATA),
        lambda: faults.drop_tiles(DATA, count=1, tiles=[1]),
        lambda: faults.drop_tiles(DATA, count=-1),
        lambda: faults.drop_tiles(TestDropTiles.stream, count=7),
    ],
)
def test_refused(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        call()


def test_imports_no_torch() -> None:
    code = "import sys, robuststream.faults; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
