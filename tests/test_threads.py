"""Threads and forked processes: what each gets is what one alone gets."""
# ruff: noqa: SIM115 - files are given as they are to what is tested

from __future__ import annotations

import gzip
import io
import mmap
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch

import robuststream as rs
from robuststream import faults
from robuststream.files.positional import positional
from tests.small import SAMPLE, model, picture

HEIGHT, WIDTH, TILE = 330, 390, 64
DATA = rs.encode(picture(HEIGHT, WIDTH), model(), tile=TILE)
#: More than there are threads, in an order that jumps about in the file.
REGIONS = [(x, y, x + 40, y + 40) for x in range(0, 350, 70) for y in range(0, 290, 70)][::-1]
PAGE = Path("spec/guide/threads.md")


class Slow(io.RawIOBase):
    """A file that gives few bytes at a time, and lets other threads go first between seeking and reading."""

    def __init__(self, data: bytes, piece: int = 100) -> None:
        super().__init__()
        self._inner = io.BytesIO(data)
        self._piece = piece

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, *where: int) -> int:
        place = self._inner.seek(*where)
        time.sleep(1e-5)
        return place

    def tell(self) -> int:
        return self._inner.tell()

    def readinto(self, buffer: Any) -> int:
        data = self._inner.read(min(len(buffer), self._piece))
        buffer[: len(data)] = data
        return len(data)


class Unseekable(Slow):
    def seekable(self) -> bool:
        return False

    def seek(self, *where: int) -> int:
        raise io.UnsupportedOperation("seek")

    tell = seek  # type: ignore[assignment]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a.robs").write_bytes(DATA)
    return tmp_path / "a.robs"


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        yield memory


SOURCES: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "array": lambda path: np.fromfile(path, np.uint8),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "open": lambda path: path.open("rb"),
    "FileIO": lambda path: path.open("rb", buffering=0),
    "slow": lambda path: Slow(path.read_bytes()),
    "unseekable": lambda path: Unseekable(path.read_bytes()),
    "temporary": lambda path: written(tempfile.NamedTemporaryFile(), path.read_bytes()),
    "spooled": lambda path: written(tempfile.SpooledTemporaryFile(), path.read_bytes()),
    # Its descriptor is that of the compressed file.
    "gzip": lambda path: gzip.open(written((path.parent / "a.gz").open("w+b"), gzip.compress(path.read_bytes()))),
}


def written(file: Any, data: bytes) -> IO[bytes]:
    file.write(data)
    file.seek(0)
    return file  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def alone() -> list[rs.DecodedRegion]:
    """The regions decoded by one thread, from a StreamFile each."""
    return [rs.open(DATA, model()).decode(region) for region in REGIONS]


def same(outs: list[rs.DecodedRegion], alone: list[rs.DecodedRegion]) -> None:
    for out, one in zip(outs, alone, strict=True):
        assert torch.equal(out.latents, one.latents)
        assert torch.equal(out.tensor, one.tensor)
        assert out.report == one.report
        assert out.report.exact
        assert not out.report.findings


@pytest.mark.parametrize("threads", [2, 8])
@pytest.mark.parametrize("source", SOURCES)
def test_threads_share_an_open_stream(path: Path, source: str, threads: int, alone: list[rs.DecodedRegion]) -> None:
    with warnings.catch_warnings(), rs.open(SOURCES[source](path), model()) as opened:
        warnings.simplefilter("error", rs.DamageWarning)
        with ThreadPoolExecutor(threads) as pool:
            same(list(pool.map(opened.decode, REGIONS)), alone)


def test_threads_share_a_mapped_file(path: Path, alone: list[rs.DecodedRegion]) -> None:
    with mapped(path) as memory:
        opened = rs.open(memory, model())
        with ThreadPoolExecutor(4) as pool:
            same(list(pool.map(opened.decode, REGIONS)), alone)
    # Nothing kept the map from being closed, and closed it cannot be read.
    with pytest.raises(ValueError, match="closed"):
        opened.decode(REGIONS[0])


