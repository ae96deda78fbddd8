"""Commands, arguments and options, as `--help` shows them; those that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from robuststream.container.packets import MAX_PIXELS

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: A file, looked at by the command itself: it knows what it needs of it. As a word where a slash behind it counts.
FILE = click.Path(readable=False, path_type=Path)
WORD = click.Path(readable=False)


class Command(click.Command):
    """Shows what its arguments are."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, kind in (("Arguments", click.Argument), ("Options", click.Option)):
            parameters = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, kind)]
            rows = [row for parameter in parameters if (row := parameter.get_help_record(ctx))]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class Group(click.Group):
    """Lists its commands in the order in which they were written, and all of what they do."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.get_short_help_str(1000)) for name, command in commands.items() if command]
            )


class _Argument(click.Argument):
    def __init__(self, declarations: list[str], required: bool | None = None, *, what: str, **settings: Any) -> None:
        super().__init__(declarations, required, **settings)
        self.what = what

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        return self.metavar or self.human_readable_name, self.what


def command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    return click.command(name, cls=Command)


def argument(name: str, *, metavar: str, what: str, **settings: Any) -> Callable[[Decorated], Decorated]:
    """An argument; `what` says in --help what it is."""
    return click.argument(name, cls=_Argument, metavar=metavar, what=what, **settings)


# --- Of several commands ---------------------------------------------------------------------------------------------

model_option = click.option(
    "--model", type=FILE, help="Model file; without it, the bundled default or the one a stream names."
)
force_option = click.option("--force", "-f", is_flag=True, help="Overwrite existing outputs.")
out_dir_option = click.option("--out-dir", type=FILE, help="Folder for the outputs of many inputs.")
header_from_option = click.option(
    "--header-from", type=FILE, help="Another stream of the same series, to take the header from where all are lost."
)
stream_option = click.option(
    "--stream", type=click.IntRange(min=0), default=0, metavar="N", help="Of several streams in a file; 0 is the first."
)
pixels_option = click.option(
    "--max-pixels", type=click.IntRange(min=1), default=MAX_PIXELS, help="Refuse larger pictures."
)
