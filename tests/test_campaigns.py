"""tools/campaign.py: a few trials hold, and what it looks for is found where it is the case."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import robuststream as rs

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from campaigns import container, decode, hits, transfers
from campaigns.common import Campaign, Written, run, stands

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
