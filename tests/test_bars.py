"""tools/benchmark.py: what is measured is what it is called, and a bar is missed where it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from bars import hostile, scan
from bars.scan import Reading

from robuststream.container.packets import DamagedPackets, Packet
from robuststream.container.reader import read_stream
from robuststream.container.repair import read_restored
from robuststream.container.scanner import scan_batches
from robuststream.errors import DamagedStream


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
            events = list(scan_batches(getattr(hostile, name)(40_000)))
            found = sum(len(event) if isinstance(event, DamagedPackets) else 1 for event in events)
            assert found > 40_000 / 16
            assert sum(isinstance(event, Packet) for event in events) == 1

    @pytest.mark.parametrize(
        ("name", "packets"), [("tiles_of_one_id", "200"), ("tiles_of_many_ids", "200"), ("parity_metadata", "170")]
    )
    def test_packets_are_intact(self, name: str, packets: str) -> None:
        data = getattr(hostile, name)(5000)
        intact = [event for event in scan_batches(data) if isinstance(event, Packet)]
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
        path.write_bytes(bytes(10_000_000))
        light = scan.probe(path, len, 1, 1)["memory"]
        assert light < 3e6
        # As much again as the file; all of it is written to.
        assert scan.probe(path, lambda data: bytearray(b"x") * len(data), 1, 1)["memory"] > light + 9e6

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
