"""Pieces are lost, doubled, moved and put in whole: as many as were asked for, and no byte of another one."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream import faults
from robuststream.container.report import Rule, TileState
from robuststream.faults import GilbertElliott
from robuststream.transfers.reading import read_stream
from tests.faults.common import DATA, datagrams, packets, within
from tests.helpers import sample_header, sample_stream

SEEDS = st.integers(0, 1 << 40)
MTUS = st.integers(1, 400)
STREAM = sample_stream()[2]
OTHER = sample_stream(sample_header(40, 30), seed=2)[2]
#: A stream with bytes around it and a damaged packet inside.
HURT = b"before" + faults.flip_bits(STREAM, seed=2, count=1) + b"behind"
BURSTS = GilbertElliott(to_bad=0.05, to_good=0.25, error_good=0, error_bad=1)


class TestLoss:
    @given(SEEDS, MTUS, st.one_of(st.floats(0, 1), st.just(BURSTS)))
    def test_whole_datagrams_go(self, seed: int, mtu: int, how: float | GilbertElliott) -> None:
        options = {"channel": how} if isinstance(how, GilbertElliott) else {"rate": how}
        zeroed = faults.lose_datagrams(DATA, seed=seed, mtu=mtu, lost="zeroed", **options)
        before, after = datagrams(DATA, mtu), datagrams(zeroed, mtu)
        # A random datagram of 1 byte may be zero as it is.
        assert all(new in (old, bytes(len(old))) for old, new in zip(before, after, strict=True))
        removed = faults.lose_datagrams(DATA, seed=seed, mtu=mtu, **options)
        if mtu > 8:
            assert removed == b"".join(old for old, new in zip(before, after, strict=True) if any(new))

    @pytest.mark.parametrize(("rate", "share"), [(0, 1), (1, 0)])
    def test_none_and_all(self, rate: float, share: int) -> None:
        assert faults.lose_datagrams(DATA, seed=1, rate=rate, mtu=700) == DATA * share

    def test_datagrams_are_ethernets_unless_told_otherwise(self) -> None:
        sizes = {len(DATA) - len(faults.lose_datagrams(DATA, seed=seed, rate=0.3)) for seed in range(200)}
        assert sizes == {1500 * whole + last for whole in range(4) for last in (0, 500)}

    def lost(self, seed: int, **how: object) -> list[bool]:
        """Which of 5000 datagrams are lost."""
        zeroed = faults.lose_datagrams(b"x" * 50_000, seed=seed, mtu=10, lost="zeroed", **how)  # type: ignore[arg-type]
        return [not any(datagram) for datagram in datagrams(zeroed, 10)]

    def test_rate(self) -> None:
        shares = np.array([np.mean(self.lost(seed, rate=0.1)) for seed in range(40)])
        scores = (shares - 0.1) / sqrt(0.1 * 0.9 / 5000)
        assert np.abs(scores).max() < 4
        assert 0.7 < scores.std() < 1.3

    def test_losses_in_bursts(self) -> None:
        gone = [miss for seed in range(8) for miss in self.lost(seed, channel=BURSTS)]
        lengths = [len(list(group)) for miss, group in groupby(gone) if miss]
        assert len(lengths) > 300
        assert abs(np.mean(lengths) - 4) < 4 * sqrt(0.75) / 0.25 / sqrt(len(lengths))
        fading = 1 - 0.05 - 0.25
        deviation = sqrt(BURSTS.bad_share * (1 - BURSTS.bad_share) * (1 + fading) / (1 - fading) / len(gone))
        assert abs(np.mean(gone) - BURSTS.bad_share) < 4 * deviation


class TestDuplicate:
    @given(SEEDS, MTUS, st.data())
    def test_datagrams(self, seed: int, mtu: int, draw: st.DataObject) -> None:
        pieces = datagrams(DATA, mtu)
        count = draw.draw(st.integers(0, len(pieces)))
        hurt = faults.duplicate(DATA, seed=seed, count=count, mtu=mtu)
        assert within(DATA, hurt)
        if mtu > 8:
            doubled = 0
            for piece in pieces:
                assert hurt.startswith(piece)
                hurt = hurt[len(piece) :]
                if hurt.startswith(piece):
                    hurt = hurt[len(piece) :]
                    doubled += 1
            assert (doubled, hurt) == (count, b"")

    @pytest.mark.parametrize("count", [0, 1, 4, 11])
    def test_packets(self, count: int) -> None:
        hurt = [faults.duplicate(STREAM, seed=seed, count=count) for seed in range(20)]
        before = packets(STREAM)
        for data in hurt:
            after = packets(data)
            assert len(b"".join(after)) == len(data)
            assert len(after) == len(before) + count
            assert within(before, after)
            assert set(after) == set(before)
        assert (len(set(hurt)) > 1) == (0 < count < 11)

    def test_told_by_the_reader(self) -> None:
        rules = {finding.rule for finding in read_stream(faults.duplicate(STREAM, seed=1, count=11)).report.findings}
        assert Rule.DUPLICATE in rules


class TestReorder:
    @given(SEEDS, MTUS, st.data())
    def test_datagrams(self, seed: int, mtu: int, draw: st.DataObject) -> None:
        pieces = datagrams(DATA, mtu)[:-1]  # all of one size, so that they stand in places
        data = b"".join(pieces)
        count = draw.draw(st.integers(2, len(pieces)))
        moved = datagrams(faults.reorder(data, seed=seed, count=count, mtu=mtu), mtu)
        assert Counter(moved) == Counter(pieces)
        elsewhere = sum(old != new for old, new in zip(pieces, moved, strict=True))
        assert elsewhere == count or (elsewhere < count and mtu <= 8)

    @pytest.mark.parametrize("count", [0, 2, 5, 11])
    def test_packets(self, count: int) -> None:
        before = packets(STREAM)
        moved = {faults.reorder(STREAM, seed=seed, count=count) for seed in range(20)}
        for data in moved:
            after = packets(data)
            assert Counter(after) == Counter(before)
            assert len(b"".join(after)) == len(data)
            # The three copies of the HEADER are the same bytes.
            assert count - 3 <= sum(old != new for old, new in zip(before, after, strict=True)) <= count
        assert (len(moved) > 1) == (count > 0)

    def test_every_pair_can_change_places(self) -> None:
        pairs = {faults.reorder(b"abcd", seed=seed, mtu=1) for seed in range(200)}
        assert pairs == {b"bacd", b"cbad", b"dbca", b"acbd", b"adcb", b"abdc"}


@pytest.mark.parametrize("count", [2, 4])
def test_bytes_of_no_packet_stay(count: int) -> None:
    for seed in range(10):
        for hurt in (faults.reorder(HURT, seed=seed, count=count), faults.duplicate(HURT, seed=seed, count=count)):
            assert hurt.startswith(b"before")
            assert hurt.endswith(b"behind")
            assert set(packets(hurt)) == set(packets(HURT))


class TestSplice:
    strange = packets(OTHER)

    @pytest.mark.parametrize("count", [0, 1, 3, 4])
    def test_packets(self, count: int) -> None:
        """Of the other stream, as they were, between those of this one; two are copies of its HEADER."""
        hurt = {faults.splice(STREAM, other=OTHER, seed=seed, count=count) for seed in range(20)}
        for data in hurt:
            after = packets(data)
            assert len(b"".join(after)) == len(data)
            assert [packet for packet in after if packet not in self.strange] == packets(STREAM)
            added = Counter(packet for packet in after if packet in self.strange)
            assert added.total() == count
            assert added <= Counter(self.strange)
        assert (len(hurt) > 1) == (count > 0)

    def test_every_border(self) -> None:
        places = set()
        for seed in range(200):
            after = packets(faults.splice(STREAM, other=OTHER, seed=seed))
            places.add([packet in self.strange for packet in after].index(True))
        assert places == set(range(len(packets(STREAM)) + 1))

    def test_never_inside_a_packet_or_gap(self) -> None:
        for seed in range(20):
            hurt = faults.splice(HURT, other=OTHER, seed=seed)
            (added,) = [packet for packet in packets(hurt) if packet in self.strange]
            assert hurt.replace(added, b"") == HURT
            assert set(packets(hurt)) - {added} == set(packets(HURT))

    @given(SEEDS, st.integers(0, 3), st.integers(0, 80))
    def test_bytes(self, seed: int, count: int, length: int) -> None:
        data, other = DATA[:100], DATA[200:300]
        hurt = faults.splice(data, other=other, seed=seed, count=count, length=length)
        assert len(hurt) == 100 + count * length
        assert within(data, hurt)
        once = faults.splice(data, other=other, seed=seed, length=length)
        places = [place for place in range(101) if once[:place] + once[place + length :] == data]
        assert any(once[place : place + length] in other for place in places)


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
