"""Bad inputs: one clear line, the right exit code, no traceback, and no allocation beyond the input's size class."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from robuststream.container.layout import build_header, build_packet
from robuststream.container.packets import Kind
from tests.cli.conftest import Files, Run
from tests.helpers import sample_header, sample_stream
from tests.small import model

LIMIT = 4 << 20
READERS = ["decode", "verify", "verify --decode", "inspect"]


def read(run: Run, command: str, path: Path, out: Path, *options: object) -> tuple[int, str]:
    """Exit code and error line of a command that reads a stream; and that it leaves nothing and needs no memory."""
    name, *flags = command.split()
    argv = [name, path, *([out] if name == "decode" else []), *flags, *options]
    run(*argv)  # what is imported on the first call does not count
    tracemalloc.start()
    done = run(*argv)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert done.out == b""
    assert not out.exists()
    assert peak < LIMIT
    return done.code, done.error


@pytest.mark.parametrize("command", READERS)
def test_an_empty_file(command: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "empty.robs"
    path.touch()
    code, error = read(run, command, path, tmp_path / "a.png")
    assert code == 2
    assert f"{path}: no robuststream packet in 0 bytes" in error


@pytest.mark.parametrize("command", READERS)
def test_a_png(command: str, run: Run, files: Files, tmp_path: Path) -> None:
    code, error = read(run, command, files.photo, tmp_path / "a.png")
    assert code == 2
    assert f"{files.photo}: no robuststream packet" in error
    assert "89 50 4e 47" in error


@pytest.mark.parametrize("command", READERS)
def test_no_header_survived(command: str, run: Run, files: Files, tmp_path: Path) -> None:
    from robuststream.transfers.reading import read_stream

    tile = read_stream(files.stream.read_bytes()).report.tiles[1]
    assert tile.offset is not None
    assert tile.size is not None
    path = tmp_path / "a.robs"
    path.write_bytes(files.stream.read_bytes()[tile.offset : tile.offset + tile.size])
    code, error = read(run, command, path, tmp_path / "a.png")
    assert code == 2
    assert "no HEADER packet survived" in error


@pytest.mark.parametrize("command", READERS)
def test_a_newer_format(command: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.robs"
    payload = build_header(sample_header())
    path.write_bytes(build_packet(Kind.HEADER, b"abcd", 0, b"\x63" + payload[1:]))
    code, error = read(run, command, path, tmp_path / "a.png")
    assert code == 2
    assert "version 99" in error


@pytest.mark.parametrize("command", ["decode", "verify --decode"])
def test_a_stream_for_another_model(command: str, run: Run, files: Files, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    model("mbt2018-mean", 8, 16).save(other)
    code, error = read(run, command, files.stream, tmp_path / "a.png", "--model", other)
    assert code == 2
    assert f"{files.stream}: " in error
    assert model().parameters_digest.hex() in error


@pytest.mark.parametrize("command", ["decode", "verify --decode"])
def test_a_stream_for_no_installed_model(command: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.robs"
    path.write_bytes(sample_stream()[2])
    code, error = read(run, command, path, tmp_path / "a.png")
    assert code == 1
    assert "no installed model has the digest 000102" in error


@pytest.mark.parametrize("command", ["decode", "verify --decode"])
@pytest.mark.parametrize("side", [1 << 31, (1 << 32) - 1])
def test_a_header_that_claims_a_huge_picture(command: str, side: int, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.robs"
    path.write_bytes(build_packet(Kind.HEADER, b"abcd", 0, build_header(sample_header(side, side, 256))))
    code, error = read(run, command, path, tmp_path / "a.png")
    assert code == 1
    assert f"{side} x {side} pixels are more than the limit" in error


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_truncated_model_file(share: float, run: Run, files: Files, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    whole = files.model.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    for argv in (
        ["decode", files.stream, tmp_path / "a.png"],
        ["encode", files.photo, tmp_path / "a.png"],
        ["verify", "--decode", files.stream],
    ):
        done = run(*argv, "--model", path)
        assert (done.code, done.out) == (1, b"")
        assert f"{path}: " in done.error
    assert not (tmp_path / "a.png").exists()


def test_a_missing_model_file(run: Run, files: Files, tmp_path: Path) -> None:
    done = run("decode", files.stream, tmp_path / "a.png", "--model", tmp_path / "none")
    assert done.code == 1
    assert f"{tmp_path / 'none'}: the model file cannot be read" in done.error


@pytest.mark.parametrize("command", READERS)
def test_a_missing_stream(command: str, run: Run, tmp_path: Path) -> None:
    code, error = read(run, command, tmp_path / "none.robs", tmp_path / "a.png")
    assert code == 1
    assert f"{tmp_path / 'none.robs'}: cannot be read (No such file" in error


@pytest.mark.parametrize("content", [None, b"", b"words", "folder"])
def test_a_picture_that_is_none(content: bytes | str | None, run: Run, files: Files, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    done = run("encode", path, tmp_path / "a.robs", "--model", files.model)
    assert (done.code, done.out) == (1, b"")
    assert f"robuststream: error: {path}: " in done.error
    assert not (tmp_path / "a.robs").exists()
