"""Files that went over a transfer in text mode, on the command line: a picture where it can be had, else one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Files, Run

CRLF = "every LF into CRLF"


@pytest.fixture
def sent(files: Files, tmp_path: Path) -> Path:
    path = tmp_path / "sent.robs"
    path.write_bytes(files.stream.read_bytes().replace(b"\n", b"\r\n"))
    return path


def test_decode_writes_the_picture_and_says_what_happened(run: Run, files: Files, sent: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "right.png", tmp_path / "sent.png"
    assert run("decode", files.stream, pictures[0], "--model", files.model).code == 0
    result = run("decode", sent, pictures[1], "--model", files.model)
    assert result.code == 2
    assert CRLF in result.err
    right, made = (np.asarray(Image.open(path)) for path in pictures)
    assert (right == made).all()


@pytest.mark.parametrize(
    "options", [["inspect"], ["inspect", "-v"], ["inspect", "--json"], ["inspect", "--hex"], ["verify"]]
)
def test_inspect_and_verify_name_it(run: Run, sent: Path, options: list[str]) -> None:
    result = run(*options, sent)
    assert result.code == 2
    assert b"ROBS-TRANSFER" in result.out


def test_what_cannot_be_undone_is_one_line(run: Run, files: Files, tmp_path: Path) -> None:
    path = tmp_path / "sent.robs"
    path.write_bytes(bytes(byte & 0x7F for byte in files.stream.read_bytes()))
    for options in (["inspect"], ["verify"]):
        result = run(*options, path)
        assert result.code == 2
        assert "7 bits a byte" in result.error


def test_repair_writes_the_stream_as_it_was(run: Run, files: Files, sent: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.robs"
    assert run("repair", sent, out).code == 0
    assert out.read_bytes() == files.stream.read_bytes()
