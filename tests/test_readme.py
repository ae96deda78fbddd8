"""What the README shows runs, what it claims is measured, and a newcomer is through with it soon."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest

import robuststream as rs
from tests.small import SAMPLE

README = Path("README.md").read_text()
FIGURES = README[README.index("## Figures") : README.index("## Installing")]
#: Each a number and what stands beside it: 24, 1e-5, 0.468, +0.05.
NUMBER = re.compile(r"[+-]?\d[\d.,]*(?:e-?\d+)?")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(SAMPLE, tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows() -> list[list[str]]:
    """The cells of each row of the table of figures."""
    lines = [line for line in FIGURES.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_ten_lines(folder: Path) -> None:
    (text,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(text.split("\n")) - 1 == 10
    names: dict[str, object] = {}
    exec(text, names)
    assert (folder / "decoded.png").exists()
    assert isinstance(names["out"], rs.Decoded)
    assert names["out"].report.exact


def test_three_minutes() -> None:
    """At 250 words a minute, code and tables apart."""
    prose = re.sub(r"```.*?```|^\|.*?$|\]\(.*?\)", "", README, flags=re.DOTALL | re.MULTILINE)
    assert len(prose.split()) <= 750


def test_at_most_ten_figures() -> None:
    assert 5 <= len(rows()) <= 10


def test_figures_are_among_all_measurements() -> None:
    measured = set(NUMBER.findall(Path("spec/guide/measurements.md").read_text().replace(". ", " ")))
    for cells in rows():
        for number in NUMBER.findall(" ".join(cells)):
            assert number.strip(".,") in {other.strip(".,") for other in measured}, f"{number}: {cells}"


@pytest.mark.parametrize(
    ("words", "channel", "level"), [("bit error rate 1e-5", "bit errors", "1e-05"), ("5 %", "packet loss", "0.05")]
)
def test_figures_of_damage_are_those_of_the_campaign(words: str, channel: str, level: str) -> None:
    with Path("spec/pictures/resilience.csv").open() as file:
        psnr = {
            row["codec"]: float(row["psnr"])
            for row in csv.DictReader(file)
            if (row["channel"], row["level"]) == (channel, level)
        }
    (figure,) = [cells[1] for cells in rows() if cells[0].startswith(words)]
    shown = [float(number) for number in figure.removesuffix(" dB").split(", ")]
    assert shown == [round(psnr[codec], 2) for codec in ("robuststream", "CompressAI", "JPEG 2000")]


def test_nothing_of_ours_was_wrong_without_a_word() -> None:
    with Path("spec/pictures/resilience.csv").open() as file:
        silent = {float(row["silent"]) for row in csv.DictReader(file) if row["codec"].startswith("robuststream")}
    assert silent == {0}
    assert ["of robuststream's damaged pictures, wrong without a word", "none"] in rows()


def test_says_when_not_to_use_it() -> None:
    part = README[README.index("**Do not use it**") : README.index("## Figures")]
    for words in ("AVIF, JPEG 2000 and WebP", "model has one", "1/255", "CompressAI's", "nothing has been released"):
        assert words in part
