"""What all campaigns share: trials by number, damage composed at random, what was written, and a tally."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from robuststream.container.layout import SYNC
from robuststream.container.packets import Kind, Packet
from robuststream.container.scanner import scan
from robuststream.faults import GilbertElliott
from robuststream.testing import Damage, Step

Random = np.random.Generator
MOST_STEPS = 3
#: Failures printed of each campaign; all are counted.
PRINTED = 20
#: Seconds between two lines of progress.
PACE = 60


class Campaign(Protocol):
    """Trials that depend on nothing but a seed and their number."""

    def trial(self, number: int, random: Random, counts: Counter[str]) -> tuple[str, list[str]]:
        """What was done to which stream, and what is wrong with what came of it; events are counted."""
        ...


@dataclass
class Tally:
    """What came of some trials: events, and of each trial that failed its number, what was done and what is wrong."""

    trials: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str, list[str]]] = field(default_factory=list)


def run(name: str, campaign: Campaign, seed: int, numbers: range, jobs: int = 1) -> int:
    """Run trials, in so many processes, print what fails and a table; the number of failures."""
    counts: Counter[str] = Counter()
    done = failures = 0
    begin = told = time.monotonic()
    for tally in _tallies(campaign, seed, numbers, jobs):
        done += tally.trials
        counts.update(tally.counts)
        for number, did, wrong in tally.failures:
            for what in wrong[: max(0, PRINTED - failures)]:
                print(f"FAILED: {what}\n  {did}")
                print(f"  again: python tools/campaign.py {name} --seed {seed} --first {number} --trials 1", flush=True)
            failures += 1
        if time.monotonic() - told > PACE:
            told = time.monotonic()
            print(f"{name}: {done} of {len(numbers)} trials, {failures} failed", flush=True)
    spent = time.monotonic() - begin
    print(f"{name}, seed {seed}, trials {numbers.start} to {numbers.stop - 1}: {spent:.0f} s")
    for what, count in counts.items():
        print(f"  {count:>12,}  {what}")
    print(f"  {failures:>12,}  trials with anything wrong", flush=True)
    return failures


def _tallies(campaign: Campaign, seed: int, numbers: range, jobs: int) -> Iterator[Tally]:
    """Of all trials, in the order of their numbers: what is printed does not depend on the number of processes."""
    if jobs == 1:
        for number in numbers:
            yield _try(campaign, seed, range(number, number + 1))
        return
    size = max(1, min(64, len(numbers) // (4 * jobs)))
    parts = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process is a core's worth
    # Forked children of a process in which torch has run may hang.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(jobs, context, _take, (campaign, seed)) as pool:
            yield from pool.map(_try_own, parts)
    except BrokenProcessPool as error:
        raise SystemExit(
            "a process of the campaign died (out of memory, or a crash): find the trial with --jobs 1"
        ) from error


def _try(campaign: Campaign, seed: int, numbers: range) -> Tally:
    tally = Tally(len(numbers))
    for number in numbers:
        did, wrong = campaign.trial(number, np.random.default_rng([seed, number]), tally.counts)
        if wrong:
            tally.failures.append((number, did, wrong))
    return tally


#: Of a process that runs trials for another: the campaign and the seed.
_own: list[Any] = []


def _take(campaign: Campaign, seed: int) -> None:
    _own[:] = campaign, seed
    quiet()


def _try_own(numbers: range) -> Tally:
    return _try(*_own, numbers)


def quiet() -> None:
    """No warnings in the log: damage is what this is about."""
    logging.getLogger("robuststream").setLevel(logging.ERROR)


# --- What was written ------------------------------------------------------------------------------------------------


class Written:
    """A stream as it was, to be held against what is found in damaged bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        packets = [event for event in scan(data) if isinstance(event, Packet)]
        self.identity = packets[0].stream_id
        #: Kind of each packet, copies and all, and the bytes from where to where it stands.
        self.places = [(p.kind, p.offset, p.offset + p.size) for p in packets]
        raw = {(p.kind, p.number): data[p.offset : p.offset + p.size] for p in packets}
        self.header_packet = raw[Kind.HEADER, 0]
        self.tile_packets = {number: packet for (kind, number), packet in raw.items() if kind == Kind.TILE}
        #: Packets that end as a sync begins, and how many bytes of it.
        self.ends = [(q, size) for q in raw.values() for size in (1, 2) if q.endswith(SYNC[:size])]


