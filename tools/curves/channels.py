"""The channels that streams pass: `robuststream.faults` on a file's bytes, the same for every codec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from robuststream.faults import GilbertElliott, flip_bits, lose_datagrams

#: Bytes a datagram: what an Ethernet frame holds, less headers.
MTU = 1400
#: Datagrams lost in a row, on average, on the Gilbert-Elliott channel.
MEAN_BURST = 3

BIT_ERRORS, LOSS, BURSTS, REMOVED = "bit errors", "packet loss", "packet loss in bursts", "packet loss, removed"
#: Lost datagrams are zeroed, as where a receiver knows the place of what it misses: no codec's parts move, which helps
#: all that have no way to find them again. One level of the last channel shows what becomes of them otherwise.
LEVELS = {
    BIT_ERRORS: (1e-7, 1e-6, 1e-5, 1e-4, 1e-3),
    LOSS: (0.01, 0.02, 0.05, 0.1, 0.2),
    BURSTS: (0.01, 0.02, 0.05, 0.1, 0.2),
    REMOVED: (0.05,),
}
#: What the bars are about: level by channel.
BARS = {BIT_ERRORS: 1e-5, LOSS: 0.05, BURSTS: 0.05, REMOVED: 0.05}


@dataclass(frozen=True)
class Cell:
    """A channel at a level: a bit error rate, or the share of datagrams that are lost."""

    channel: str
    level: float

    @property
    def bar(self) -> bool:
        return BARS.get(self.channel) == self.level

    def damage(self, data: bytes, seed: int) -> bytes:
        if self.channel == BIT_ERRORS:
            return flip_bits(data, seed=seed, rate=self.level)
        if self.channel == LOSS:
            return lose_datagrams(data, seed=seed, mtu=MTU, rate=self.level, lost="zeroed")
        if self.channel == BURSTS:
            return lose_datagrams(data, seed=seed, mtu=MTU, channel=bursts(self.level), lost="zeroed")
        return lose_datagrams(data, seed=seed, mtu=MTU, rate=self.level)


def bursts(rate: float) -> GilbertElliott:
    """A channel that loses all in its bad state and nothing in its good one, `rate` in the mean."""
    to_good = 1 / MEAN_BURST
    return GilbertElliott(to_bad=to_good * rate / (1 - rate), to_good=to_good, error_bad=1.0)


def cells() -> Iterator[Cell]:
    for channel, levels in LEVELS.items():
        for level in levels:
            yield Cell(channel, level)
