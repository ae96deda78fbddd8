"""Where commands read from and write to, looked at before any work is done.

An output never takes the place of an input, not even with --force; --force replaces files of the kind that the command
writes, and no others. Pipes and devices have nothing to protect.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from robuststream.cli.streams import is_closed
from robuststream.container.layout import SYNC
from robuststream.errors import RobustStreamError
from robuststream.files.pipes import read_all
from robuststream.files.writing import descriptor, write_file

STANDARD = Path("-")
STANDARD_OUTPUT, STANDARD_INPUT = 1, 0


class UsageError(RobustStreamError):
    """The command line asks for what cannot be done."""


@dataclass(frozen=True)
class Kind:
    """What a file is, by its first bytes or, where these say nothing, by its name: any name, where none is listed."""

    what: str
    suffixes: tuple[str, ...]


STREAM = Kind("robuststream", (".robs",))
PICTURE = Kind("picture", (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"))
MODEL = Kind("model file", (".safetensors",))
PAGE = Kind("web page", (".html", ".htm"))
#: Enough of a file to know its kind by.
HEAD = 16
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF8", b"BM")


def kind_of(head: bytes) -> Kind | None:
    """The kind of file that begins so; None where this is not known."""
    if head.startswith(SYNC):
        return STREAM
    if head.startswith(_PICTURES) or (head[:4], head[8:12]) == (b"RIFF", b"WEBP"):
        return PICTURE
    if head[7:9] == b"\0{":  # safetensors: eight bytes of size, then JSON
        return MODEL
    return PAGE if head.lower().startswith((b"<!doctype html", b"<html")) else None


def kind_of_file(path: Path) -> Kind | None:
    """As `kind_of`; None as well for what cannot be read or is no regular file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as file:
            return kind_of(file.read(HEAD))
    except OSError:
        return None


# --- Names ---------------------------------------------------------------------------------------------------------


def label(path: Path) -> str:
    """What an input is called."""
    return "standard input" if path == STANDARD else str(path)


def output_label(path: Path) -> str:
    return "standard output" if path == STANDARD else str(path)


def names_folder(word: str) -> bool:
    """Whether a word is written as folders are, with a slash behind."""
    return word.endswith(("/", os.sep))


def as_output(word: str | os.PathLike[str]) -> Path:
    """The path of an output that has to be a file. Raises UsageError."""
    word = os.fspath(word)
    if names_folder(word):
        raise UsageError(f"{word}: is a folder: name a file")
    return STANDARD if descriptor(word) == STANDARD_OUTPUT else Path(word)


# --- Inputs --------------------------------------------------------------------------------------------------------


def check_input(path: Path) -> None:
    """Refuse an input that cannot be read, without reading it. Raises UsageError."""
    if path == STANDARD:
        if sys.stdin is None:
            raise UsageError("standard input is closed")
        return
    with _reading(path):
        if stat.S_ISDIR(os.stat(path).st_mode):
            raise UsageError(f"{path}: is a folder: name a file")
        if not os.access(path, os.R_OK):
            raise UsageError(f"{path}: cannot be read (Permission denied)")


def read_input(path: Path) -> bytes:
    """A whole file, or standard input for `-`. Raises UsageError."""
    if path == STANDARD:
        if sys.stdin is None:
            raise UsageError("standard input is closed")
        return read_all(sys.stdin.buffer)
    with _reading(path):
        return path.read_bytes()


def check_inputs(paths: Iterable[Path | None]) -> None:
    """Refuse to read standard input twice: the second time there is nothing left. Raises UsageError."""
    if list(paths).count(STANDARD) > 1:
        raise UsageError("standard input can be read only once: give one - alone")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error


# --- Outputs -------------------------------------------------------------------------------------------------------


def check_output(
    path: Path,
    force: bool,
    kind: Kind | None,
    inputs: Iterable[Path | None],
    advice: str = "use --force to overwrite it",
) -> None:
    """Refuse an output before any work is done.

    Args:
        path: of a file, or `-`.
        force: replace a file of the same kind.
        kind: what will be written; None where that is not known.
        inputs: what the command reads, of any kind.
        advice: what to do where a file stands there and `force` is not given.

    Raises:
        UsageError: it cannot be written, or what stands there is not to be lost.
    """
    if path == STANDARD:
        if is_closed(sys.stdout):
            raise UsageError("standard output is closed")
        if sys.stdout.isatty():
            raise UsageError("binary data is not written to a terminal: name a file, or redirect the output")
        return
    found = _status(path)
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path}: is a folder: name a file")
    if found is not None and _is_channel(found):
        return
    _check_folder(Path(os.path.realpath(path)).parent, path)
    _check_no_input(path, found, inputs)
    if not os.path.lexists(path):
        return
    if not force:
        raise UsageError(f"{path}: exists already: {advice}")
    if found is not None:
        _check_kind(path, found, kind)


def _status(path: Path) -> os.stat_result | None:
    """Of what a path leads to, if anything is there."""
    try:
        return os.stat(path)
    except OSError:
        return None


def _is_channel(found: os.stat_result) -> bool:
    """A pipe, a terminal, /dev/null: what is written goes through, and nothing is lost."""
    return stat.S_ISCHR(found.st_mode) or stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode)


