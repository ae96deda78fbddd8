"""Runs one target under libFuzzer (by atheris), and holds every execution to the same rules.

A target is a module with

    LARGEST           bytes of its largest input
    ERRORS            what its entry points may raise
    seeds()           a few small inputs to begin with
    check(data)       one execution; raises where something is wrong
    mutate(data, limit, random)   a changed input of at most `limit` bytes

Imported by atheris' hook, so that only robuststream's own Python is measured for coverage. Numba's kernels must not be
rewritten; they run compiled, with bounds checked (__main__.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import sys
import time
import traceback
import tracemalloc
from pathlib import Path
from random import Random
from typing import Any

import atheris

#: CPU seconds an execution may take. Coverage makes all some times slower: what takes longer with it is kept, for a
#: replay to judge, and what takes far longer ends the run.
LONGEST, FAR_TOO_LONG = 1.0, 10.0
MAX_KEPT = 100
#: Bytes that Python and NumPy may hold at most in an execution: whatever the input is, and for each of its bytes.
FLOOR, FACTOR = 1 << 21, 1 << 10
#: Measuring memory is slow: one execution in so many (a prime, so that it falls into no step with anything), and all
#: of a corpus when it is replayed.
MEASURED = 251
#: Modules that numba compiles.
COMPILED = [
    f"robuststream.{module}"
    for module in (
        "container.flood", "container.prefixes", "entropy.order", "entropy.rans", "networks.limbs",
        "picture.transforms", "priors.thresholds",
    )
]  # fmt: skip


class Broken(Exception):  # noqa: N818 - as the package's own
    """A rule that no exception of the package's own tells of."""


def fuzz(name: str, arguments: list[str], first: Path, slow: Path) -> None:
    """Run libFuzzer with these arguments of its own; ends the process.

    Args:
        first: a folder for the target's seeds.
        slow: a folder for inputs that take long.
    """
    logging.disable()  # a decode tells of all damage
    with atheris.instrument_imports(include=["robuststream"], exclude=COMPILED):
        target = importlib.import_module(f"fuzz.{name}")
    for number, seed in enumerate(target.seeds()):
        (first / f"seed-{number}").write_bytes(seed)
    _warm_up(target)
    count = 0

    def execute(data: bytes) -> None:
        nonlocal count
        count += 1
        spent = _held(target, data, watched=count % MEASURED == 0)
        if spent > FAR_TOO_LONG:
            raise Broken(f"{len(data)} bytes took {spent:.1f} s")
        if spent > LONGEST and len(list(slow.iterdir())) < MAX_KEPT:
            (slow / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def mutate(data: bytes, limit: int, seed: int) -> bytes:
        return bytes(target.mutate(data, limit, Random(seed))[:limit])

    options = [f"-max_len={target.LARGEST}", "-print_final_stats=1", "-rss_limit_mb=3072", "-timeout=120"]
    atheris.Setup([name, *options, *arguments], execute, custom_mutator=mutate)
    atheris.Fuzz()


def replay(name: str, places: list[Path]) -> int:
    """Execute every file, or all of a folder, without coverage: once for its time, once for its memory.

    Returns how many fail.
    """
    logging.disable()
    target = importlib.import_module(f"fuzz.{name}")
    _warm_up(target)
    failed = 0
    for path in (path for place in places for path in (sorted(place.iterdir()) if place.is_dir() else [place])):
        data = path.read_bytes()
        try:
            spent = _held(target, data, watched=False)
            _held(target, data, watched=True)
            if spent > LONGEST:
                raise Broken(f"{len(data)} bytes took {spent:.1f} s")
        except Exception:
            failed += 1
            print(path)
            traceback.print_exc(file=sys.stdout)
    return failed


def _held(target: Any, data: bytes, watched: bool) -> float:
    """One execution, its documented errors let pass; the CPU seconds it took. Raises Broken for too much memory."""
    if watched:
        tracemalloc.start()
    begin = time.thread_time()
    try:
        with contextlib.suppress(*target.ERRORS):
            target.check(data)
        spent = time.thread_time() - begin
        if watched and (peak := tracemalloc.get_traced_memory()[1]) > FLOOR + FACTOR * len(data):
            raise Broken(f"{len(data)} bytes made {peak} bytes of memory")
    finally:
        if watched:
            tracemalloc.stop()
    return spent


def _warm_up(target: Any) -> None:
    """Fill caches and compile kernels, before anything is timed."""
    for seed in target.seeds():
        with contextlib.suppress(*target.ERRORS):
            target.check(seed)