def test_where_the_system_reads_at_no_position(
    path: Path, alone: list[rs.DecodedRegion], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    monkeypatch.delattr(os, "pread")
    with rs.open(path, model()) as opened, ThreadPoolExecutor(4) as pool:
        same(list(pool.map(opened.decode, REGIONS)), alone)


@pytest.mark.parametrize("threads", [2, 8])
def test_what_is_made_once_is_made_once(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged stream is read whole, and its latents decoded, by one of the threads for all."""
    from robuststream import region

    reads = []
    read_restored = region.read_restored
    monkeypatch.setattr(region, "read_restored", lambda *given: reads.append(1) or read_restored(*given))
    hurt = faults.drop_tiles(DATA, tiles=[8])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.DamageWarning)
        regions = [(70, 70, 110, 110), (200, 200, 240, 240), (80, 90, 120, 120)] * 4
        expected = [rs.open(hurt, model()).decode(place) for place in regions[:3]] * 4
        reads.clear()
        with rs.open(hurt, model()) as opened, ThreadPoolExecutor(threads) as pool:
            outs = list(pool.map(opened.decode, regions))
    assert len(reads) == 1
    for out, one in zip(outs, expected, strict=True):
        assert torch.equal(out.latents, one.latents)
        assert out.report == one.report


def test_threads_share_a_model() -> None:
    small = rs.Model(model("mbt2018-mean").parts)
    images = [picture(96, 130, seed) for seed in range(6)]
    calls: list[Callable[[], Any]] = []
    for number, image in enumerate(images):
        mode = ("exact", "native")[number % 2]
        data = rs.encode(image, model(), tile=TILE, mode=mode)
        calls += [
            lambda image=image, mode=mode: rs.encode(image, small, tile=TILE, mode=mode),
            lambda data=data: rs.decode(data, small).latents.numpy().tobytes(),
            lambda data=data: rs.decode(data, small).tensor.numpy().tobytes(),
            lambda data=data: rs.verify(data, small),
        ]
    expected = [call() for call in calls]
    for threads in (2, 8):
        # Nothing of it is made ready yet: that is a race as well.
        small = rs.Model(model("mbt2018-mean").parts)
        with ThreadPoolExecutor(threads) as pool:
            outs = [future.result() for future in [pool.submit(call) for call in calls]]
        assert [out == one for out, one in zip(outs, expected, strict=True)] == [True] * len(calls)


# --- Files by position -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
def test_any_part_of_any_source(path: Path, source: str) -> None:
    reader = positional(SOURCES[source](path))
    for start, size in [(0, 10), (7, 1), (3, 0), (len(DATA) - 4, 10), (len(DATA) + 5, 3), (100, -1), (0, len(DATA))]:
        assert reader.read(start, size) == DATA[start : start + size if size >= 0 else None]
    assert reader.read(0) == DATA
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read(0, 1)


def test_reads_that_give_less_are_completed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, at: pread(descriptor, min(size, 7), at))
    reader = positional(path)
    assert (reader.read(3, 1000), reader.read(0)) == (DATA[3:1003], DATA)
    reader.close()


@pytest.mark.parametrize("source", ["BytesIO", "open", "FileIO", "slow"])
def test_a_file_is_read_from_where_it_stands(path: Path, source: str) -> None:
    path.write_bytes(b"something" + DATA)
    file = SOURCES[source](path)
    file.seek(9)
    reader = positional(file)
    assert (reader.read(0, 5), reader.read(0)) == (DATA[:5], DATA)
    reader.close()
    assert not file.closed
    file.seek(0)
    assert file.read(9) == b"something"


def test_a_file_of_pythons_own_is_not_moved(path: Path) -> None:
    with path.open("rb") as file, rs.open(file, model()) as opened:
        opened.decode((0, 0, 9, 9))
        assert file.tell() == 0


def test_a_file_closed_while_it_is_read_gives_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of its descriptor may be another file's by then."""
    reader = positional(path)
    pread = os.pread

    def late(descriptor: int, size: int, at: int) -> bytes:
        data = pread(descriptor, size, at)
        reader.close()
        return data

    monkeypatch.setattr(os, "pread", late)
    with pytest.raises(ValueError, match="closed"):
        reader.read(0, 10)


def test_an_open_stream_is_not_pickled(path: Path) -> None:
    import pickle

    with rs.open(path) as opened, pytest.raises(TypeError, match="pickle its path"):
        pickle.dumps(opened)


# --- Processes -------------------------------------------------------------------------------------------------------

FORKED = """
import io, mmap, os, sys
import robuststream as rs

path = sys.argv[1]
file, again, third = (open(path, "rb", buffering=size) for size in (0, 0, 4096))
memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
streams = [rs.open(source) for source in (path, file, third, io.BytesIO(again.read()), memory)]
assert "torch" not in sys.modules
children = []
for child in range(3):
    pid = os.fork()
    if not pid:
        for x in range(0, 200, 50):
            for stream in streams:
                report = stream.decode((x, 20, x + 30, 50)).report
                assert report.exact and not report.findings and report.container is None, report
        os._exit(0)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_children_share_open_streams(tmp_path: Path) -> None:
    (tmp_path / "a.robs").write_bytes(rs.encode(SAMPLE, tile=64))
    command = [sys.executable, "-c", FORKED, str(tmp_path / "a.robs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
