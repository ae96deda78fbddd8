"""Standard streams as they are in real life: raw, not blocking, full, closed. What is written arrives, or is said."""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robuststream.files.pipes import write_all
from robuststream.files.writing import descriptor, write_file
from tests.cli.conftest import Files
from tests.helpers import sample_stream

BIG = 3_000_000
#: As Python has them of itself (an empty value counts as none), and raw.
UNBUFFERED = [{"PYTHONUNBUFFERED": ""}, {"PYTHONUNBUFFERED": "1"}]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes of another kind")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "big.bin"
    path.write_bytes(np.random.default_rng(1).bytes(BIG))
    return path


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Streams whose reports are more than any pipe holds."""
    path = tmp_path_factory.mktemp("many") / "a.robs"
    path.write_bytes(sample_stream()[2])
    return [str(path)] * 40


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "robuststream", *map(str, words)]


def damage(path: Path, target: object = "-") -> list[str]:
    return command("damage", path, target, "--seed", 1, "--flip", 1)


class Slow:
    """A pipe that does not block, and is read only when it is full."""

    def __init__(self, words: list[str], environment: dict[str, str], stderr: bool = False) -> None:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        streams = {"stderr": writer} if stderr else {"stdout": writer, "stderr": subprocess.PIPE}
        with subprocess.Popen(words, env={**os.environ, **environment}, **streams) as process:
            while process.poll() is None and select.select([], [writer], [], 0.01)[1]:
                pass
            os.close(writer)
            pieces = []
            while piece := os.read(reader, 1 << 16):
                pieces.append(piece)
            os.close(reader)
            self.errors = b"" if stderr else process.communicate()[1]
        self.code = process.returncode
        self.read = b"".join(pieces)


@pytest.mark.parametrize("environment", UNBUFFERED)
class TestAllOfIt:
    def test_bytes_through_a_slow_pipe(self, environment: dict[str, str], big: Path) -> None:
        done = Slow(damage(big), environment)
        assert (done.code, done.errors) == (0, b"")
        assert len(done.read) == BIG

    def test_a_report_through_a_slow_pipe(self, environment: dict[str, str], many: list[str]) -> None:
        done = Slow(command("inspect", "-v", "--json", *many), environment)
        assert (done.code, done.errors) == (0, b"")
        assert len(done.read) > 1 << 18
        assert [json.loads(line)["intact"] for line in done.read.splitlines()] == [True] * len(many)

    def test_errors_through_a_slow_pipe(self, environment: dict[str, str], tmp_path: Path) -> None:
        missing = [tmp_path / ("x" * 200 + str(number)) for number in range(500)]
        done = Slow(command("verify", *missing), environment, stderr=True)
        assert done.code == 1
        assert len(done.read.splitlines()) == len(missing)

    def test_standard_input_that_does_not_block(self, environment: dict[str, str], big: Path) -> None:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)

        def feed() -> None:
            with open(writer, "wb", buffering=0) as file:
                for half in (slice(0, BIG // 2), slice(BIG // 2, None)):
                    write_all(file, big.read_bytes()[half])

        thread = threading.Thread(target=feed)
        with subprocess.Popen(
            damage(Path("-")), stdin=reader, stdout=subprocess.PIPE, env={**os.environ, **environment}
        ) as process:
            os.close(reader)
            thread.start()
            assert len(process.communicate()[0]) == BIG
        thread.join()

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
    @pytest.mark.parametrize("report", [False, True])
    def test_a_full_disk(self, report: bool, environment: dict[str, str], big: Path, many: list[str]) -> None:
        words = command("inspect", *many) if report else damage(big)
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                words, stdout=full, stderr=subprocess.PIPE, env={**os.environ, **environment}, check=False
            )
        assert done.returncode == 1
        assert done.stderr.decode() == f"robuststream: error: standard output: {os.strerror(errno.ENOSPC)}\n"

    @pytest.mark.parametrize("report", [False, True])
    def test_a_disk_that_becomes_full(
        self, report: bool, environment: dict[str, str], big: Path, many: list[str], tmp_path: Path
    ) -> None:
        """The last write is short, and no other one follows that could fail."""
        words = command("inspect", "-v", "--json", many[0]) if report else damage(big)

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

        with open(tmp_path / "out", "wb") as out:
            done = subprocess.run(
                words,
                stdout=out,
                stderr=subprocess.PIPE,
                preexec_fn=limit,
                env={**os.environ, **environment, "PYTHONDONTWRITEBYTECODE": "1"},
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr.decode() == f"robuststream: error: standard output: {os.strerror(errno.EFBIG)}\n"

    @pytest.mark.parametrize("target", ["/dev/full", "/dev/stdout"])
    def test_a_full_device_by_its_name(self, target: str, environment: dict[str, str], big: Path) -> None:
        if not os.path.exists("/dev/full"):
            pytest.skip("no /dev/full")
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                damage(big, target), stdout=full, stderr=subprocess.PIPE, env={**os.environ, **environment}, check=False
            )
        assert done.returncode == 1
        assert os.strerror(errno.ENOSPC).encode() in done.stderr
        assert len(done.stderr.splitlines()) == 1


class TestClosed:
    """`robuststream ... >&-`"""

    @pytest.mark.parametrize("words", ["report", "bytes"])
    def test_standard_output(self, words: str, files: Files) -> None:
        run = damage(files.stream) if words == "bytes" else command("inspect", files.stream)
        done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *run], capture_output=True, check=False)
        assert done.returncode == 1
        assert done.stderr.splitlines()[0].startswith(b"robuststream: error: standard output")
        assert len(done.stderr.splitlines()) == 1

    def test_nothing_is_said_where_nothing_is_written(self, files: Files, tmp_path: Path) -> None:
        run = damage(files.stream, tmp_path / "out.robs")
        done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *run], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")

    @pytest.mark.parametrize("where", ["&-", "/dev/full"])
    def test_standard_error(self, where: str, files: Files, tmp_path: Path) -> None:
        """Messages do not get among the bytes on standard output, and the exit code stays what it is."""
        run = command("verify", files.stream, tmp_path / "none")
        done = subprocess.run(["sh", "-c", f'exec "$@" 2>{where}', "sh", *run], stdout=subprocess.PIPE, check=False)
        assert done.returncode == 1
        assert done.stdout.startswith(f"{files.stream}: ok".encode())
        assert b"cannot be read" not in done.stdout


def test_reports_and_errors_in_one_file_keep_their_order(files: Files, tmp_path: Path) -> None:
    words = command("verify", files.stream, tmp_path / "none", files.gap, tmp_path / "no more")
    environment = {**os.environ, **UNBUFFERED[0]}
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, check=False)
    lines = [line.decode() for line in done.stdout.splitlines()]
    whole, none, gap, finding, no_more = lines
    assert whole.startswith(f"{files.stream}: ok")
    assert "/none: " in none
    assert gap.startswith(f"{files.gap}: damaged")
    assert finding.startswith("  ROBS-GAP")
    assert "/no more: " in no_more


def test_names_that_standard_output_has_no_letters_for(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "日.robs"
    path.write_bytes(files.stream.read_bytes())
    done = subprocess.run(
        command("verify", path), capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u65e5.robs: ok" in done.stdout


class TestWriteFile:
    @pytest.fixture
    def taken(self) -> Callable[[], bytes]:
        """Reads all that another thread has written into a pipe, named by its open end."""
        reader, self.writer = os.pipe()
        pieces: list[bytes] = []
        thread = threading.Thread(target=lambda: pieces.extend(iter(lambda: os.read(reader, 1 << 16), b"")))
        thread.start()

        def end() -> bytes:
            os.close(self.writer)
            thread.join()
            os.close(reader)
            return b"".join(pieces)

        return end

    @pytest.mark.parametrize("blocking", [True, False])
    def test_an_open_pipe_by_its_name(self, blocking: bool, taken: Callable[[], bytes]) -> None:
        """As a shell's `>(command)` gives it."""
        os.set_blocking(self.writer, blocking)
        write_file(f"/dev/fd/{self.writer}", bytes(BIG))
        assert taken() == bytes(BIG)

    def test_a_named_pipe(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        found: list[bytes] = []
        thread = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
        thread.start()
        write_file(pipe, bytes(BIG))
        thread.join()
        assert found == [bytes(BIG)]
        assert pipe.is_fifo()

    def test_what_the_shell_appends_to_is_kept(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_bytes(b"before ")
        with open(log, "ab", buffering=0) as file:
            write_file(f"/dev/fd/{file.fileno()}", b"after")
        assert log.read_bytes() == b"before after"

    def test_names_of_open_files(self) -> None:
        names = ["/dev/stdout", "/dev/stderr", "/dev/fd/7", "/proc/self/fd/12", "/dev/null", "stdout", "/dev/fd/x"]
        assert [descriptor(name) for name in names] == [1, 2, 7, 12, None, None, None]

    def test_a_raw_file_that_takes_little(self) -> None:
        taken = bytearray()

        class Little:
            def write(self, data: memoryview) -> int:
                taken.extend(data[:7])
                return len(data[:7])

            def fileno(self) -> int:
                raise OSError

        write_all(Little(), bytes(range(100)))
        assert taken == bytes(range(100))
