"""The Gilbert-Elliott channel against its formulas, at fixed seeds."""

from __future__ import annotations

from itertools import groupby
from math import sqrt

import numpy as np
import numpy.typing as npt
import pytest

from robuststream import faults
from robuststream.faults import GilbertElliott, chance

DATA = np.random.default_rng(6).bytes(50_000)
CHANNELS = [
    GilbertElliott(to_bad=0.01, to_good=0.1, error_good=0.002, error_bad=0.4),
    GilbertElliott(to_bad=0.2, to_good=0.05, error_good=0.3, error_bad=0.9),
    GilbertElliott(to_bad=0.9, to_good=0.8, error_good=0, error_bad=0.5),
    GilbertElliott(to_bad=0.002, to_good=1, error_good=0, error_bad=1),
]


def wrong_bits(channel: GilbertElliott, seed: int, data: bytes = DATA) -> npt.NDArray[np.bool_]:
    """Which bits were flipped, in the order in which they pass: the lowest of a byte first."""
    hurt = faults.channel_errors(data, seed=seed, channel=channel)
    change = np.frombuffer(hurt, np.uint8) ^ np.frombuffer(data, np.uint8)
    return np.unpackbits(change, bitorder="little").astype(np.bool_)


def deviation(channel: GilbertElliott, units: int) -> float:
    """Standard deviation of the error rate over so many units: errors k units apart are correlated as states are."""
    fading = 1 - channel.to_bad - channel.to_good
    states = channel.bad_share * (1 - channel.bad_share) * (channel.error_bad - channel.error_good) ** 2
    rate = channel.error_rate
    return sqrt((rate * (1 - rate) + 2 * states * fading / (1 - fading)) / units)


def runs(values: npt.NDArray[np.bool_]) -> dict[bool, list[int]]:
    """Lengths of runs of True and of False, without the first and the last, which may be cut."""
    lengths = [(bool(value), len(list(group))) for value, group in groupby(values)][1:-1]
    return {kind: [length for value, length in lengths if value == kind] for kind in (True, False)}


def assert_mean(lengths: list[int], leaving: float) -> None:
    """The lengths are geometric: mean 1 / leaving, standard deviation sqrt(1 - leaving) / leaving."""
    assert len(lengths) > 300
    expected = sqrt(1 - leaving) / leaving
    assert abs(np.mean(lengths) - 1 / leaving) <= 4 * expected / sqrt(len(lengths))
    assert 0.8 * expected <= np.std(lengths) <= 1.2 * expected


def test_formulas() -> None:
    channel = GilbertElliott(to_bad=0.1, to_good=0.3, error_good=0.2, error_bad=0.6)
    assert channel.bad_share == pytest.approx(0.25)
    assert channel.error_rate == pytest.approx(0.3)
    assert channel.mean_burst == pytest.approx(10 / 3)
    assert GilbertElliott(to_bad=0.1, to_good=0).mean_burst == float("inf")


@pytest.mark.parametrize("channel", CHANNELS)
def test_error_rate_is_the_stationary_one(channel: GilbertElliott) -> None:
    rates = np.array([wrong_bits(channel, seed).mean() for seed in range(40)])
    scores = (rates - channel.error_rate) / deviation(channel, 8 * len(DATA))
    assert np.abs(scores).max() < 4
    assert abs(scores.mean()) < 4 / sqrt(40)
    # Errors that do not come in bursts scatter less, and would be found here.
    assert 0.7 < scores.std() < 1.3


