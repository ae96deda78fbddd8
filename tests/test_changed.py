"""A file that changes while it is open: what was opened is decoded, or it is said that it is gone."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import robuststream as rs
from robuststream.faults import drop_tiles
from tests.small import model, picture

WIDTH, HEIGHT, TILE = 200, 140, 64
A, B = (rs.encode(picture(HEIGHT, WIDTH, seed), model(), tile=TILE) for seed in (1, 2))
#: Of another size, so that not even the grid fits.
SMALL = rs.encode(picture(70, 70, 3), model(), tile=TILE)
PLACE = (10, 10, 50, 50)
PLACES = [PLACE, None, (0, 0, WIDTH, HEIGHT)]
DECODED = {place: rs.open(A, model()).decode(place).latents for place in PLACES}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a.robs").write_bytes(A)
    return tmp_path / "a.robs"


def cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


CHANGES: dict[str, Callable[[Path], object]] = {
    "another picture": lambda path: path.write_bytes(B),
    "a smaller picture": lambda path: path.write_bytes(SMALL),
    "no stream": lambda path: path.write_bytes(bytes(len(A))),
    "nothing": lambda path: path.write_bytes(b""),
    "cut behind the headers": lambda path: cut(path, 700),
    "another picture, not all of it yet": lambda path: path.write_bytes(B[: len(B) // 2] + A[len(B) // 2 :]),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_overwritten_while_it_is_open(change: str, place: tuple[int, int, int, int] | None, path: Path) -> None:
    with warnings.catch_warnings(), rs.open(path, model()) as opened:
        warnings.simplefilter("error")
        CHANGES[change](path)
        for _ in range(2):
            with pytest.raises(
                rs.StreamChanged, match=f"{path.name}: stream {opened.stream_id} .* is gone.*open it again"
            ):
                opened.decode(place)
        # Written back, it is the stream that was opened: nothing of the failure was kept.
        path.write_bytes(A)
        if place == PLACE:
            assert torch.equal(opened.decode(place).latents, DECODED[place])


@pytest.mark.parametrize("place", PLACES)
def test_what_was_read_already_stays(place: tuple[int, int, int, int] | None, path: Path) -> None:
    with rs.open(path, model()) as opened:
        opened.decode()
        path.write_bytes(B)
        assert torch.equal(opened.decode(place).latents, DECODED[place])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("change", [os.unlink, lambda path: os.rename(path, path.with_name("b"))])
@pytest.mark.skipif(os.name == "nt", reason="open files stay where they are")
def test_a_file_removed_or_replaced_stays_readable(
    change: Callable[[Path], object], place: tuple[int, int, int, int] | None, path: Path
) -> None:
    with rs.open(path, model()) as opened:
        change(path)
        path.write_bytes(B)
        assert torch.equal(opened.decode(place).latents, DECODED[place])


def test_a_file_that_is_not_all_there_yet(path: Path) -> None:
    """A region whose tiles have not come is not kept as lost."""
    cut(path, 3 * len(A) // 4)
    last = (WIDTH - 20, HEIGHT - 20, WIDTH, HEIGHT)
    with rs.open(path, model()) as opened:
        assert torch.equal(opened.decode(PLACE).latents, DECODED[PLACE])
        path.write_bytes(A)
        assert opened.decode(last).report.exact
    with rs.open(path, model()) as opened:
        cut(path, 700)
        with pytest.raises(rs.StreamChanged, match="has 700 bytes now"):
            opened.decode(last)


def test_a_file_only_touched_is_decoded(path: Path) -> None:
    with rs.open(path, model()) as opened:
        os.utime(path, ns=(1, 1))
        assert torch.equal(opened.decode(PLACE).latents, DECODED[PLACE])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", [B, SMALL, bytes(len(A)), b""])
def test_memory_and_files_that_nobody_can_date(place: tuple[int, int, int, int] | None, what: bytes) -> None:
    array = np.frombuffer(A.ljust(len(A) + len(B), b"\0"), np.uint8).copy()
    file = io.BytesIO(A)
    with rs.open(file, model()) as one, rs.open(array, model()) as two:
        file.seek(0)
        file.truncate()
        file.write(what)
        array[:] = 0
        array[: len(what)] = np.frombuffer(what, np.uint8)
        for opened in (one, two):
            with pytest.raises(rs.StreamChanged, match=r"^the stream: stream .* is gone"):
                opened.decode(place)


@pytest.mark.parametrize("place", PLACES)
def test_a_damaged_front_and_then_another_picture(place: tuple[int, int, int, int] | None, path: Path) -> None:
    """What could be read of it is kept: it took all of the file."""
    path.write_bytes(A[:5] + b"\0" + A[6:])
    with rs.open(path, model()) as opened:
        path.write_bytes(B)
        assert torch.equal(opened.decode(place).latents, DECODED[place])


@pytest.mark.parametrize("place", PLACES)
def test_a_read_that_fails_is_not_kept(
    place: tuple[int, int, int, int] | None, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*given: Any) -> bytes:
        raise OSError(5, "Input/output error")

    path.write_bytes(drop_tiles(A, tiles=[0]))
    with warnings.catch_warnings(), rs.open(path, model()) as opened:
        warnings.simplefilter("ignore", rs.DamageWarning)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", failing)
            with pytest.raises(OSError, match="Input/output error"):
                opened.decode(place)
        out = opened.decode(place)
        assert [finding.tile for finding in out.report.findings] == [0]


def test_a_warning_names_the_line_that_asked(path: Path) -> None:
    path.write_bytes(drop_tiles(A, tiles=[0]))
    codec = rs.compressai.RobustCodec(model(), TILE, strict=False)
    with rs.open(path, model()) as opened:
        for call in (
            lambda: opened.decode(PLACE),
            lambda: opened.decode(),
            lambda: rs.decode(path, model()),
            lambda: rs.decode_batch([path], model()),
            lambda: codec.decompress([[path.read_bytes()]], (HEIGHT, WIDTH)),
        ):
            with pytest.warns(rs.DamageWarning) as told:
                call()
            assert [warning.filename for warning in told] == [__file__]
