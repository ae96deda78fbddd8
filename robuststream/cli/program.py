"""The program. Each command has a module of its own, which imports what is heavy only when it runs."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import typer.core

from robuststream import __version__
from robuststream.cli import damage, decode, demo, encode, freeze, inspect, models, repair, verify
from robuststream.cli.common import BUG, USAGE, logging_to_stderr, report_error, say
from robuststream.cli.streams import whole_streams

#: Typer carries its own click, older releases the real one; this is the root of usage errors in either.
_UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]
DEBUG_VARIABLE = "ROBUSTSTREAM_DEBUG"


class _CarriedError(Exception):
    """Brings an exception past typer, which would take it for an abort by the user; the cause is what it brings."""


class _Commands(typer.core.TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (EOFError, KeyboardInterrupt) as error:
            raise _CarriedError from error


app = typer.Typer(
    name="robuststream",
    cls=_Commands,
    rich_markup_mode=None,
    help="Learned image compression that decodes to the same latents on every machine, and survives damage.",
    epilog="Exit codes: 0 fine, 1 usage or environment, 2 the stream is damaged or does not match, 3 a bug of ours; "
    "130 stopped by an interrupt.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    encode.encode,
    decode.decode,
    inspect.inspect,
    verify.verify,
    repair.repair,
    damage.damage,
    freeze.freeze,
    demo.demo,
):
    app.command()(_command)
app.add_typer(models.app, name="models")


def _version(wanted: bool) -> None:
    if wanted:
        from robuststream.checksum import kernel

        print(f"robuststream {__version__} (CRC-32C by {kernel})")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Version, and which CRC kernel runs.")
    ] = False,
) -> None:
    pass


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (the process's own when None); the exit code. Raises KeyboardInterrupt."""
    # What a command has to say it says itself, in one line each.
    with warnings.catch_warnings(), whole_streams(), logging_to_stderr():
        warnings.simplefilter("ignore")
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    try:
        code = app(args=argv, prog_name="robuststream", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except _UsageProblem as error:
        context = error.ctx  # type: ignore[attr-defined]
        command = context.command_path if context else "robuststream"
        say("error", f"{error.format_message()} ({command} --help)")  # type: ignore[attr-defined]
        return USAGE
    except _CarriedError as error:
        if isinstance(error.__cause__, Exception):
            return _fail(error.__cause__)
        raise KeyboardInterrupt from error
    except BrokenPipeError:
        # The reader has seen enough; without this, Python's own flush at exit would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return USAGE
    except Exception as error:
        return _fail(error)


def _fail(error: Exception) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    code = report_error(error)
    if code is not None:
        return code
    say(
        "error",
        f"a bug of ours, {type(error).__name__}: {error}; please report it, with what {DEBUG_VARIABLE}=1 adds",
    )
    return BUG
