"""tools/benchmark.py: what is measured is what it is called, and a bar is missed where it is."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from PIL import Image

import robuststream as rs

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from bars import fresh_large, hostile, scan, threads
from bars.common import Figure
from bars.scan import Reading

from robuststream.container import scanner
from robuststream.container.packets import Gap, Packet
from robuststream.container.remains import damaged_packets
from robuststream.errors import DamagedStream
from robuststream.transfers.reading import read_restored, read_stream

ROOT = Path(__file__).parent.parent


class TestHostile:
    @pytest.mark.parametrize("name", hostile.INPUTS)
    def test_of_the_size(self, name: str) -> None:
        make = hostile.INPUTS[name][1]
        small, large = make(3000), make(6000)
        if name in hostile.HONEST:
            assert read_restored(large).report.intact
        else:
            assert (len(small), len(large)) == (3000, 6000)
            # The HEADER says how many METADATA packets there are.
            assert name == "parity HEADER, METADATA packets" or large.startswith(small)

    def test_forged_headers_are_found(self) -> None:
        for name in ("others_nested", "own_nested", "parity_own_nested", "parity_nested_parity"):
            data = getattr(hostile, name)(40_000)
            events = list(scanner.scan(data))
            found = sum(1 for gap in events if isinstance(gap, Gap) for _ in damaged_packets(data, gap))
            assert found > 40_000 / 16
            assert sum(isinstance(event, Packet) for event in events) == 1

    @pytest.mark.parametrize(
        ("name", "packets"), [("tiles_of_one_id", "200"), ("tiles_of_many_ids", "200"), ("parity_metadata", "170")]
    )
    def test_packets_are_intact(self, name: str, packets: str) -> None:
        data = getattr(hostile, name)(5000)
        intact = [event for event in scanner.scan(data) if isinstance(event, Packet)]
        assert len(intact) >= int(packets)
        ids = {packet.stream_id for packet in intact}
        assert len(ids) == (len(intact) if "many_ids" in name else 1)
        if name != "parity_metadata":
            with pytest.raises(DamagedStream, match=f"{len(intact)} intact tiles stand without one"):
                read_restored(data)

    @pytest.mark.parametrize("name", ["parity_descriptions", "parity_long_descriptions", "one_block"])
    def test_descriptions_are_possible(self, name: str) -> None:
        report = read_stream(getattr(hostile, name)(2500)).report
        # PARITY packets of a possible block; others break the format's rules, each by itself.
        assert report.packets["PARITY"] >= 2
        assert not any("breaks the format's rules" in finding.message for finding in report.findings)


def reading(size: float, each: float | None, memory: float | None) -> Reading:
    return Reading(int(size), None if each is None else each * size / 1e9, memory)


class TestScan:
    """The verdicts: a reader that is linear and keeps little holds, every other is found."""

    GOOD = (reading(1e6, 3, 5e6), reading(2e6, 3.1, 5e6))

    def verdicts(self, *pair: Reading) -> tuple[bool | None, bool | None]:
        title, _, one, spread = scan.table({"noise": self.GOOD, "bad": pair})
        assert title.holds is None
        return one.holds, spread.holds

    def test_good(self) -> None:
        assert self.verdicts(reading(1e6, 8, 20e6), reading(2e6, 8, 20e6)) == (True, True)

    def test_not_linear(self) -> None:
        assert self.verdicts(reading(1e6, 2, 5e6), reading(2e6, 4, 5e6)) == (False, True)

    def test_slow(self) -> None:
        assert self.verdicts(reading(1e6, 12, 5e6), reading(2e6, 12, 5e6)) == (True, False)

    def test_memory_grows(self) -> None:
        assert self.verdicts(reading(1e6, 3, 5e6), reading(2e6, 3, 10e6)) == (False, True)

    def test_without_end(self) -> None:
        assert self.verdicts(reading(1e6, 3, 5e6), reading(2e6, None, None)) == (False, False)
        assert self.verdicts(reading(1e6, None, None), reading(2e6, None, None)) == (False, False)

    def test_streams_are_there_to_compare(self) -> None:
        slow = reading(1e6, 90, 5e6), reading(2e6, 90, 5e6)
        assert scan.table({"noise": self.GOOD, hostile.HONEST[0]: slow})[-1].holds is True

    def test_nothing_ended(self) -> None:
        none = reading(1e6, None, None), reading(2e6, None, None)
        assert [figure.holds for figure in scan.table({"noise": none})] == [None, False, False]


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is Linux's")
class TestProbe:
    """In a process of its own and in this one."""

    def test_memory_is_seen(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        # So much that the allocator asks the system for it anew, whatever this process freed before.
        path.write_bytes(bytes(40_000_000))
        light = scan.probe(path, len, 1, 1)["memory"]
        assert light < 3e6
        # As much again as the file; all of it is written to.
        assert scan.probe(path, lambda data: bytearray(b"x") * len(data), 1, 1)["memory"] > light + 36e6

    def test_so_many_runs_as_there_is_time_for(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"abc")
        runs: list[bytes] = []
        assert scan.probe(path, runs.append, 3, 1)["seconds"] < 1
        assert runs == [b"abc"] * 4
        assert scan.probe(path, runs.append, 3, 0)["seconds"] < 1
        assert len(runs) == 5

    def test_a_process_of_its_own(self) -> None:
        found = scan.measured("noise", 10_000)
        assert found.size == 10_000
        assert found.each is not None
        assert found.memory is not None

    def test_time_runs_out(self) -> None:
        assert scan.measured("noise", 10_000, limit=0.01) == Reading(10_000, None, None)


def test_read_is_all_that_a_decode_does(monkeypatch: pytest.MonkeyPatch) -> None:
    scan.read(hostile.tiles_of_one_id(300))  # a file that is refused is read, too
    read: list[bytes] = []
    monkeypatch.setattr(scan, "read_restored", read.append)
    scan.read(b"abc")
    assert read == [b"abc"]


class TestThreads:
    SAMPLE = Path(rs.__file__).parent / "samples" / "dog.png"

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A small photograph, and its intact and damaged stream."""
        folder = tmp_path_factory.mktemp("threads")
        Image.open(self.SAMPLE).convert("RGB").crop((100, 100, 292, 228)).save(folder / "small.png")
        for name, data in threads._streams(folder / "small.png").items():
            (folder / f"{name}.robs").write_bytes(data)
        return folder

    def test_streams(self, folder: Path) -> None:
        assert rs.inspect(folder / "intact.robs").intact
        assert not rs.inspect(folder / "damaged.robs").intact

    def test_all_ways(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = str(folder / "intact.robs")
        boxes = threads.regions((192, 128), 5)
        assert boxes == threads.regions((192, 128), 9)[:5]
        assert all(0 <= left < right <= 192 and 0 <= top < bottom <= 128 for left, top, right, bottom in boxes)
        alone = threads.one_by_one(path, boxes)
        assert len(set(alone)) == 5
        assert threads.in_threads(path, boxes, "1") == alone
        assert threads._round("in_children", Path(path), 5, 2, "before torch is imported") == alone
        threads.main("one_by_one", path, "5")
        assert json.loads(capsys.readouterr().out) == alone

    def test_others_run_between_seek_and_read(self, folder: Path) -> None:
        begin = Barrier(4)
        with threads.Yielding(folder / "intact.robs") as file, ThreadPoolExecutor(4) as pool:

            def stays(place: int) -> bool:
                begin.wait()
                file.seek(place)
                return file.tell() == place

            assert not all(pool.map(stays, range(4)))

    def test_an_error_is_a_result(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rs.StreamFile, "decode", lambda stream, box: 1 // 0)
        found = threads.one_by_one(str(folder / "intact.robs"), threads.regions((192, 128), 2))
        assert found == ["ZeroDivisionError: integer division or modulo by zero"] * 2

    def test_what_differs_is_said(self) -> None:
        alone = ["outcomes=1, latents=2, pixels=3", "outcomes=1, latents=5, pixels=4"]
        assert threads._figure("", alone, alone).holds is True
        one = threads._figure("", alone, [alone[0], "outcomes=1, latents=6, pixels=7"])
        assert (one.value, one.holds) == ("1 of 2 as one by one; another is latents, pixels", False)
        assert threads._figure("", alone, [alone[0], "OSError: no"]).value.endswith("another is OSError: no")
        assert threads._figure("", alone, alone[:1]).holds is False
        assert threads._figure("", alone, []).value.startswith("no end")

    def test_no_end(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(threads, "LIMIT", 0.05)
        assert threads._round("one_by_one", folder / "intact.robs", 1) == []


class TestFreshLarge:
    @pytest.fixture
    def photos(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(fresh_large, "SIZES", {1: (200, 130)})
        monkeypatch.setattr(fresh_large, "MORE", tmp_path / "none")
        Image.open(TestThreads.SAMPLE).convert("RGB").save(tmp_path / "dog.png")
        return tmp_path

    def test_holds(self, photos: Path) -> None:
        (figure,) = fresh_large.fresh_large(photos, [1], [64])
        assert figure.value.startswith("intact, verify exits with 0; 12 tiles")
        assert figure.holds is True

    def test_inspect_counts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "fresh.robs"
        path.write_bytes(rs.encode(Image.new("RGB", (16, 16))))
        report = replace(rs.inspect(path), findings=rs.inspect(path.read_bytes() + b"x").findings)
        monkeypatch.setattr(rs, "inspect", lambda path: report)
        figure = fresh_large._figure("", path)
        assert figure.value.startswith("damaged (ROBS-GAP, bytes ")
        assert ", verify exits with 0; 1 tiles" in figure.value
        assert figure.holds is False

    def test_verify_counts(self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "hurt.robs"
        path.write_bytes(rs.encode(Image.new("RGB", (16, 16))) + b"x")
        report = rs.inspect(path)
        monkeypatch.setattr(rs, "inspect", lambda path: replace(report, findings=()))
        figure = fresh_large._figure("", path)
        assert figure.value.startswith("intact, verify exits with 2")
        assert figure.holds is False

    def test_skipped_with_the_reason(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fresh_large, "MORE", tmp_path / "more")
        (figure,) = fresh_large.fresh_large(tmp_path / "none")
        assert figure.holds is None
        assert figure.value == f"skipped: there are no photographs in {tmp_path / 'none'} nor in {tmp_path / 'more'}"

    def test_mosaic(self, photos: Path) -> None:
        (path,) = photos.glob("*.png")
        one, two = (fresh_large.mosaic([path], 1100, 700) for _ in range(2))
        assert one.shape == (700, 1100, 3)
        assert np.array_equal(one, two)
        first, second = one[:480, :480], one[:480, 480:960]
        assert not np.array_equal(first, second)

    def test_photographs_smaller_than_a_square(self, tmp_path: Path) -> None:
        Image.new("RGB", (30, 20), (9, 8, 7)).save(tmp_path / "small.png")
        assert (fresh_large.mosaic([tmp_path / "small.png"], 500, 500) == (9, 8, 7)).all()


def test_cells_are_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import benchmark

    assert len(fresh_large.CELLS) == 6
    monkeypatch.setattr(fresh_large, "MORE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "fresh-large-24-64", "--photos", str(tmp_path)])
    assert benchmark.main() == 0
    assert "skipped: there are no photographs" in capsys.readouterr().out


def test_a_cell_is_one_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "small.png")
    made: list[Any] = []
    monkeypatch.setattr(fresh_large, "mosaic", lambda paths, *size: made.append(size) or np.zeros((9, 9, 3), np.uint8))
    monkeypatch.setattr(fresh_large, "child", lambda *arguments: made.append(arguments[-1]))
    monkeypatch.setattr(fresh_large, "_figure", lambda what, data: Figure(what, ""))
    figures = fresh_large.CELLS["fresh-large-64-128"](tmp_path)
    assert [figure.what for figure in figures] == ["64 megapixels, tiles of 128"]
    assert made == [(9248, 6936), "128"]
