"""Where chance comes from: seeded generators, and a channel whose errors come in bursts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Units of a channel that are drawn at a time: memory depends on it, and so do the errors that a seed gives.
BLOCK = 1 << 20


def generator(seed: int) -> np.random.Generator:
    """Raises ValueError for a negative seed."""
    if seed < 0:
        raise ValueError(f"a seed of {seed} is not possible: seeds are whole numbers from 0 on")
    return np.random.default_rng(seed)


def check_probability(value: float, what: str) -> None:
    """Raises ValueError for what is not between 0 and 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{what} of {value} is not between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class GilbertElliott:
    """A channel that is in a good or in a bad state, and in each of them errs at another rate.

    Units (bits, bytes, datagrams) pass one after the other. Before each but the first the state may change: a Markov
    chain of two states, which starts in its stationary distribution. With `error_good` 0 it is Gilbert's channel (E. N.
    Gilbert, Capacity of a burst-noise channel, Bell System Technical Journal 39, 1960, pages 1253-1265), else Elliott's
    (E. O. Elliott, Estimates of error rates for codes on burst-noise channels, Bell System Technical Journal 42, 1963,
    pages 1977-1997).

    Attributes:
        to_bad: probability that the good state is followed by the bad one.
        to_good: probability that the bad state is followed by the good one.
        error_good, error_bad: probability that a unit is wrong (of a datagram: lost) in each state.

    Raises:
        ValueError: a probability that is not from 0 to 1, or a channel that never changes its state, which has no
            stationary distribution.
    """

    to_bad: float
    to_good: float
    error_good: float = 0.0
    error_bad: float = 0.5

    def __post_init__(self) -> None:
        check_probability(self.to_bad, "a good-to-bad probability")
        check_probability(self.to_good, "a bad-to-good probability")
        check_probability(self.error_good, "an error rate in the good state")
        check_probability(self.error_bad, "an error rate in the bad state")
        if not self.to_bad and not self.to_good:
            raise ValueError("a channel that goes neither from good to bad nor back never changes its state")

    @property
    def bad_share(self) -> float:
        """Share of units that pass in the bad state."""
        return self.to_bad / (self.to_bad + self.to_good)

    @property
    def error_rate(self) -> float:
        """Share of units that are wrong."""
        return (1 - self.bad_share) * self.error_good + self.bad_share * self.error_bad

    @property
    def mean_burst(self) -> float:
        """Mean number of units from where the channel goes bad to where it is good again."""
        return 1 / self.to_good if self.to_good else float("inf")

    def errors(self, units: int, random: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Which of `units` units in a row are wrong."""
        wrong = np.empty(units, np.bool_)
        bad = bool(random.random() < self.bad_share)
        for start in range(0, units, BLOCK):
            states = self._states(min(BLOCK, units - start), bad, random)
            rates = np.where(states, self.error_bad, self.error_good)
            wrong[start : start + len(states)] = random.random(len(states)) < rates
            bad = bool(states[-1]) ^ bool(random.random() < (self.to_good if states[-1] else self.to_bad))
        return wrong

    def _states(self, units: int, bad: bool, random: np.random.Generator) -> npt.NDArray[np.bool_]:
        """The states of `units` units, the first given; True is bad. Drawn run by run: few numbers for many units."""
        leaving = (self.to_good, self.to_bad) if bad else (self.to_bad, self.to_good)
        lengths: list[npt.NDArray[np.int64]] = []
        covered = 0
        while covered < units:
            pairs = 16 + int((units - covered) * leaving[0] * leaving[1] / sum(leaving))
            runs = [_run_lengths(probability, pairs, units, random) for probability in leaving]
            lengths.append(np.stack(runs, axis=1).ravel())
            covered += int(lengths[-1].sum())
        # Each round of runs begins with the first state and ends with the other one, so they go on from each other.
        ends = np.minimum(np.cumsum(np.concatenate(lengths)), units)
        return np.repeat(np.arange(len(ends)) % 2 == (0 if bad else 1), np.diff(ends, prepend=0))


def _run_lengths(leaving: float, count: int, limit: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """How long a state lasts that ends with probability `leaving` after each unit; nothing longer than `limit`."""
    if not leaving:
        return np.full(count, limit, np.int64)
    return np.minimum(random.geometric(leaving, count), limit)
