"""What `robuststream inspect` says of one file."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from robuststream import faults
from robuststream.container.packets import Metadata
from robuststream.container.report import StreamReport
from robuststream.transfers.reading import read_stream
from robuststream.views import summary
from robuststream.views.summary import facts, print_lines, print_summary
from tests.helpers import sample_header, sample_stream


def shares(report: StreamReport) -> dict[str, int]:
    parts = facts(report)["of these"].split(", ")
    return {name: int(size) for size, name in (part.split(" ", 1) for part in parts)}


def tile_lines(text: str) -> list[str]:
    lines = text.splitlines()
    start = [number for number, line in enumerate(lines) if line.split()[:2] == ["tile", "row"]]
    return lines[start[0] + 1 :] if start else []


class TestShares:
    def test_what_a_file_is_made_of(self) -> None:
        from robuststream.container.writer import write_stream

        pytest.importorskip("raptorq")
        header, tiles, _ = sample_stream(sample_header(parity=300))
        data = write_stream(header, tiles, Metadata(icc=b"profile" * 30))
        report = read_stream(data).report
        assert report.intact
        found = shares(report)
        assert list(found) == ["entropy coded", "parity", "metadata", "framing"]
        assert sum(found.values()) == len(data)
        assert found["entropy coded"] == sum(len(tile.words) for tile in tiles)
        plain = shares(read_stream(write_stream(replace(header, parity=0), tiles)).report)
        assert list(plain) == ["entropy coded", "framing"]
        assert found["metadata"] > 210
        assert found["parity"] > 100
        assert found["framing"] < plain["framing"] + 60

    def test_damage_is_named_where_there_is_some(self) -> None:
        data = sample_stream()[2]
        found = shares(read_stream(data + bytes(100)).report)
        assert found["framing and damage"] == shares(read_stream(data).report)["framing"] + 100


class TestTiles:
    LARGE = sample_stream(sample_header(width=32 * 40, height=32 * 40))[2]

    def test_a_few_are_listed(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_summary("a", read_stream(sample_stream()[2]).report)
        assert len(tile_lines(capsys.readouterr().out)) == 6

    def test_of_many_only_what_is_damaged(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_summary("a", read_stream(self.LARGE).report)
        text = capsys.readouterr().out
        assert "1600 (40 x 40) of 32 x 32 pixels, all intact" in text
        assert len(text.splitlines()) < 15
        print_summary("a", read_stream(faults.drop_tiles(self.LARGE, tiles=[7, 900])).report)
        text = capsys.readouterr().out
        assert "pixels, 1598 intact, 2 missing" in text
        assert [line.split()[0] for line in tile_lines(text)] == ["7", "900"]

    def test_of_many_damaged_ones_the_first(self, capsys: pytest.CaptureFixture[str]) -> None:
        report = read_stream(faults.drop_tiles(self.LARGE, tiles=list(range(0, 1600, 2)))).report
        print_summary("a", report)
        *lines, last = tile_lines(capsys.readouterr().out)
        assert len(lines) == summary.SHOWN
        assert last == f"and {800 - summary.SHOWN} more tiles that are not intact (-v lists all)"
        print_summary("a", report, every_tile=True)
        assert len(tile_lines(capsys.readouterr().out)) == 1600


def test_it_fits_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And digests are never cut."""
    header = sample_header(width=32 * 4, height=64, model_name="a name of many words " * 3)
    report = read_stream(sample_stream(header)[2]).report
    tile = replace(report.tiles[1], state=report.tiles[0].state.DAMAGED, z_salvaged=True, y_salvaged=4, offset=10**8)
    odd = replace(report, tiles=(report.tiles[0], replace(tile, correctable=True)), file_bytes=10**9 - 1)
    odd = replace(odd, other_streams=tuple(f"{number:08x}" for number in range(30)))
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((80, 24)))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    print_summary("a.robs", odd)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert header.parameters_digest.hex() in text
    assert all(f"{number:08x}" in text for number in range(30))


def test_colours_only_where_they_are_seen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def printed() -> str:
        print_lines([("fine", False), ("bad", True)])
        return capsys.readouterr().out

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert printed() == "fine\nbad\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert printed() == "fine\n\x1b[31mbad\x1b[0m\n"
    monkeypatch.setenv("TERM", "dumb")
    assert printed() == "fine\nbad\n"
