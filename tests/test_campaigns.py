"""tools/campaign.py: a few trials hold, and what it looks for is found where it is the case."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import robuststream as rs

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from campaigns import container, decode, fresh, hits, repair, transfers
from campaigns.common import Campaign, Written, run, stands

from robuststream.container.packets import Header, Kind, Metadata, Mode, Tile
from robuststream.container.repair import Restored
from robuststream.faults import drop_tiles
from tests.helpers import sample_stream

ROOT = Path(__file__).parent.parent


def wrong(campaign: Campaign, numbers: range) -> str:
    """All that is wrong in some trials."""
    found: list[str] = []
    for number in numbers:
        found += campaign.trial(number, np.random.default_rng([1, number]), Counter())[1]
    return "\n".join(found)


@pytest.fixture(scope="module")
def reader() -> container.Container:
    return container.Container()


@pytest.fixture(scope="module")
def repairs() -> repair.Repairs:
    return repair.Repairs()


@pytest.fixture(scope="module")
def decodes() -> decode.Decodes:
    return decode.Decodes()


def test_trials_hold(reader: container.Container, decodes: decode.Decodes, tmp_path: Path) -> None:
    assert wrong(reader, range(300)) == ""
    assert wrong(decodes, range(60)) == ""
    # Without a folder of photographs there are the samples.
    assert wrong(hits.Hits(tmp_path / "none"), range(2)) == ""
    assert wrong(transfers.Transfers(tmp_path / "none"), range(len(transfers.TRANSFERS))) == ""


def test_a_trial_is_its_seed_and_number(reader: container.Container, capsys: pytest.CaptureFixture[str]) -> None:
    again = [reader.trial(7, np.random.default_rng([3, 7]), Counter())[0] for _ in range(2)]
    assert again[0] == again[1] != reader.trial(7, np.random.default_rng([4, 7]), Counter())[0]
    assert run("container", reader, 3, range(7, 8)) == 0
    assert "trials 7 to 7" in capsys.readouterr().out


def test_the_number_of_processes_changes_nothing() -> None:
    command = [sys.executable, "-W", "ignore", str(ROOT / "tools" / "campaign.py"), "fresh", "--trials", "13"]
    one, two = (
        subprocess.run([*command, "--jobs", jobs], capture_output=True, text=True, cwd=ROOT, check=False)
        for jobs in ("1", "2")
    )
    assert "trials 0 to 12" in one.stdout
    assert re.sub(r": \d+ s", "", one.stdout) == re.sub(r": \d+ s", "", two.stdout)
    assert (one.returncode, one.stderr) == (two.returncode, two.stderr)


def test_a_process_that_dies_is_told() -> None:
    with pytest.raises(SystemExit, match="a process of the campaign died"):
        run("dying", Dying(), 1, range(4), jobs=2)


class Dying:
    def trial(self, number: int, random: Any, counts: Counter[str]) -> tuple[str, list[str]]:
        os._exit(1)


class TestFresh:
    """Undamaged streams of every layout."""

    def test_trials_hold(self) -> None:
        assert wrong(fresh.Fresh(), range(60)) == ""

    def test_small_streams_hold(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # No copy of the HEADER is due but those at fixed tiles.
        monkeypatch.setattr(fresh, "LARGE", 4000)
        monkeypatch.setattr(fresh, "SMALL", 4000)
        monkeypatch.setattr(fresh, "MOST_TILES", 60)
        monkeypatch.setattr(fresh, "LARGEST_BLOCK", 2 * fresh.PART)
        assert wrong(fresh.Fresh(), range(100)) == ""

    def test_one_wrong_bit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        true = fresh.write_stream
        monkeypatch.setattr(fresh, "write_stream", lambda *written: true(*written)[:-1] + b"\xff")
        assert wrong(fresh.Fresh(), range(40)).count("called damaged as written: ") == 40

    def test_unwritten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fresh, "write_stream", lambda *written: 1 // 0)
        assert "not written, ZeroDivisionError" in wrong(fresh.Fresh(), range(1))

    def test_unread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rs, "inspect", lambda data: 1 // 0)
        assert "not read, ZeroDivisionError" in wrong(fresh.Fresh(), range(1))

    def test_another_stream(self, monkeypatch: pytest.MonkeyPatch) -> None:
        report = rs.inspect(fresh.write_stream(*sample_stream()[:2]))
        monkeypatch.setattr(rs, "inspect", lambda data: report)
        assert "6 tiles, 0 of them missing, of" in wrong(fresh.Fresh(), range(4))

    def test_all_layouts_are_drawn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        written: list[tuple[Header, list[Tile], Metadata]] = []
        monkeypatch.setattr(fresh, "write_stream", lambda *layout: written.append(layout) or 1 // 0)
        wrong(fresh.Fresh(), range(300))
        headers = [header for header, _, _ in written]
        assert {header.checkpoints for header in headers} == set(range(16))
        assert {(header.mode, header.z_checkpoint) for header in headers} == set(product(Mode, (True, False)))
        assert min(header.parity for header in headers) == 0
        assert max(header.parity for header in headers) > 900
        assert {1, 2, 3} < {header.tiles for header in headers}
        assert max(header.tiles for header in headers) > 1000
        assert min(len(tile.words) for _, tiles, _ in written for tile in tiles) == 8
        assert max(len(tile.words) for _, tiles, _ in written for tile in tiles) > 500_000
        totals = [sum(len(tile.words) for tile in tiles) for _, tiles, _ in written]
        assert min(totals) < 40
        assert 3_000_000 < max(totals) < 4_000_000
        blocks = [len(block) for _, _, metadata in written for block in metadata.items().values()]
        assert min(blocks) == 0
        assert max(blocks) > 200_000
        assert any(not metadata.items() for _, _, metadata in written)


def test_all_packets_of_a_kind_are_hit(repairs: repair.Repairs) -> None:
    original = repairs.kinds[0][1][0]
    told: Counter[str] = Counter()
    for seed in range(200):
        hurt, did = repair.aimed(original.data, original, np.random.default_rng(seed))
        way, share, name = re.fullmatch(r"(.*) in (\d+)% of (\w+) packets", did).groups()  # type: ignore[union-attr]
        told.update([way, name, "all" if share == "100" else "some"])
        if way == "cut out" or len(hurt) != len(original.data):
            continue
        same = {kind: [hurt[a:b] == original.data[a:b] for k, a, b in original.places if k == kind] for kind in Kind}
        hit = same.pop(Kind[name])
        assert all(all(others) for others in same.values())
        assert share != "100" or not any(hit)
    assert {"a bit", "a bit at one place", "noise", "zeros", "cut out", "all", "some"} < told.keys()
    assert {"HEADER", "METADATA", "INDEX", "TILE", "PARITY"} < told.keys()


class TestRepair:
    """A repair that is wrong in one way; and one that knows what was written."""

    @staticmethod
    def repairing(repairs: repair.Repairs, monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
        """Let `repair` give what was written, changed; of the stream that was decoded last, or fail as that did."""
        known = {original.identity: original for _, series in repairs.kinds for original in series}
        true, last = rs.decode, [b""]

        def decode(*arguments: Any) -> rs.Decoded:
            last[:] = [b""]
            out = true(*arguments)
            original = known.get(bytes.fromhex(out.report.stream_id))
            last[:] = [original.data if original else b""]
            return out

        def knowing(hurt: bytes) -> Restored:
            if not last[0]:
                raise rs.DamagedStream("no picture")
            return change(Restored(last[0], True, (), 0, ()), hurt)

        monkeypatch.setattr(rs, "decode", decode)
        monkeypatch.setattr(rs, "repair", knowing)

    def test_trials_hold(self, repairs: repair.Repairs) -> None:
        assert wrong(repairs, range(60)) == ""

    def test_a_perfect_repair(self, repairs: repair.Repairs, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repairing(repairs, monkeypatch, lambda restored, hurt: restored)
        assert wrong(repairs, range(120)) == ""

    def test_nothing_done(self, repairs: repair.Repairs, monkeypatch: pytest.MonkeyPatch) -> None:
        # A file that stays as it is is no worse.
        self.repairing(repairs, monkeypatch, lambda restored, hurt: replace(restored, data=hurt, whole=False))
        assert set(wrong(repairs, range(60)).split("\n")) == {"what was written, and not called whole"}

    def test_called_whole(self, repairs: repair.Repairs, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repairing(repairs, monkeypatch, lambda restored, hurt: replace(restored, data=hurt))
        assert set(wrong(repairs, range(60)).split("\n")) == {"called whole, and is not what was written"}

    def test_lost(self, repairs: repair.Repairs, monkeypatch: pytest.MonkeyPatch) -> None:
        def drop(restored: Restored, hurt: bytes) -> Restored:
            return replace(restored, data=drop_tiles(restored.data, tiles=[1]), whole=False)

        self.repairing(repairs, monkeypatch, drop)
        found = wrong(repairs, range(120))
        assert "fewer exact or repaired pixels: " in found
        assert "a tile is worth less: 1 was exact, and is missing after repair" in found
        assert re.search(r"a tile is worth less: 1 was concealed with \d+ parts of y, and is missing", found)
        assert "changed, and was not damaged" in found

    def test_no_metadata(self, repairs: repair.Repairs, monkeypatch: pytest.MonkeyPatch) -> None:
        def drop(restored: Restored, hurt: bytes) -> Restored:
            header, tiles = content(restored.data)
            return replace(restored, data=fresh.write_stream(header, tiles), whole=False)

        self.repairing(repairs, monkeypatch, drop)
        found = wrong(repairs, range(20))
        assert "metadata lost: no icc_profile block after repair" in found
        # Without them it is another stream.
        assert "fewer exact or repaired pixels: " in found

    def test_refused(self, repairs: repair.Repairs, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(restored: Restored, hurt: bytes) -> Restored:
            raise rs.DamagedStream("no")

        self.repairing(repairs, monkeypatch, refuse)
        assert "refused by repair, and not by decode: DamagedStream: no" in wrong(repairs, range(40))

    def test_foreign_exceptions(self, repairs: repair.Repairs, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repairing(repairs, monkeypatch, lambda restored, hurt: 1 // 0)
        assert "foreign exception of repair: ZeroDivisionError" in wrong(repairs, range(40))

    def test_no_stream(self, repairs: repair.Repairs, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repairing(repairs, monkeypatch, lambda restored, hurt: replace(restored, data=b"", whole=False))
        assert "no picture after repair: NotARobustStream" in wrong(repairs, range(40))

    def test_untrue(self, repairs: repair.Repairs, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repairing(repairs, monkeypatch, lambda restored, hurt: restored)
        true = rs.decode

        def lie(*arguments: Any, **options: Any) -> rs.Decoded:
            out = true(*arguments, **options)
            return replace(out, latents=out.latents + 1)

        monkeypatch.setattr(rs, "decode", lie)
        assert "untrue after repair: tile 0 is called" in wrong(repairs, range(40))


def content(data: bytes) -> tuple[Header, list[Tile]]:
    stream = container.read_stream(data)
    return stream.header, [stream.tiles[index] for index in range(stream.header.tiles)]


class TestLies:
    """A reader or decoder that is wrong in one way, over trials in which it gets the chance."""

    @staticmethod
    def reading(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
        true = container.read_stream
        monkeypatch.setattr(container, "read_stream", lambda data: change(true(data)))

    def test_lost(self, reader: container.Container, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reading(monkeypatch, lambda s: replace(s, tiles={i: t for i, t in s.tiles.items() if i != 2}))
        assert "tiles [2] stand whole and are not found" in wrong(reader, range(40))

    def test_swapped(self, reader: container.Container, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reading(monkeypatch, lambda s: replace(s, tiles={i: s.tiles.get(i ^ 1, t) for i, t in s.tiles.items()}))
        assert "is not what was written" in wrong(reader, range(40))

    def test_silent(self, reader: container.Container, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reading(monkeypatch, lambda s: replace(s, report=replace(s.report, findings=())))
        assert "called intact" in wrong(reader, range(40))

    def test_refused(self, reader: container.Container, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(stream: Any) -> Any:
            raise rs.DamagedStream("no")

        self.reading(monkeypatch, refuse)
        assert "a HEADER packet stands whole, and the file is refused" in wrong(reader, range(40))

    def test_foreign_exception(self, reader: container.Container, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reading(monkeypatch, lambda s: s.nothing)
        assert "foreign exception, AttributeError" in wrong(reader, range(40))

    @staticmethod
    def decoding(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        true = rs.decode

        def lie(*arguments: Any, **options: Any) -> rs.Decoded:
            out = true(*arguments, **options)
            return replace(out, **{name: change(out) for name, change in changes.items()})

        monkeypatch.setattr(rs, "decode", lie)

    def test_wrong_pixels(self, decodes: decode.Decodes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoding(monkeypatch, mask=lambda out: np.zeros_like(out.mask))
        assert "pixels are wrong in silence" in wrong(decodes, range(24))

    def test_wrong_latents(self, decodes: decode.Decodes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoding(monkeypatch, latents=lambda out: out.latents + 1)
        assert "has other latents" in wrong(decodes, range(24))

    def test_transfers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        campaign = transfers.Transfers(tmp_path / "none")
        monkeypatch.setattr(transfers, "undone", lambda data: None)
        assert "named nothing, and not lf-to-crlf" in wrong(campaign, range(1))
        monkeypatch.undo()
        true = transfers.read_stream
        change = {"tiles": {}, "unproven": ()}
        monkeypatch.setattr(transfers, "read_stream", lambda data: true(data))
        campaign.written(0)
        monkeypatch.setattr(transfers, "read_stream", lambda data: replace(true(data), **change, header=None))
        assert "a header or a tile that was not written" in wrong(campaign, range(1))

    def test_wrong_pixels_after_a_hit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        photos = hits.Hits(tmp_path / "none")
        assert wrong(photos, range(1)) == ""
        self.decoding(monkeypatch, mask=lambda out: np.minimum(out.mask, 1))
        assert "pixels are wrong in silence" in wrong(photos, range(1, 4))


def test_a_byte_belongs_to_one_packet(reader: container.Container) -> None:
    written = next(iter(reader.known.values()))
    first, second = b"\xb7RS..\xb7", b"\xb7RS,,"
    written = Written(written.data)
    written.ends = [(first, 1)]
    known = {b"": written}
    assert not stands(second, first + second[1:], known)
    assert stands(first, first + second[1:], known)
    assert stands(second, first + second, known)
    assert stands(second, first + second[1:] + second, known)


def test_command() -> None:
    command = [sys.executable, "-W", "ignore", str(ROOT / "tools" / "campaign.py"), "container", "--trials", "20"]
    done = subprocess.run([*command, "--seed", "5"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "container, seed 5, trials 0 to 19" in done.stdout
    assert "0  trials with anything wrong" in done.stdout
