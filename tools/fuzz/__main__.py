"""Fuzz what reads untrusted bytes, with coverage of robuststream's own code. Needs atheris (Linux x86-64).

    python tools/fuzz [TARGET...] [--runs N] [--seconds S] [--seed K] [--work FOLDER] [--once]

Without targets all of them, with the executions of the table below: 10^7, one or two hours. A table of figures is
printed, in CPU seconds. What was found stays in FOLDER/crashes/TARGET, inputs worth keeping in FOLDER/corpus/TARGET,
from where the next run goes on. At the end of each target its corpus is replayed with memory watched. Exit code 1 where
anything was found.

    python tools/fuzz TARGET --replay FILE_OR_FOLDER...    one execution for each file, with the traceback
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: Targets, and executions of a long run.
RUNS = {
    "words": 8_000_000,
    "scanner": 800_000,
    "unit": 700_000,
    "reader": 300_000,
    "flood": 150_000,
    "parity": 20_000,
    "decode": 30_000,
    "damage": 50_000,
    "model": 60_000,
}
#: Runs end at a crash; a target is begun again so often.
CRASHES = 8
#: Executions in one process: atheris' coverage leaks half a kilobyte in each.
CHUNK = 250_000
EXECUTED = re.compile(r"stat::number_of_executed_units: (\d+)")
PIPED: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
FOUND = re.compile(r"Test unit written to (\S+)")


@dataclass
class Figures:
    target: str
    executions: int = 0
    seconds: float = 0.0
    corpus: int = 0
    found: tuple[str, ...] = ()


def fuzz(target: str, runs: int, seconds: float, seed: int, work: Path, again: bool) -> Figures:
    """Run a target in child processes, since libFuzzer ends its process; with `again`, replay what is worth keeping."""
    figures = Figures(target)
    corpus, crashes, first, slow = (work / name / target for name in ("corpus", "crashes", "seeds", "slow"))
    for folder in (corpus, crashes, first, slow):
        folder.mkdir(parents=True, exist_ok=True)
    while figures.executions < runs and seconds > figures.seconds and len(figures.found) < CRASHES:
        begin = _spent()
        done = _child(
            work, "fuzz", target, str(first), str(slow), f"-runs={min(CHUNK, runs - figures.executions)}",
            f"-max_total_time={max(1, int(seconds - figures.seconds))}", f"-seed={seed}",
            f"-artifact_prefix={crashes}/", str(corpus), str(first),
        )  # fmt: skip
        seed += 1
        figures.seconds += _spent() - begin
        executed = EXECUTED.search(done.stdout)
        figures.executions += int(executed[1]) if executed else 0
        if done.returncode or executed is None:
            _tell(target, done.stdout)
            figures.found += tuple(FOUND.findall(done.stdout)) or ("no input",)
    if again:
        done = _child(work, "replay", target, str(corpus), str(slow))
        if done.returncode:
            _tell(target, done.stdout)
            figures.found += ("in the corpus",)
    figures.corpus = len(list(corpus.iterdir()))
    return figures


def _child(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """This file once more, with kernels that check bounds, and compiled for that in a folder of their own."""
    settings = {"OMP_NUM_THREADS": "1", "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(work.resolve() / "kernels")}
    command = [sys.executable, "-W", "ignore", str(Path(__file__)), "--child", *arguments]
    return subprocess.run(command, **PIPED, env={**os.environ, **settings})


def _spent() -> float:
    """CPU seconds of child processes so far: what else runs on the machine does not count."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _tell(target: str, text: str) -> None:
    """The part of libFuzzer's words that says what is wrong."""
    lines = [
        line
        for line in text.splitlines()
        if not line.startswith(("#", "INFO", "WARNING", "stat::", "0x", "\\\\", "Base64"))
    ]
    print(f"{target}:", *lines[-40:], sep="\n    ", file=sys.stderr, flush=True)


def child(what: str, target: str, *arguments: str) -> None:
    # This checkout is fuzzed, whatever is installed.
    sys.path[:1] = [str(ROOT / "tools"), str(ROOT)]
    from fuzz import harness

    if what == "replay":
        sys.exit(int(bool(harness.replay(target, [Path(path) for path in arguments]))))
    first, slow, *rest = arguments
    harness.fuzz(target, rest, Path(first), Path(slow))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(RUNS))
    parser.add_argument("--runs", type=int, help="executions of each target, in place of its own number")
    parser.add_argument("--seconds", type=float, default=7200, help="at most, for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / ".fuzz", help="where corpus and crashes are kept")
    parser.add_argument("--once", action="store_true", help="do not replay the corpus at the end")
    parser.add_argument("--replay", nargs="+", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - RUNS.keys()
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: the targets are {', '.join(RUNS)}")
    if arguments.replay:
        if len(arguments.targets) != 1:
            parser.error("--replay goes with one target")
        done = _child(arguments.work, "replay", *arguments.targets, *map(str, arguments.replay))
        print(done.stdout)
        return done.returncode
    print(f"{'target':10}{'executions':>12}{'seconds':>9}{'exec/s':>8}{'corpus':>8}{'found':>7}", flush=True)
    total = Figures("all")
    for target in arguments.targets or RUNS:
        runs, again = arguments.runs or RUNS[target], not arguments.once
        figures = fuzz(target, runs, arguments.seconds, arguments.seed, arguments.work, again)
        total.executions += figures.executions
        total.seconds += figures.seconds
        total.corpus += figures.corpus
        total.found += figures.found
        _print(figures)
    _print(total)
    return int(bool(total.found))


def _print(figures: Figures) -> None:
    rate = figures.executions / max(figures.seconds, 1e-9)
    print(
        f"{figures.target:10}{figures.executions:12}{figures.seconds:9.1f}{rate:8.0f}"
        f"{figures.corpus:8}{len(figures.found):7}",
        flush=True,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
        sys.exit(0)
    sys.exit(main())
