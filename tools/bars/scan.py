"""Reading what keeps a reader busy: all that `decode` does with bytes before it needs a model. Wants Linux.

Each file is read in processes of its own, at a size and at twice that: so the time for each byte says whether a reader
is linear, and the peak of memory beside the file whether what it keeps grows with the file.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bars import hostile
from bars.common import Figure, child
from robuststream.errors import RobustStreamError
from robuststream.transfers.reading import read_restored

RUNS = 5
#: Seconds that a process gets for all its runs. One that takes longer has shown enough.
LIMIT = 60
#: Bytes of what a process reads first, so that nothing is imported or compiled later: forged headers, which the
#: compiled search is for, and less of the input itself, which may be slow.
WARM = 1 << 16
#: Twice the bytes may take so much more time a byte, and so much more memory beside the file.
LINEAR, FLAT, PAGES = 1.25, 1.1, 1e6
#: The slowest for each byte against the fastest.
SPREAD = 3
WIDTH = 42

#: Arguments: the folder of this package, the name of an input, a file of it, seconds.
CODE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bars import hostile, scan
scan.read(hostile.others_nested(scan.WARM))
scan.read(hostile.INPUTS[sys.argv[2]][1](scan.WARM // 16))
print(json.dumps(scan.probe(Path(sys.argv[3]), scan.read, scan.RUNS, float(sys.argv[4]))))
"""


@dataclass(frozen=True)
class Reading:
    """Of a file of `size` bytes: CPU seconds, and the most bytes of memory beside it. None where time ran out."""

    size: int
    seconds: float | None
    memory: float | None

    @property
    def each(self) -> float | None:
        """Nanoseconds a byte."""
        return None if self.seconds is None else 1e9 * self.seconds / self.size


def scan(photos: Path) -> list[Figure]:
    """A table of all inputs: time for each byte, and memory beside the file, at two sizes."""
    return table({name: (measured(name, size), measured(name, 2 * size)) for name, (size, _) in hostile.INPUTS.items()})


def table(readings: dict[str, tuple[Reading, Reading]]) -> list[Figure]:
    """What holds of these pairs of a size and twice that. Streams as writers make them are there to compare."""
    known = [pair[1].each for name, pair in readings.items() if name not in hostile.HONEST]
    fastest = min((each for each in known if each is not None), default=None)
    columns = ("MB", "ns/B", "at 2 x", "of fastest", "MB beside", "at 2 x")
    figures = [Figure("read", "".join(f"{column:>11}" for column in columns).rjust(WIDTH + 66 - len("read")))]
    for name, pair in readings.items():
        once, twice = pair
        ratio = None if twice.each is None or fastest is None else twice.each / fastest
        cells = [
            f"{once.size / 1e6:.2f}",
            *(_cell(reading.each, f"> {LIMIT} s") for reading in pair),
            _cell(ratio, "-"),
            *(_cell(reading.memory, "-", 1e6) for reading in pair),
        ]
        value = "".join(f"{cell:>11}" for cell in cells).rjust(WIDTH + 66 - len(name))
        figures.append(Figure(name, value, "linear, memory flat", is_linear(*pair) and is_flat(*pair)))
    ended = [each for each in known if each is not None]
    spread = max(ended) / min(ended) if ended and len(ended) == len(known) else None
    value = "without end" if spread is None else f"{spread:.1f} x its time a byte"
    verdict = spread is not None and spread <= SPREAD
    return [*figures, Figure("the slowest against the fastest, streams apart", value, f"<= {SPREAD}", verdict)]


def is_linear(once: Reading, twice: Reading) -> bool:
    return once.each is not None and twice.each is not None and twice.each <= LINEAR * once.each


def is_flat(once: Reading, twice: Reading) -> bool:
    return once.memory is not None and twice.memory is not None and twice.memory <= FLAT * once.memory + PAGES


def _cell(value: float | None, missing: str, unit: float = 1) -> str:
    return missing if value is None else f"{value / unit:.1f}"


# --- One file --------------------------------------------------------------------------------------------------------


def measured(name: str, size: int, limit: float = LIMIT) -> Reading:
    """In a new process."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "hostile.robs"
        path.write_bytes(hostile.INPUTS[name][1](size))
        size = path.stat().st_size
        try:
            done = child(CODE, str(Path(__file__).parents[1]), name, str(path), str(limit), timeout=limit)
        except subprocess.TimeoutExpired:
            return Reading(size, None, None)
    return Reading(size, **json.loads(done.stdout))


def probe(path: Path, action: Callable[[bytes], object], runs: int, limit: float) -> dict[str, float]:
    """Median CPU seconds of some runs, as many as there is time for, and the most memory beside the file, in bytes.

    The first run is for memory: what it leaves behind would hide some of a later one's.
    """
    data = path.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    before = _status("VmRSS")
    started, begin = time.monotonic(), time.process_time()
    action(data)
    first = time.process_time() - begin
    memory = _status("VmHWM") - before
    times = []
    for _ in range(runs):
        # A process that is ended says nothing: it stops early enough, on a busy machine too.
        if time.monotonic() - started > limit / 4:
            break
        begin = time.process_time()
        action(data)
        times.append(time.process_time() - begin)
    return {"seconds": median(times or [first]), "memory": memory}


def read(data: bytes) -> None:
    """All that a decode does before it needs a model, whatever comes of it."""
    with suppress(RobustStreamError):
        read_restored(data)


def _status(field: str) -> float:
    """Bytes."""
    lines: Iterable[str] = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * int(next(line for line in lines if line.startswith(field)).split()[1])
