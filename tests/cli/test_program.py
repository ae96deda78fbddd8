"""The program as a whole: help, completion, usage, exit codes, interrupts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import robuststream as rs
from robuststream.checksum import kernel
from robuststream.cli import inspect as inspect_module
from tests.cli.conftest import Files, Run

#: What pip makes of `[project.scripts]`.
SCRIPT = "import sys; from robuststream.cli import main; sys.exit(main())"
#: An interrupt while a module is imported.
INTERRUPT = """
import os, signal, sys

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPTED"]:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupter())
"""


class TestProgram:
    def test_version(self, run: Run) -> None:
        done = run("--version")
        assert (done.code, done.err) == (0, "")
        assert done.out.decode() == f"robuststream {rs.__version__} (CRC-32C by {kernel})\n"

    @pytest.mark.parametrize(
        "command",
        [[], ["encode"], ["decode"], ["inspect"], ["verify"], ["damage"], ["freeze"], ["models"]]
        + [["models", command] for command in ("list", "show", "install", "export")],
    )
    def test_help(self, command: list[str], run: Run) -> None:
        done = run(*command, "--help")
        assert (done.code, done.err) == (0, "")
        assert b"Usage" in done.out

    @pytest.mark.parametrize(
        "argv", [[], ["nonsense"], ["inspect"], ["--nonsense"], ["verify", "--nonsense"], ["models"]]
    )
    def test_usage(self, argv: list[str], run: Run) -> None:
        done = run(*argv)
        assert (done.code, done.out) == (1, b"")
        command = " ".join(["robuststream", *[word for word in argv[:1] if word in ("inspect", "verify", "models")]])
        assert done.error.endswith(f" ({command} --help)")

    def test_help_says_all_of_what_is_written(self, run: Run) -> None:
        """Nothing in it is taken for markup."""
        assert "robuststream[parity]" in "".join(run("encode", "--help").out.decode().split())
        assert b"[MODEL] OUT" in run("models", "export", "--help").out

    def test_as_a_module(self) -> None:
        done = subprocess.run([sys.executable, "-m", "robuststream", "nonsense"], capture_output=True, check=False)
        assert done.returncode == 1
        assert done.stdout == b""
        assert done.stderr.startswith(b"robuststream: error: ")

    @pytest.mark.parametrize(
        ("words", "found"),
        [
            ("robuststream ver", ["plain,verify"]),
            ("robuststream models ex", ["plain,export"]),
            ("robuststream encode --mode ", ["plain,exact", "plain,native"]),
            ("robuststream decode a", ["file,a"]),
        ],
    )
    def test_completion(self, words: str, found: list[str]) -> None:
        def shell(**variables: str) -> str:
            return subprocess.run(
                [sys.executable, "-c", SCRIPT],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **variables},
                check=True,
            ).stdout

        script = shell(_ROBUSTSTREAM_COMPLETE="bash_source")
        assert "complete -o nosort -F _robuststream_completion robuststream" in script
        place = str(words.count(" "))
        answer = shell(_ROBUSTSTREAM_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=place)
        assert answer.splitlines() == found

    def test_help_says_how_to_have_completion(self, run: Run) -> None:
        text = run("--help").out.decode()
        for shell in ("bash", "zsh", "fish"):
            assert f"_ROBUSTSTREAM_COMPLETE={shell}_source robuststream" in text

    def test_help_fits_80_columns(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        for words in ([], ["damage"], ["inspect"], ["freeze"], ["models"], ["models", "export"]):
            lines = run(*words, "--help").out.decode().splitlines()
            assert max(map(len, lines)) <= 80
            assert not any(line.endswith("...") for line in lines if not line.startswith("Usage"))

    def test_a_bug_of_ours(self, run: Run, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(data: bytes, **_: int) -> None:
            raise KeyError("of\nsome kind")

        monkeypatch.setattr(inspect_module, "read_stream", broken)
        monkeypatch.delenv("ROBUSTSTREAM_DEBUG", raising=False)
        done = run("inspect", files.stream)
        assert done.code == 3
        assert "a bug of ours, KeyError" in done.error
        assert "report it" in done.error
        monkeypatch.setenv("ROBUSTSTREAM_DEBUG", "1")
        done = run("inspect", files.stream)
        assert done.code == 3
        assert "Traceback" in done.err
        assert "in broken" in done.err

    def test_an_end_of_file_is_no_abort(self, run: Run, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(data: bytes, **_: int) -> None:
            raise EOFError("nothing left")

        monkeypatch.setattr(inspect_module, "read_stream", broken)
        done = run("inspect", files.stream)
        assert done.code == 3
        assert "a bug of ours, EOFError: nothing left" in done.error

    @pytest.mark.parametrize("start", [["-m", "robuststream"], ["-c", SCRIPT]], ids=["module", "script"])
    @pytest.mark.parametrize("module", ["robuststream.cli.program", "robuststream.cli.inspect"])
    def test_stopped_in_the_first_moments(self, start: list[str], module: str, files: Files, tmp_path: Path) -> None:
        (tmp_path / "sitecustomize.py").write_text(INTERRUPT)
        place = os.pathsep.join([str(tmp_path), str(Path(rs.__file__).parents[1])])
        environment = {**os.environ, "PYTHONPATH": place, "INTERRUPTED": module}
        words = [sys.executable, *start, "inspect", str(files.stream)]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "robuststream: error: stopped\n")

    def test_stopped_by_hand(self, run: Run, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        def stop(data: bytes, **_: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(inspect_module, "read_stream", stop)
        done = run("inspect", files.stream)
        assert done.code == 130
        assert done.error == "robuststream: error: stopped"
