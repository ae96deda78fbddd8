"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from robuststream.files.writing import write_file


def test_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    write_file(target, b"one")
    write_file(target, b"two")
    assert target.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.bin"]
    assert target.stat().st_mode & 0o600 == 0o600


def test_failure_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def refuse(source: object, destination: object) -> None:
        raise OSError("disk on fire")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="on fire"):
        write_file(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_devices_links_and_modes_stay_what_they_are(tmp_path: Path) -> None:
    target, link = tmp_path / "a.bin", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o600)
    link.symlink_to(target)
    write_file(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o600
    write_file(os.devnull, b"gone")
    assert not Path(os.devnull).is_file()
    write_file(tmp_path / ("日" * 83), b"long")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "none" / "a.bin", b"")
