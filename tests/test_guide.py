"""The pages of spec/guide: what they show runs, what the program says of itself is up to date, links lead somewhere."""

from __future__ import annotations

import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import robuststream as rs
from robuststream.cli import main
from robuststream.container.report import Rule
from tests.small import SAMPLE, net

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

import make_docs

ROOT = Path(__file__).resolve().parent.parent
GUIDE = Path("spec/guide")
WRITTEN = sorted(path for path in GUIDE.glob("*.md") if path.name not in make_docs.PAGES)
PAGES = [Path("README.md"), *sorted(GUIDE.glob("*.md"))]
#: Lines of shell blocks that set things up: they need a network.
SET_UP = ("make ", "pip install ")
#: Of diagrams, which are not run.
DRAWN = "text"
#: What a page says is byte for byte the same when it has been run.
SAME = {
    "quickstart.md": {
        "whole.robs": "safe.robs",
        "kept.safetensors": next(ROOT.glob("robuststream/models/*.safetensors")),
    },
    "damage.md": {"whole.robs": "safe.robs"},
}
#: In blocks that are whole programs.
SCRIPT = '__name__ == "__main__"'
#: Seconds after which a program does not end by itself.
HANGS = 300


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[tuple[str, int]]:
    """Lines of a shell block, and the exit code that each says it has."""
    lines = [line for line in text.splitlines() if line.strip()]
    return [(line.split(" #")[0].strip(), 2 if "# exit code 2" in line else 0) for line in lines]


def run_script(text: str) -> None:
    """As a program of its own, which starts processes: with two threads of torch's, since with one none can hang."""
    if "fork" in text and "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs fork")
    Path("script.py").write_text(text)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "script.py"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            _, errors = process.communicate(timeout=HANGS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"hangs: {text}")
    assert process.returncode == 0, errors.decode()


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_what_a_page_shows_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(SAMPLE, tmp_path / "photo.png")
    torch.save(net("mbt2018-mean").state_dict(), tmp_path / "checkpoint.pth.tar")
    shown = blocks(page)
    assert shown
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for language, text in shown:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if language == "python":
                if SCRIPT in text:
                    run_script(text)
                else:
                    exec(text, names)
            elif language == "sh":
                for line, code in commands(text):
                    if not line.startswith(SET_UP):
                        assert main(shlex.split(line)[1:]) == code, line
    for made, same in SAME.get(page.name, {}).items():
        assert (tmp_path / made).read_bytes() == (tmp_path / same).read_bytes(), made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_all_that_is_code_is_run(page: Path) -> None:
    """Here, or in test_readme.py: there is no block of another kind, and no line of a shell that neither runs."""
    for language, text in blocks(page):
        assert language in (("python", "sh", DRAWN) if page.name not in make_docs.PAGES else ("",))
        if language == "sh":
            for line, _ in commands(text):
                # The README's lines of Python are run, and its shell only sets things up.
                assert line.startswith(SET_UP if page.name == "README.md" else ("robuststream ", *SET_UP)), line


@pytest.mark.parametrize("name", make_docs.PAGES)
def test_generated_pages_are_up_to_date(name: str) -> None:
    assert (GUIDE / name).read_text() == make_docs.PAGES[name](), "run python tools/make_docs.py"


def test_generated_pages_leave_nothing_out() -> None:
    api, line = (GUIDE / "api.md").read_text(), (GUIDE / "cli.md").read_text()
    for name in set(rs.__all__) - {"compressai"}:
        assert f"rs.{name}" in api, name
    for command in ("encode", "repair", "models export", "inspect"):
        assert f"## robuststream {command}\n" in line
    assert "- `--force`, `-f`: Overwrite existing outputs.\n" in line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_and_diagrams_fit(page: Path) -> None:
    """A diagram's lines are as wide as GitHub shows without a bar to scroll."""
    for language, text in blocks(page):
        if language == DRAWN:
            assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_files_it_names_exist(page: Path) -> None:
    """Modules by their last part, since only their folders change."""
    there = [path.as_posix() for folder in ("robuststream", "spec", "tools") for path in ROOT.glob(f"{folder}/**/*.py")]
    for name in re.findall(r"\b[\w/]+\.py\b", page.read_text()):
        assert any(path.endswith(f"/{name}") for path in there), name


def test_every_error_and_warning_is_listed() -> None:
    listed = (GUIDE / "quickstart.md").read_text().split("## When something is wrong")[1]
    for name in rs.__all__:
        item = getattr(rs, name)
        if isinstance(item, type) and issubclass(item, Exception):
            assert f"`{name}`" in listed or f"`rs.{name}`" in listed, name


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_rules_it_names_exist(page: Path) -> None:
    for name in re.findall(r"ROBS-[A-Z-]+[A-Z]", page.read_text()):
        assert name in {rule.value for rule in Rule}


def test_every_page_is_linked_from_the_readme() -> None:
    for page in GUIDE.glob("*.md"):
        assert f"({page.as_posix()})" in Path("README.md").read_text()


def test_how_a_decode_works_names_the_sources_of_trust() -> None:
    """As many rows as the table in proof.py has, which is the place that decides."""
    proof = (ROOT / "robuststream/container/proof.py").read_text().split('"""')[1]
    page = (GUIDE / "how-a-decode-works.md").read_text()

    def count(text: str) -> int:
        table = text[text.index("| evidence") :]
        return len(re.match(r"(?:\|.*\n)+", table)[0].splitlines())  # type: ignore[index]

    assert count(page) == count(proof)
