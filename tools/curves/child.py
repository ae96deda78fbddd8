"""Decoding in a child process with limits: damaged files crash decoders, hang them, or make them ask for all memory."""

from __future__ import annotations

import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

#: Of the decoder's CPU time, and of the clock's: a busy machine is no fault of the decoder.
SECONDS, WAIT = 10, 600
#: Bytes beside what the process holds when it starts.
MEMORY = 4 << 30
#: A child is a fork of this process: the models it needs are there at once, also after the crash of another.
FORK = multiprocessing.get_context("fork")

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """What a user sees of a file.

    Attributes:
        pixels: uint8 (H, W, 3), None where there is no picture.
        told: the decoder said that something is wrong: an error, a warning, a line on its error output.
        end: "picture", "error", "crash" or "hang".
    """

    pixels: Pixels | None
    told: bool
    end: str


#: Pixels, and whether the decoder complained; what it raises is its word that there is no picture.
Decoder = Callable[[bytes], tuple[Pixels, bool]]


class Child:
    """Calls a decoder in a process of its own, which is started again when it is lost."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.process: multiprocessing.process.BaseProcess | None = None

    def __call__(self, data: bytes) -> Shown:
        if self.process is None:
            self._start()
        try:
            self.link.send_bytes(data)
            if not self._answered():
                self.close()
                return Shown(None, True, "hang")
            shown: Shown = self.link.recv()
            return shown
        except (EOFError, ConnectionError):
            self.close()
            return Shown(None, True, "crash")

    def _answered(self) -> bool:
        """Wait for the answer; False where it takes too long."""
        used, end = self._used(), time.monotonic() + WAIT
        while not self.link.poll(0.5):
            if self._used() - used > SECONDS or time.monotonic() > end:
                return False
        return True

    def _used(self) -> float:
        """CPU seconds of the child, which may have ended; then the link says so."""
        assert self.process is not None
        with suppress(psutil.NoSuchProcess):
            times = psutil.Process(self.process.pid).cpu_times()
            return float(times.user + times.system)
        return 0.0

    def _start(self) -> None:
        self.link, other = FORK.Pipe()
        self.process = FORK.Process(target=_serve, args=(other, self.link, self.decoder), daemon=True)
        self.process.start()
        other.close()

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.link.close()
            self.process = None


def _serve(link: Connection, parents: Connection, decoder: Decoder) -> None:
    parents.close()
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            link.send(_shown(link.recv_bytes(), decoder))


def _shown(data: bytes, decoder: Decoder) -> Shown:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for about_code in (FutureWarning, DeprecationWarning):
            warnings.simplefilter("ignore", about_code)
        try:
            pixels, complained = decoder(data)
        except Exception:  # a decoder raises whatever its parsing raises
            return Shown(None, True, "error")
    return Shown(pixels, complained or bool(caught), "picture")