@pytest.mark.parametrize(("to_bad", "to_good"), [(0.01, 0.1), (0.05, 0.02), (0.7, 0.9), (0.01, 1)])
@pytest.mark.parametrize("block", [chance.BLOCK, 7])
def test_bursts_are_as_long_as_the_formula_says(
    to_bad: float, to_good: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all units in the bad state are wrong and no others, states can be seen; also over the seams of blocks."""
    monkeypatch.setattr(chance, "BLOCK", block)
    channel = GilbertElliott(to_bad=to_bad, to_good=to_good, error_good=0, error_bad=1)
    seen = runs(wrong_bits(channel, 3, DATA[:20_000]))
    assert_mean(seen[True], to_good)
    assert_mean(seen[False], to_bad)


def test_gilberts_bursts_in_bytes() -> None:
    channel = GilbertElliott(to_bad=0.02, to_good=0.2, error_good=0, error_bad=1)
    hurt = faults.channel_errors(DATA, seed=1, channel=channel, unit="bytes")
    seen = runs(np.frombuffer(hurt, np.uint8) != np.frombuffer(DATA, np.uint8))
    assert_mean(seen[True], 0.2)
    assert_mean(seen[False], 0.02)


def test_a_wrong_byte_becomes_any_other() -> None:
    always = GilbertElliott(to_bad=1, to_good=0, error_bad=1)
    hurt = np.frombuffer(faults.channel_errors(b"\x07" * 51_000, seed=1, channel=always, unit="bytes"), np.uint8)
    counts = np.bincount(hurt, minlength=256)
    assert counts[7] == 0
    others = np.delete(counts, 7)
    # 200 each on average, with a standard deviation of 14.
    assert 130 < others.min() <= others.max() < 270


def test_the_first_state_is_stationary_too() -> None:
    channel = GilbertElliott(to_bad=0.001, to_good=0.003, error_good=0, error_bad=1)
    first = np.mean([channel.errors(1, np.random.default_rng(seed))[0] for seed in range(4000)])
    assert abs(first - 0.25) < 4 * sqrt(0.25 * 0.75 / 4000)


@pytest.mark.parametrize("unit", ["bits", "bytes"])
@pytest.mark.parametrize("data", [b"", DATA[:1000]])
def test_certain_channels(unit: str, data: bytes) -> None:
    def share(**probabilities: float) -> set[bool]:
        hurt = faults.channel_errors(data, seed=4, channel=GilbertElliott(**probabilities), unit=unit)
        assert len(hurt) == len(data)
        return {x != y for x, y in zip(hurt, data, strict=True)}

    some = bool(data)
    assert share(to_bad=0, to_good=0.5, error_good=0, error_bad=1) == ({False} if some else set())
    assert share(to_bad=0.5, to_good=0, error_good=0, error_bad=1) == ({True} if some else set())
    assert share(to_bad=0.3, to_good=0.2, error_good=1, error_bad=1) == ({True} if some else set())
    assert share(to_bad=0.3, to_good=0.2, error_good=0, error_bad=0) == ({False} if some else set())


def test_a_channel_that_always_changes_alternates() -> None:
    channel = GilbertElliott(to_bad=1, to_good=1, error_good=0, error_bad=1)
    hurt = {faults.channel_errors(bytes(50), seed=seed, channel=channel) for seed in range(20)}
    assert hurt == {b"\x55" * 50, b"\xaa" * 50}


def test_states_that_hardly_ever_end() -> None:
    channel = GilbertElliott(to_bad=1e-300, to_good=1e-300, error_good=0, error_bad=1)
    hurt = {faults.channel_errors(bytes(5000), seed=seed, channel=channel) for seed in range(20)}
    assert hurt == {bytes(5000), b"\xff" * 5000}


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ({"to_bad": 1.5, "to_good": 0.5}, "a good-to-bad probability of 1.5 is not between 0 and 1"),
        ({"to_bad": 0.5, "to_good": -0.1}, "a bad-to-good probability of -0.1"),
        ({"to_bad": 0.5, "to_good": float("nan")}, "a bad-to-good probability of nan"),
        ({"to_bad": 0.5, "to_good": 0.5, "error_good": 2}, "an error rate in the good state of 2"),
        ({"to_bad": 0.5, "to_good": 0.5, "error_bad": -1}, "an error rate in the bad state of -1"),
        ({"to_bad": 0, "to_good": 0}, "never changes its state"),
    ],
)
def test_impossible_channels(probabilities: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GilbertElliott(**probabilities)
