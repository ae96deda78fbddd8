"""Every "must" of spec/format.md stands in musts.py, with vectors and tests that there are."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.spec.musts import MUSTS

ROOT = Path(__file__).parents[2]
#: What the word means is no rule.
DEFINITION = "| must | a requirement"


def paragraphs(text: str) -> list[tuple[str, str]]:
    """Section number and text of each paragraph; a list item, or a row of a table, is one by itself."""
    section, found, last = "", [], ""
    for line in text.splitlines():
        if line.startswith("#"):
            section = (re.match(r"#+ ([\d.]*\d)", line) or ["", section])[1]
        elif line.strip():
            begins = not last or last.startswith("#") or re.match(r" *(- |\d+\. |\| )", line)
            before = "" if begins else found.pop()[1] + " "
            found.append((section, before + line.strip()))
        last = line.strip()
    return found


RULES = [
    (section, text)
    for section, text in paragraphs((ROOT / "spec/format.md").read_text())
    if re.search(r"\bmust\b", text, re.IGNORECASE) and not text.startswith(DEFINITION)
]
ENTRIES = [(section, words) for section, listed in MUSTS.items() for words in listed]


def test_paragraphs_are_told_apart() -> None:
    text = "## 1. One\n\nA\nb.\n|c| d\n\n- e\n  f\n- g:\n  1. h\n\n### Example\n| i | j |\n| k | l |\n### 2.3 Two\nm\n"
    assert paragraphs(text) == [
        *(("1", part) for part in ("A b. |c| d", "- e f", "- g:", "1. h", "| i | j |", "| k | l |")),
        ("2.3", "m"),
    ]


@pytest.mark.parametrize(("section", "text"), RULES, ids=[f"{section}: {text[:40]}" for section, text in RULES])
def test_a_rule_has_its_entry(section: str, text: str) -> None:
    assert len([words for words in MUSTS.get(section, {}) if words in text]) == 1


@pytest.mark.parametrize(("section", "words"), ENTRIES, ids=[f"{section}: {words[:40]}" for section, words in ENTRIES])
def test_an_entry_has_its_rule_and_what_it_names_is_there(section: str, words: str) -> None:
    assert [where for where, text in RULES if words in text] == [section]
    names = MUSTS[section][words]
    assert names
    assert len(set(names)) == len(names)
    for name in names:
        path, _, test = name.partition("::")
        assert test in named_in(path) if test else (ROOT / f"spec/vectors/{name}.robs").is_file(), name


@cache
def named_in(path: str) -> set[str]:
    """The test functions in a file, those of a class behind its name."""
    found = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        for item in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(item, ast.FunctionDef) and item.name.startswith("test_"):
                found.add(f"{node.name}::{item.name}" if isinstance(node, ast.ClassDef) else item.name)
    return found