def headers_survive(hurt: bytes, known: Mapping[bytes, Written]) -> list[Written]:
    """Streams of which a copy of the HEADER stands in `hurt` byte for byte, wherever."""
    return [written for written in known.values() if stands(written.header_packet, hurt, known)]


def surviving_tiles(written: Written, hurt: bytes, known: Mapping[bytes, Written]) -> list[int]:
    """Tiles of which a packet stands in `hurt` byte for byte, wherever."""
    return [number for number, packet in written.tile_packets.items() if stands(packet, hurt, known)]


def stands(packet: bytes, hurt: bytes, known: Mapping[bytes, Written]) -> bool:
    """Whether `packet` stands in `hurt` with bytes of its own.

    Where a packet ends in b7 and the next one begins so, and one of these bytes is deleted, none can tell which: the
    first packet is whole, and the next one lacks its first byte.
    """
    if packet not in hurt:
        return False
    for end, size in [item for written in known.values() for item in written.ends]:
        hurt = hurt.replace(end + packet[size:], end)
    return packet in hurt


# --- Damage ----------------------------------------------------------------------------------------------------------


def draw(random: Random, size: int, others: Sequence[bytes]) -> Damage:
    """1 to MOST_STEPS injectors for a stream of `size` bytes; `others` are what is spliced in."""
    return Damage(tuple(_step(random, size, others) for _ in range(int(random.integers(1, MOST_STEPS + 1)))))


def describe(damage: Damage) -> str:
    """As calls, without the bytes of other streams."""
    return ", then ".join(
        f"{step.name}({', '.join(f'{key}={_short(value)}' for key, value in step.arguments.items())})"
        for step in damage.steps
    )


def _short(value: Any) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else repr(value)


@dataclass(frozen=True)
class Draw:
    """Numbers from light to heavy, light ones more often."""

    random: Random

    def number(self, most: float) -> int:
        """1 to `most`, its logarithm uniform."""
        return int(np.exp(self.random.uniform(0, np.log(max(most, 1) + 1))))

    def share(self, least: float, most: float) -> float:
        return float(np.exp(self.random.uniform(np.log(least), np.log(most))))

    def one_of(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.random.integers(len(choices)))]


def _step(random: Random, size: int, others: Sequence[bytes]) -> Step:
    draw = Draw(random)

    def channel() -> GilbertElliott:
        return GilbertElliott(
            to_bad=draw.share(1e-4, 0.1), to_good=draw.share(0.01, 1), error_bad=float(random.uniform(0.01, 1))
        )

    def lost() -> dict[str, Any]:
        return {"mtu": draw.number(size), "lost": draw.one_of(["removed", "zeroed"])}

    def mtu() -> int | None:
        return draw.one_of([None, draw.number(size)])  # type: ignore[no-any-return]

    menu: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        ("flip_bits", lambda: {"count": draw.number(20)}),
        ("flip_bits", lambda: {"rate": draw.share(1e-5, 0.01)}),
        ("channel_errors", lambda: {"channel": channel(), "unit": draw.one_of(["bits", "bytes"])}),
        ("burst", lambda: {"length": draw.number(size), "count": draw.number(3)}),
        ("zero_sectors", lambda: {"size": draw.number(size), "count": draw.number(3)}),
        ("truncate", lambda: {"length": int(random.integers(size + 1))}),
        ("cut_start", lambda: {"length": int(random.integers(size + 1))}),
        ("delete", lambda: {"length": draw.number(size / 2), "count": draw.number(3)}),
        ("insert", lambda: {"length": draw.number(size), "count": draw.number(3)}),
        ("lose_datagrams", lambda: {"rate": draw.share(0.01, 0.9), **lost()}),
        ("lose_datagrams", lambda: {"channel": channel(), **lost()}),
        ("duplicate", lambda: {"mtu": mtu(), "count": draw.number(3)}),
        ("reorder", lambda: {"mtu": mtu(), "count": 1 + draw.number(4)}),
        ("splice", lambda: {"other": draw.one_of(others), "count": draw.number(8)}),
        ("splice", lambda: {"other": draw.one_of(others), "count": draw.number(3), "length": draw.number(size / 2)}),
        ("drop_tiles", lambda: {"count": draw.number(4)}),
    ]
    name, arguments = draw.one_of(menu)
    seed = {} if name in ("truncate", "cut_start") else {"seed": int(random.integers(1 << 32))}
    return Step(name, {**seed, **arguments()})
