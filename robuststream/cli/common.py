"""What the commands share: files in and out, messages, exit codes."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from robuststream.container.packets import MAX_PIXELS
from robuststream.errors import RobustStreamError
from robuststream.files import write_file
from robuststream.views.text import one_line as one_line

if TYPE_CHECKING:
    from robuststream.model import Model

Item = TypeVar("Item")

FINE, USAGE, DAMAGED, BUG = 0, 1, 2, 3
#: torch has no class of its own for this on a CPU.
_OUT_OF_MEMORY = re.compile("can.t allocate memory|out of memory", re.IGNORECASE)
STANDARD = Path("-")

ModelOption = Annotated[
    Path | None, typer.Option("--model", help="Model file; without it, the bundled default or the one a stream names.")
]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing outputs.")]
OutDirOption = Annotated[Path | None, typer.Option("--out-dir", help="Folder for the outputs of many inputs.")]
HeaderFromOption = Annotated[
    Path | None,
    typer.Option(
        "--header-from", help="Another stream of the same series, to take the header from where all are lost."
    ),
]
PixelsOption = Annotated[int, typer.Option("--max-pixels", min=1, help="Refuse larger pictures.")]
DEFAULT_PIXELS = MAX_PIXELS


class UsageError(RobustStreamError):
    """The command line asks for what cannot be done."""


# --- Messages ------------------------------------------------------------------------------------------------------


def say(kind: str, text: str) -> None:
    """One line on standard error."""
    print(f"robuststream: {kind}: {one_line(text)}", file=sys.stderr, flush=True)


def report_error(error: Exception) -> int | None:
    """Say an error that is not a bug, and return its exit code; None, and nothing said, for a bug."""
    if isinstance(error, RobustStreamError):
        say("error", str(error))
        return error.exit_code
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        say("error", f"{place}{error.strerror or error}")
        return USAGE
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error))):
        say("error", "not enough memory")
        return USAGE
    return None


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors inside name the file they are about."""
    try:
        yield
    except RobustStreamError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise type(error)(f"{label(path)}: {error}") from error


def label(path: Path) -> str:
    return "standard input" if path == STANDARD else str(path)


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


# --- Files ---------------------------------------------------------------------------------------------------------


def read_input(path: Path) -> bytes:
    """A whole file, or standard input for `-`. Raises UsageError."""
    if path == STANDARD:
        if sys.stdin is None:
            raise UsageError("standard input is closed")
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error


def read_lender(path: Path | None) -> bytes | None:
    """A stream whose header may be borrowed; refused before any other is read. Raises RobustStreamError."""
    if path is None:
        return None
    from robuststream.container.reader import read_stream

    data = read_input(path)
    with named(path):
        read_stream(data)
    return data


def require_parity() -> None:
    """Raises UsageError where the package for parity is missing."""
    from robuststream.container.parity import require_raptorq

    try:
        require_raptorq()
    except ImportError as error:
        raise UsageError(str(error)) from error


def check_output(path: Path, force: bool) -> None:
    """Refuse an output before any work is done. Raises UsageError."""
    if path == STANDARD:
        if sys.stdout is None:
            raise UsageError("standard output is closed")
        if sys.stdout.isatty():
            raise UsageError("binary data is not written to a terminal: name a file, or redirect the output")
    elif path.is_dir():
        raise UsageError(f"{path}: is a folder: name a file")
    elif os.path.lexists(path) and not force:
        raise UsageError(f"{path}: exists already: use --force to overwrite it")


def write_output(path: Path, data: bytes) -> None:
    """Write a whole file, all or nothing, or to standard output for `-`. Raises UsageError."""
    if path == STANDARD:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        write_file(path, data)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from error


def pair_up(paths: Sequence[Path], out_dir: Path | None, suffix: str, force: bool) -> list[tuple[Path, Path]]:
    """Inputs and their outputs, of `IN OUT`, `IN... FOLDER` or `IN... --out-dir FOLDER`; all checked.

    Raises:
        UsageError: an output is missing, stands already, or two inputs would have the same.
    """
    if out_dir is None and len(paths) > 1 and paths[-1].is_dir():
        *paths, out_dir = paths
    if out_dir is None:
        if len(paths) != 2:
            raise UsageError("give one input and one output, or many inputs and --out-dir FOLDER")
        pairs = [(paths[0], paths[1])]
    else:
        if STANDARD in paths:
            raise UsageError("standard input has no name to put into a folder: name an output file")
        pairs = [(path, out_dir / f"{path.stem}{suffix}") for path in paths]
        if len({output for _, output in pairs}) < len(pairs):
            raise UsageError(f"several inputs would become the same file in {out_dir}: give them different names")
    for _, output in pairs:
        check_output(output, force)
    if out_dir is not None:
        try:
            out_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{out_dir}: the folder cannot be made ({error.strerror})") from error
    return pairs


# --- Work ----------------------------------------------------------------------------------------------------------


def each(items: Sequence[Item], action: Callable[[Item], int]) -> int:
    """Do all, whatever becomes of one; the worst exit code. Many at a terminal get a progress bar."""
    worst = FINE
    for item in _progress(items):
        try:
            code = action(item)
        except BrokenPipeError:
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


def load(path: Path | None) -> Model | None:
    """The model asked for; None where the library is to choose."""
    if path is None:
        return None
    from robuststream.modelstore import load_model

    return load_model(os.fspath(path))
