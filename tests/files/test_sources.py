"""Everything a stream may be read from, by every call that reads one; and clear words for what it may not."""

from __future__ import annotations

import array
import ctypes
import errno
import io
import mmap
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import robuststream as rs
from robuststream.files.sources import read_source
from tests.helpers import memory_below, without_headers
from tests.small import model, picture

DATA = rs.encode(picture(96, 96), model(), tile=64)
BARE = without_headers(DATA)

CALLS: dict[str, Callable[[Any], object]] = {
    "decode": lambda source: rs.decode(source, model()).latents.tolist(),
    "decode_batch": lambda source: rs.decode_batch([source], model())[0].latents.tolist(),
    "verify": lambda source: rs.verify(source, model()),
    "inspect": rs.inspect,
    "repair": lambda source: rs.repair(source),
    "open": lambda source: rs.open(source, model()).decode().latents.tolist(),
    "open, region": lambda source: rs.open(source, model()).decode((3, 3, 9, 9)).latents.tolist(),
    "header_from": lambda source: rs.decode(BARE, model(), header_from=source).latents.tolist(),
    "open, header_from": lambda source: rs.open(BARE, model(), header_from=source).decode().latents.tolist(),
    "repair, header_from": lambda source: rs.repair(BARE, header_from=source),
}


class OnlyRead:
    """The least that a file can be."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int = -1) -> bytes:
        data, self._data = (self._data, b"") if size < 0 else (self._data[:size], self._data[size:])
        return data


def from_socket(data: bytes) -> io.RawIOBase:
    """A raw file that cannot seek and gives what has arrived."""
    ours, theirs = socket.socketpair()

    def send() -> None:
        with theirs:
            for start in range(0, len(data), 700):
                theirs.sendall(data[start : start + 700])

    threading.Thread(target=send).start()
    with ours:
        return ours.makefile("rb", buffering=0)


def mapped(data: bytes) -> mmap.mmap:
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    return memory


SOURCES: dict[str, Callable[[bytes], Any]] = {
    "bytes": lambda data: data,
    "bytearray": bytearray,
    "numpy.bytes_": np.bytes_,
    "memoryview": memoryview,
    "every second byte": lambda data: memoryview(b"".join(bytes((byte, 0)) for byte in data))[::2],
    "signed bytes": lambda data: memoryview(data).cast("b"),
    "array": lambda data: array.array("B", data),
    "ctypes": lambda data: (ctypes.c_ubyte * len(data)).from_buffer_copy(data),
    "mmap": mapped,
    "frombuffer": lambda data: np.frombuffer(data, np.uint8),
    "numpy": lambda data: np.frombuffer(data, np.uint8).copy(),
    "tensor": lambda data: torch.frombuffer(bytearray(data), dtype=torch.uint8),
    "BytesIO": io.BytesIO,
    "buffered": lambda data: io.BufferedReader(io.BytesIO(data)),
    "socket": from_socket,
    "only read": OnlyRead,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_by_every_call(source: str, call: str) -> None:
    assert CALLS[call](SOURCES[source](DATA)) == CALLS[call](DATA)


@pytest.mark.parametrize("call", CALLS)
def test_paths(call: str, tmp_path: Path) -> None:
    path = tmp_path / "ä b.robs"
    path.write_bytes(DATA)
    for source in (path, str(path), np.str_(path)):
        assert CALLS[call](source) == CALLS[call](DATA)


def test_bytes_are_not_copied() -> None:
    data = bytes(1 << 20)
    assert read_source(data) is data


def test_memory_is_not_copied_to_decode_a_region() -> None:
    large = np.zeros(1 << 24, np.uint8)
    large[: len(DATA)] = np.frombuffer(DATA, np.uint8)
    with memory_below(1 << 22), rs.open(large, model()) as opened:
        assert opened.decode((3, 3, 9, 9)).report.exact


def test_memory_belongs_to_its_owner() -> None:
    """Nothing that is kept has hold of it, so it can be resized; and what was decoded does not change with it."""
    data = bytearray(DATA)
    out, report, opened = rs.decode(data, model()), rs.inspect(data), rs.open(data, model())
    whole = opened.decode()
    data[:] = bytes(10)
    assert torch.equal(out.latents, whole.latents)
    assert report.intact
    assert torch.equal(opened.decode().latents, whole.latents)


# --- What is no source -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("wrong", [3, 3.5, [DATA], object(), {"data": DATA}])
def test_what_is_no_source_is_told_what_is(call: str, wrong: object) -> None:
    with pytest.raises(TypeError, match=r"cannot be read from a .*: give bytes .* a path, or a binary file"):
        CALLS[call](wrong)


@pytest.mark.parametrize("call", [name for name in CALLS if "header_from" not in name])
def test_none_is_no_source(call: str) -> None:
    with pytest.raises(TypeError, match=r"cannot be read from None: give bytes .* a path, or a binary file"):
        CALLS[call](None)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), r"a ndarray of shape \(8, 8, 3\), format 'B', is no stream: a row of bytes"),
        (np.zeros(8, np.float32), "format 'f', is no stream"),
        (np.zeros(8, bool), "is no stream"),
        (torch.zeros(3, 8, 8), r"a tensor of shape \(3, 8, 8\), float32, is no stream: uint8 \(N,\)"),
        (torch.zeros(8), "float32, is no stream"),
        (io.StringIO("text"), "open it with mode 'rb'"),
    ],
)
def test_memory_that_is_no_row_of_bytes(call: str, wrong: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        CALLS[call](wrong)


def test_a_file_that_gives_text() -> None:
    class Text(OnlyRead):
        def read(self, size: int = -1) -> str:  # type: ignore[override]
            return "text"

    with pytest.raises(TypeError, match="gives str and not bytes"):
        rs.inspect(Text(b""))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("text", ["", "no such file", DATA.decode("latin-1"), "a\0b", "\ud800", "x" * 5000])
def test_a_text_that_is_no_path(call: str, text: str) -> None:
    with pytest.raises(OSError, match=r"\[Errno") as told:
        CALLS[call](text)
    assert len(str(told.value)) < 300
    if len(text) > 20:
        assert "given as bytes" in str(told.value)


@pytest.mark.parametrize("call", CALLS)
def test_folders(call: str, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=r"(?i)directory") as told:
        CALLS[call](tmp_path)
    assert str(tmp_path) in str(told.value)


def test_folders_where_the_system_says_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    import builtins

    def refuse(*given: object, **more: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(given[0]))

    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(IsADirectoryError):
        rs.inspect(tmp_path)
    with pytest.raises(PermissionError):
        rs.inspect(tmp_path / "other")


def test_a_file_that_has_nothing_yet() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with open(reading, "rb", buffering=0) as file, open(writing, "wb", buffering=0) as other:
        for part in (b"", DATA[:100]):
            other.write(part)
            with pytest.raises(BlockingIOError, match="nothing can be read from the file yet"):
                rs.inspect(file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("call", ["decode", "open, region", "header_from"])
def test_named_pipes(call: str, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(DATA))
    writer.start()
    assert CALLS[call](path) == CALLS[call](DATA)
    writer.join()


def test_memory_is_read_without_torch() -> None:
    code = "import sys, robuststream as rs; rs.open(memoryview(sys.stdin.buffer.read())); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], input=DATA, capture_output=True, check=True)
    assert done.stdout == b"False\n"
