"""How the package is built: rooms that stand on each other, a root that is small, and files that are short."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import robuststream

PACKAGE = Path(robuststream.__file__).parent
#: From the ground up. What stands in one line imports from lines below it and from its own room, from nothing else:
#: not from its neighbours in the line, nor from above.
FLOORS = (
    "errors",
    "checksum files",
    "kernelcache workers",
    "kernels",
    "container",
    "transfers",
    "entropy networks",
    "priors",
    "model",
    "picture",
    "coding",
    "latents",
    "codec",
    "region",
    "compressai faults views",
    "robuststream",  # the public names, loaded when first used
    "pillow",
    "testing",
    "cli",
    "__main__",
)
FLOOR = {room: height for height, line in enumerate(FLOORS) for room in line.split()}
#: As zarr's is: what a newcomer meets first.
MOST_AT_ROOT = 12
LONGEST = 400

MODULES = {
    ".".join(("robuststream", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imported(tree: ast.AST) -> Iterator[str]:
    """Names of the package's modules that run when this does or when its functions do; no types' alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written out"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module or ""
        yield from imported(node)


def named_late(tree: ast.AST) -> Iterator[str]:
    """What the package's own `__getattr__` imports: modules it names as text."""
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    yield from (text for text in texts if isinstance(text, str) and text in MODULES and text != "robuststream")


def graph() -> dict[str, set[str]]:
    """Each module, and those it imports, anywhere in it."""
    edges = {}
    for name, path in MODULES.items():
        tree = ast.parse(path.read_text())
        found = {*imported(tree), *(named_late(tree) if name == "robuststream" else ())}
        edges[name] = {other for other in found if other in MODULES and other != name}
    return edges


GRAPH = graph()


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Modules of which each imports the next and the last the first; none where there is no such circle."""
    done: set[str] = set()

    def follow(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name) :]
        if name in done:
            return []
        for other in sorted(edges[name]):
            found = follow(other, [*way, name])
            if found:
                return found
        done.add(name)
        return []

    return next(filter(None, (follow(name, []) for name in sorted(edges))), [])


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_are_found_wherever_they_stand() -> None:
    source = """
import robuststream.errors
from robuststream.model import store
from robuststream.model.store import load_model
if TYPE_CHECKING:
    from robuststream.codec import Decoded
def function():
    if True:
        from robuststream.region import open
"""
    assert list(imported(ast.parse(source))) == [
        "robuststream.errors",
        "robuststream.model.store",
        "robuststream.model.store",
        "robuststream.region",
    ]
    assert {"robuststream.codec", "robuststream.model.frozen", "robuststream.region"} < GRAPH["robuststream"]


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circle(GRAPH) == []


def test_each_room_has_its_floor() -> None:
    assert {room(module) for module in MODULES} == set(FLOOR)


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_a_room_stands_on_those_below(name: str) -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if room(module) == name != room(other) and FLOOR[room(other)] >= FLOOR[name]
    ]
    assert wrong == []


def test_files_from_outside_are_read_by_way_of_transfers() -> None:
    """The container reads what stands in a file; what a transfer did to it on its way is undone first, above."""
    readers = {room(name) for name, others in GRAPH.items() if "robuststream.container.reader" in others}
    assert readers == {"container", "transfers"}


def test_few_modules_stand_at_the_root() -> None:
    """All files count, `__init__` and `__main__` too."""
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_AT_ROOT


def test_files_are_short() -> None:
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in MODULES.values()}
    assert {name for name, count in lines.items() if count > LONGEST} == set()


def test_reading_a_container_needs_no_torch() -> None:
    """Not a name in `sys.modules` may come of it, whichever module of the container is imported, nor of `inspect`."""
    light = [name for name in MODULES if room(name) in ("container", "transfers", "files", "checksum", "errors")]
    code = f"""
import importlib, sys
sys.modules["torch"] = sys.modules["compressai"] = None  # an import of these fails
import robuststream
for name in {[*light, "robuststream.cli.inspect", "robuststream.coding.opening", "robuststream.model.store"]!r}:
    importlib.import_module(name)
from robuststream.cli import main
sys.exit(main(["inspect", sys.argv[1]]))
"""
    stream = Path(__file__).parents[1] / "spec" / "vectors" / "good-defaults.robs"
    done = subprocess.run([sys.executable, "-c", code, str(stream)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