def _check_folder(folder: Path, path: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"{path}: its folder does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: cannot be written (no permission to write into its folder)")


def _check_no_input(path: Path, found: os.stat_result | None, inputs: Iterable[Path | None]) -> None:
    for source in inputs:
        if source is None:
            continue
        try:
            read = os.fstat(STANDARD_INPUT) if source == STANDARD else os.stat(source)
        except OSError:
            continue
        if found is not None and os.path.samestat(read, found):
            also = "" if str(source) == str(path) else f" ({label(source)})"
            raise UsageError(f"{path}: is an input as well{also}, and inputs are not overwritten: name another output")


def _check_kind(path: Path, found: os.stat_result, kind: Kind | None) -> None:
    """With one name too few, the last input would be taken for the output: --force must not overwrite it."""
    if kind is None or not found.st_size:
        return
    there = kind_of_file(path)
    if there is None and (not kind.suffixes or path.suffix.lower() in kind.suffixes):
        return
    if there is None or there.what != kind.what:
        what = f"is a {there.what}" if there else f"is no {kind.what}"
        name = f"a name ending {kind.suffixes[0]}" if kind.suffixes else "another name"
        raise UsageError(
            f"{path}: exists and {what}, and --force overwrites a {kind.what} only: delete it first, or choose {name}"
        )


def write_output(path: Path, data: bytes, force: bool = False) -> None:
    """Write a whole file, all or nothing, or to standard output for `-`. Raises UsageError."""
    if path == STANDARD:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        write_file(path, data, replace=force)
    except FileExistsError as error:
        raise UsageError(f"{path}: exists by now, and is not overwritten: somebody else has made it") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from error


def make_folder(folder: Path) -> None:
    """With those above it, if it is not there. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: the folder cannot be made ({error.strerror})") from error


# --- Many outputs --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pairs:
    """Inputs with their outputs, and the folder to make for these."""

    items: tuple[tuple[Path, Path], ...]
    folder: Path | None = None

    def make_folder(self) -> None:
        if self.folder is not None:
            make_folder(self.folder)


def pair_up(
    words: Sequence[str],
    out_dir: str | os.PathLike[str] | None,
    suffix: str,
    force: bool,
    kind: Kind,
    inputs: Sequence[Path | None] = (),
) -> Pairs:
    """Inputs and their outputs, of `IN OUT`, `IN... FOLDER` or `IN... --out-dir FOLDER`; outputs are checked.

    Raises:
        UsageError: an output is missing or refused, or two inputs would have the same.
    """
    words = list(words)
    if out_dir is None and len(words) > 1 and (names_folder(words[-1]) or Path(words[-1]).is_dir()):
        out_dir = words.pop()
    if out_dir is None:
        if len(words) != 2:
            raise UsageError("give one input and one output, or many inputs and --out-dir FOLDER")
        pairs = [(Path(words[0]), as_output(words[1]))]
        folder = None
    else:
        sources, folder = [Path(word) for word in words], Path(out_dir)
        if STANDARD in sources:
            raise UsageError("standard input has no name to put into a folder: name an output file")
        pairs = [(source, folder / f"{source.stem}{suffix}") for source in sources]
        _check_new_folder(folder)
    twice = same_place([output for _, output in pairs])
    if twice:
        one, other = (pairs[number][0] for number in twice)
        raise UsageError(f"{one} and {other} would become the same file, {pairs[twice[0]][1]}: rename one of them")
    reads = [*(source for source, _ in pairs), *inputs]
    check_inputs(reads)
    for _, output in pairs:
        if folder is None or folder.is_dir():
            check_output(output, force, kind, reads)
    return Pairs(tuple(pairs), folder)


def _check_new_folder(folder: Path) -> None:
    """It is made later: here only whether it can be."""
    place = folder
    while not os.path.lexists(place) and place.parent != place:
        place = place.parent
    if not place.is_dir():
        raise UsageError(f"{folder}: the folder cannot be made: {place} is no folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"{folder}: cannot be written (no permission to write into {place})")


def same_place(outputs: Sequence[Path]) -> tuple[int, int] | None:
    """Positions of the first two outputs that would be one file; None where each has a place of its own."""
    seen: dict[object, int] = {}
    for number, output in enumerate(outputs):
        found = _status(output)
        if found is not None and _is_channel(found):
            continue
        for key in _keys(output, found):
            other = seen.setdefault(key, number)
            if other != number and (key[0] != "folded" or _ignores_case(output)):
                return other, number
    return None


def _keys(path: Path, found: os.stat_result | None) -> Iterator[tuple[object, ...]]:
    """What two names of one file have in common."""
    if found is not None:
        yield "file", found.st_dev, found.st_ino
    real = os.path.realpath(path) if path != STANDARD else "-"
    yield "path", real
    yield "folded", real.casefold()


def _ignores_case(path: Path) -> bool:
    """Whether the file system takes names for one that differ in case alone, tried on the folders above `path`."""
    for folder in Path(os.path.realpath(path)).parents:
        other = folder.with_name(folder.name.swapcase()) if folder.name else folder
        if other.name != folder.name and folder.exists():
            with contextlib.suppress(OSError):
                return os.path.samefile(folder, other)
            return False
    return False
