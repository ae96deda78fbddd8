"""The command line. Nothing is imported here before `main` runs, so that it can answer an interrupt from the start."""

from __future__ import annotations

import sys
from collections.abc import Sequence

#: What shells give for a program that an interrupt ended.
STOPPED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (the process's own when None); the exit code."""
    try:
        from robuststream.cli.program import run

        return run(argv)
    except KeyboardInterrupt:
        if sys.stderr is not None:
            print("robuststream: error: stopped", file=sys.stderr, flush=True)
        return STOPPED
