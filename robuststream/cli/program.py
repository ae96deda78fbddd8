"""The program: its commands, each in a module that is imported when it is asked for, and what becomes of errors."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import click

from robuststream import __version__
from robuststream.cli.common import BUG, USAGE, logging_to_stderr, report_error, say
from robuststream.cli.parameters import Group
from robuststream.cli.streams import whole_streams

NAME = "robuststream"
DEBUG_VARIABLE = "ROBUSTSTREAM_DEBUG"
#: Each is in the module of its name, under its name.
COMMANDS = ("encode", "decode", "inspect", "verify", "repair", "damage", "freeze", "demo", "models")


class _CarriedError(Exception):
    """Brings an exception past click, which would take some for an abort by the user and end the process for others."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Program(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"robuststream.cli.{cmd_name}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except BaseException as error:
            raise _CarriedError(error) from error


def _print_version(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from robuststream.checksum import kernel

        print(f"{NAME} {__version__} (CRC-32C by {kernel})")
        ctx.exit()


@click.command(
    NAME,
    cls=_Program,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
    epilog="Exit codes: 0 fine, 1 usage or environment, 2 the stream is damaged or does not match, 3 a bug of ours; "
    "130 stopped by an interrupt.\n\n"
    "Completion of commands, options and files, for the file that your shell starts with:\n\n"
    "\b\n"
    '  bash:  eval "$(_ROBUSTSTREAM_COMPLETE=bash_source robuststream)"\n'
    '  zsh:   eval "$(_ROBUSTSTREAM_COMPLETE=zsh_source robuststream)"\n'
    "  fish:  _ROBUSTSTREAM_COMPLETE=fish_source robuststream | source",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Version, and which CRC kernel runs.",
)
def program() -> None:
    """Learned image compression that decodes to the same latents on every machine, and survives damage."""


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (the process's own when None); the exit code. Raises KeyboardInterrupt."""
    # What a command has to say it says itself, in one line each.
    with warnings.catch_warnings(), whole_streams(), logging_to_stderr():
        warnings.simplefilter("ignore")
        try:
            code = _called(argv)
            sys.stdout.flush()
        except click.UsageError as error:
            say("error", f"{error.format_message()} ({error.ctx.command_path if error.ctx else NAME} --help)")
            return USAGE
        except click.ClickException as error:
            say("error", error.format_message())
            return USAGE
        except click.Abort as error:
            raise KeyboardInterrupt from error
        except BrokenPipeError:
            # The reader has seen enough; without this, Python's own flush at exit would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return USAGE
        except Exception as error:
            return _fail(error)
        return code


def _called(argv: Sequence[str] | None) -> int:
    try:
        return int(program.main(args=argv, prog_name=NAME, standalone_mode=False) or 0)
    except _CarriedError as carried:
        error = carried.error
    raise error


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
