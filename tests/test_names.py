"""The package's names: each is listed, there, documented and typed, though most are loaded when first used."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import robuststream as rs

#: Names and the module of each, as a type checker reads them.
TYPED = {
    alias.asname or alias.name: node.module
    for block in ast.parse(Path(rs.__file__).read_text()).body
    for node in ast.walk(block)
    if isinstance(node, ast.ImportFrom) and node.module is not None
    for alias in node.names
}


def test_dir_lists_all_names_and_loads_none() -> None:
    code = (
        "import sys, robuststream as rs; names = dir(rs); assert names == sorted(names);"
        "print(sorted(set(rs.__all__) - set(names)), '__version__' in names, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True False\n"


def test_all_is_in_order_and_names_nothing_twice() -> None:
    assert sorted(set(rs.__all__)) == rs.__all__
    assert set(rs._LAZY) < set(rs.__all__)


@pytest.mark.parametrize("name", rs.__all__)
def test_each_name_is_there_documented_and_typed(name: str) -> None:
    item = getattr(rs, name)
    assert inspect.getdoc(item)
    if inspect.isfunction(item) or inspect.isclass(item):
        assert item.__name__ == name
    if name not in ("inspect", "read_streams"):
        # What a type checker takes it for is what it is.
        assert TYPED[name] == rs._LAZY.get(name, "robuststream.errors" if name[0].isupper() else "robuststream")
    functions = [item] if inspect.isfunction(item) else [f for _, f in inspect.getmembers(item, inspect.isfunction)]
    for function in functions:
        if not function.__module__.startswith("robuststream") or function.__name__.startswith("_"):
            continue
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, function
        for parameter in signature.parameters.values():
            assert parameter.name in ("self", "cls") or parameter.annotation is not inspect.Parameter.empty, function


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="module 'robuststream' has no attribute 'nothing'"):
        rs.nothing  # noqa: B018
