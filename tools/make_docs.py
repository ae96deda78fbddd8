"""Write the pages of spec/guide that the program itself tells: api.md from docstrings, cli.md from what --help says.

    python tools/make_docs.py [--check]

With --check nothing is written; exit code 1 where a page is out of date.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

import robuststream as rs
from robuststream import compressai, faults, pillow
from robuststream.cli import program

GUIDE = Path(__file__).resolve().parents[1] / "spec" / "guide"
NOTE = "<!-- Written by tools/make_docs.py: change the source, and run it again. -->\n"
WIDTH = 100
#: Docstring sections whose entries are `name: text`.
LISTS = ("Args", "Attributes", "Raises")


# --- API -----------------------------------------------------------------------------------------------------------


def api() -> str:
    named = {name: getattr(rs, name) for name in rs.__all__}
    errors = {name: item for name, item in named.items() if _is_error(item)}
    classes = {name: item for name, item in named.items() if inspect.isclass(item) and name not in errors}
    functions = {name: item for name, item in named.items() if inspect.isfunction(item)}
    parts = ["# API", NOTE, "`import robuststream as rs`. Names are loaded when first used.", "## Functions"]
    parts += [_function(f"rs.{name}", item) for name, item in functions.items()]
    parts.append("## Classes")
    parts += [_class(f"rs.{name}", item) for name, item in classes.items()]
    parts += ["## Errors", "\n".join(f"- `rs.{name}`: {_one_line(item)}" for name, item in errors.items())]
    for module in (pillow, compressai, faults):
        own = {name: getattr(module, name) for name in getattr(module, "__all__", ["register"])}
        parts += [f"## {module.__name__}", _markdown(inspect.getdoc(module) or "")]
        for name, item in own.items():
            if inspect.isfunction(item):
                parts.append(_function(f"{module.__name__}.{name}", item))
            elif inspect.isclass(item):
                parts.append(_class(f"{module.__name__}.{name}", item))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _is_error(item: Any) -> bool:
    return inspect.isclass(item) and issubclass(item, Exception)


def _function(name: str, item: Callable[..., Any]) -> str:
    return f"### {name}\n\n```\n{_signature(name, item)}\n```\n\n{_markdown(inspect.getdoc(item) or '')}"


def _class(name: str, item: type) -> str:
    parts = [f"### {name}", _markdown(inspect.getdoc(item) or "")]
    for member, value in vars(item).items():
        value = value.__func__ if isinstance(value, classmethod) else value
        if member.startswith("_"):
            continue
        if isinstance(value, property) and value.__doc__:
            parts.append(f"**`.{member}`**: {_markdown(inspect.getdoc(value) or '')}")
        elif inspect.isfunction(value) and value.__doc__:
            parts.append(f"```\n{_signature(f'.{member}', value)}\n```\n\n{_markdown(inspect.getdoc(value) or '')}")
    return "\n\n".join(parts)


def _signature(name: str, item: Callable[..., Any]) -> str:
    signature = inspect.signature(item)
    words = list(_parameters(signature))
    result = "" if signature.return_annotation is inspect.Signature.empty else f" -> {signature.return_annotation}"
    line = f"{name}({', '.join(words)}){result}"
    return line if len(line) <= WIDTH else "\n".join([f"{name}(", *(f"    {word}," for word in words), f"){result}"])


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    """As they stand in the source, but for names of defaults: annotations are texts, and not quoted."""
    starred = False
    for parameter in signature.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        starred |= parameter.kind == parameter.VAR_POSITIONAL
        if parameter.kind == parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        annotation = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
        value = parameter.default
        shown = json.dumps(value) if isinstance(value, str) else repr(value)
        default = "" if value is parameter.empty else f" = {shown}"
        yield f"{star}{parameter.name}{annotation}{default}"


def _one_line(item: type) -> str:
    return " ".join((inspect.getdoc(item) or "").split("\n\n")[0].split())


def _markdown(docstring: str) -> str:
    """A docstring with sections (`Args:` and so on) in Markdown."""
    out: list[str] = []
    section = ""
    for line in docstring.splitlines():
        heading = re.fullmatch(r"(Args|Attributes|Raises|Returns|Yields):", line)
        if heading:
            section = heading[1]
            out += [f"*{section}*", ""]
            continue
        if line and not line.startswith(" "):
            section = ""
        text = line.removeprefix("    ") if section else line
        if section in LISTS and re.match(r"[^\s:][^:]*: ", text):
            name, what = text.split(": ", 1)
            out.append(f"- `{name}`: {what}")
        else:
            out.append(text.replace("    ", "  ", 1) if section in LISTS and text.startswith("    ") else text)
    return "\n".join(out)


# --- Command line --------------------------------------------------------------------------------------------------


def command_line() -> str:
    root = program.program
    context = click.Context(root, info_name=program.NAME)
    parts = ["# Command line", NOTE, _said(root.help), _said(root.epilog), "\n".join(_described(root))]
    for name, command in _commands(context):
        parts += [f"## {name}", _said(command.help), "\n".join(_described(command))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _commands(context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Those that do something; groups are made of them."""
    group: Any = context.command
    for name in group.list_commands(context):
        inner = click.Context(group.get_command(context, name), info_name=name, parent=context)
        if isinstance(inner.command, click.Group):
            yield from _commands(inner)
        else:
            yield inner.command_path, inner.command


def _said(text: str | None) -> str:
    """What click shows; a paragraph that it does not wrap, marked by a backspace, becomes a block."""
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    shown = [f"```\n{inspect.cleandoc(part[2:])}\n```" if part.startswith("\b\n") else part for part in paragraphs]
    return "\n\n".join(shown)


def _described(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            name, what = f"`{parameter.metavar}`", getattr(parameter, "what", "")
        else:
            value = "" if parameter.is_flag else f" {_value(parameter)}"
            flags = sorted([*parameter.opts, *parameter.secondary_opts], key=len, reverse=True)
            name = ", ".join(f"`{flag}{value if flag.startswith('--') else ''}`" for flag in flags)
            what = parameter.help
        shown = parameter.to_info_dict().get("default")
        default = "" if shown in (None, False, True, 0, "") or parameter.multiple else f" Default: {shown}."
        yield f"- {name}: {what}{default}"


def _value(option: click.Option) -> str:
    choices = getattr(option.type, "choices", None)
    return option.metavar or ("|".join(choices) if choices else str(option.name).upper())


# --- Pages ---------------------------------------------------------------------------------------------------------

PAGES: dict[str, Callable[[], str]] = {"api.md": api, "cli.md": command_line}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    outdated = False
    for name, page in PAGES.items():
        path, text = GUIDE / name, page()
        if path.exists() and path.read_text() == text:
            continue
        outdated = True
        if check:
            print(f"{path}: out of date: run python tools/make_docs.py", file=sys.stderr)
        else:
            path.write_text(text)
            print(path)
    return int(outdated and check)


if __name__ == "__main__":
    sys.exit(main())
