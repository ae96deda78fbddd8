"""What the commands share: messages, exit codes, work on many files."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from robuststream.cli.places import UsageError, label, read_input
from robuststream.cli.streams import StreamError
from robuststream.errors import ModelNotFound, RobustStreamError
from robuststream.views.text import one_line as one_line

if TYPE_CHECKING:
    from robuststream.container.stream import Stream
    from robuststream.model.frozen import Model

Item = TypeVar("Item")

FINE, USAGE, DAMAGED, BUG = 0, 1, 2, 3
#: torch has no class of its own for this on a CPU.
_OUT_OF_MEMORY = re.compile("can.t allocate memory|out of memory", re.IGNORECASE)


# --- Messages ------------------------------------------------------------------------------------------------------


def say(kind: str, text: str) -> None:
    """One line on standard error; where that is closed or full, it is lost."""
    if sys.stdout is not None:
        # In one file or at one terminal, what came first stands first. What fails here fails again, and is said then.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
    if sys.stderr is not None:  # print would take standard output
        with contextlib.suppress(OSError):
            print(f"robuststream: {kind}: {one_line(text)}", file=sys.stderr, flush=True)


def explain(error: Exception) -> tuple[str, int] | None:
    """What an error means in one line, and its exit code; None for a bug."""
    if isinstance(error, RobustStreamError):
        return one_line(str(error)), error.exit_code
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return one_line(f"{place}{error.strerror or error}"), USAGE
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error))):
        return "not enough memory", USAGE
    return None


def report_error(error: Exception) -> int | None:
    """Say an error that is not a bug, and return its exit code; None, and nothing said, for a bug."""
    explained = explain(error)
    if explained is None:
        return None
    text, code = explained
    say("error", text)
    return code


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors inside name the file they are about."""
    try:
        yield
    except MemoryError as error:
        raise UsageError(f"{label(path)}: not enough memory") from error
    except RuntimeError as error:
        if _OUT_OF_MEMORY.search(str(error)):
            raise UsageError(f"{label(path)}: not enough memory") from error
        raise
    except RobustStreamError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise type(error)(f"{label(path)}: {error}") from error


@contextlib.contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Warnings of the library as lines like all others, but those that a command says better itself."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name != "robuststream.codec":
                say("warning", record.getMessage())

    handler = Handler(logging.WARNING)
    logger = logging.getLogger("robuststream")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


# --- Work ----------------------------------------------------------------------------------------------------------


def read_lender(path: Path | None) -> Stream | None:
    """A stream whose header may be borrowed; refused before any other is read. Raises RobustStreamError."""
    if path is None:
        return None
    from robuststream.transfers.reading import read_stream

    with named(path):
        return read_stream(read_input(path))


def require_parity() -> None:
    """Raises UsageError where the package for parity is missing."""
    from robuststream.container.parity import require_raptorq

    try:
        require_raptorq()
    except ImportError as error:
        raise UsageError(str(error)) from error


def passing(items: Sequence[Item], check: Callable[[Item], object]) -> tuple[list[Item], int]:
    """Those of the items that a check lets pass, what is wrong with the others being said; and the exit code so far.

    What can be found at once is not found after minutes of work on other files.
    """
    good: list[Item] = []

    def one(item: Item) -> int:
        check(item)
        good.append(item)
        return FINE

    return good, each(items, one, progress=False)


def each(items: Sequence[Item], action: Callable[[Item], int], progress: bool = True) -> int:
    """Do all, whatever becomes of one; the worst exit code. Many at a terminal get a progress bar."""
    worst = FINE
    for item in _progress(items) if progress else items:
        try:
            code = action(item)
        except (BrokenPipeError, StreamError):
            raise
        except Exception as error:
            said = report_error(error)
            if said is None:
                raise
            code = said
        worst = max(worst, code)
    return worst


def _progress(items: Sequence[Item]) -> Iterator[Item]:
    if len(items) < 2 or not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    # Redirected to the bar's console, what goes to a file or a pipe would go to the terminal.
    with Progress(console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as progress:
        yield from progress.track(items, description="")


def check_model(path: Path | None) -> None:
    """Refuse a model file that is not there, before anything heavy is imported. Raises ModelNotFound."""
    try:
        if path is not None:
            os.stat(path)
    except OSError as error:
        advice = ": name a model file; robuststream models list says which there are"
        raise ModelNotFound(f"{path}: the model file cannot be read ({error.strerror}){advice}") from error


def load(path: Path | None) -> Model | None:
    """The model asked for; None where the library is to choose."""
    if path is None:
        return None
    check_model(path)
    from robuststream.model.store import load_model

    return load_model(os.fspath(path))
