"""`demo`: what it leaves in its folder, and what it leaves alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from robuststream.cli.ownfolder import FILES, LIST, check_folder, fill_folder
from tests.cli.conftest import Files, Run


class TestDemo:
    def test_arguments_are_passed_on(
        self, run: Run, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[tuple[Path | None, Path]] = []
        monkeypatch.setattr("robuststream.cli.demonstration.demonstrate", lambda photo, out: calls.append((photo, out)))
        monkeypatch.chdir(tmp_path)
        assert run("demo").code == 0
        assert run("demo", files.photo, "--out", "b").code == 0
        assert calls == [(None, Path("demo")), (files.photo, Path("b"))]

    def test_its_folder_is_filled_anew(self, tmp_path: Path) -> None:
        work, out = tmp_path / "work", tmp_path / "out"
        work.mkdir()
        for content in (b"one", b"two"):
            for name in FILES[:3]:
                (work / name).write_bytes(content + name.encode())
            (out / "mine.txt").write_bytes(b"precious") if out.exists() else None
            fill_folder(out, work, FILES)
        (work / FILES[0]).unlink()
        fill_folder(out, work, FILES)
        assert {path.name for path in out.iterdir()} == {LIST, "mine.txt", *FILES[1:3]}
        assert (out / FILES[1]).read_bytes() == b"two" + FILES[1].encode()
        for line in (out / LIST).read_text().splitlines():
            digest, name = line.split("  ")
            assert digest == hashlib.sha256((out / name).read_bytes()).hexdigest()

    @pytest.mark.parametrize("name", [LIST, *FILES])
    def test_files_that_are_not_its_own_stay(self, name: str, run: Run, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(b"precious")
        done = run("demo", "--out", tmp_path)
        assert done.code == 1
        assert f"{tmp_path / name}: exists already, and no demo has made it" in done.error
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: b"precious"}

    def test_what_was_changed_since_stays(self, run: Run, tmp_path: Path) -> None:
        work, out = tmp_path / "work", tmp_path / "out"
        work.mkdir()
        (work / "photo.robs").write_bytes(b"the demo's")
        fill_folder(out, work, FILES)
        check_folder(out, FILES)
        (out / "photo.robs").write_bytes(b"the user's")
        assert "no demo has made it" in run("demo", "--out", out).error
        (out / "photo.robs").unlink()
        (out / "photo.robs").symlink_to(tmp_path / "gone")
        assert "no demo has made it" in run("demo", "--out", out).error

    def test_a_photograph_in_its_place_stays(self, run: Run, files: Files, tmp_path: Path) -> None:
        (tmp_path / "demo.png").write_bytes(files.photo.read_bytes())
        assert run("demo", tmp_path / "demo.png", "--out", tmp_path).code == 1
        assert (tmp_path / "demo.png").read_bytes() == files.photo.read_bytes()

    def test_no_folder(self, run: Run, files: Files) -> None:
        assert "is no folder" in run("demo", "--out", files.photo).error
