"""Seeded damage for tests and demonstrations: pure functions on bytes, the same seed gives the same damage.

They compose: `truncate(flip_bits(data, seed=1, count=3), 10_000)`. Random numbers come from `numpy.random.default_rng`.

    bytes overwritten    flip_bits, channel_errors, burst, zero_sectors
    bytes cut or put in  truncate, cut_start, delete, insert
    whole pieces         lose_datagrams, duplicate, reorder, splice, drop_tiles
    a model's networks   drifted

What cannot be done is a ValueError of one line. A function that counts does as many as it was asked for or refuses;
only `burst`, `zero_sectors`, `truncate`, `cut_start` and `delete` take what there is where that is less. Nothing here
imports torch before `drifted` is called. `robuststream.testing` has Hypothesis strategies made of these.
"""

from robuststream.faults.chance import GilbertElliott
from robuststream.faults.cutting import cut_start, delete, insert, truncate
from robuststream.faults.drift import drifted
from robuststream.faults.overwriting import burst, channel_errors, flip_bits, zero_sectors
from robuststream.faults.pieces import ETHERNET_MTU, drop_tiles, duplicate, lose_datagrams, reorder, splice

__all__ = [
    "ETHERNET_MTU",
    "GilbertElliott",
    "burst",
    "channel_errors",
    "cut_start",
    "delete",
    "drifted",
    "drop_tiles",
    "duplicate",
    "flip_bits",
    "insert",
    "lose_datagrams",
    "reorder",
    "splice",
    "truncate",
    "zero_sectors",
]
