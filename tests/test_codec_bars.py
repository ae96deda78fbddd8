"""tools/benchmark.py codec-cpu, codec-gpu: where time is said to go it goes, and the limit is the networks' own."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from compressai import models

import robuststream as rs
from tests import small

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from bars import breakdown, codec, common, limits, stages, zoo

PEAKS = limits.Peaks({"float32": 2e9, "float64": 1e9}, memory=1e9)


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is a second after the last."""
    clock = count()
    monkeypatch.setattr(stages.time, "perf_counter", lambda: float(next(clock)))


class TestStages:
    def test_each_second_belongs_to_the_innermost(self, ticks: None) -> None:
        clock = stages.Clock()
        clock.begin("walk", stages.INDEXES)  # the first second was the rest's
        clock.begin("network", stages.EXACT)
        clock.begin("a layer of it", stages.PICTURE)  # a network is one stage
        clock.end("a layer of it")
        clock.end("network")
        clock.begin("more of the walk", stages.INDEXES)
        clock.end("walk")
        clock.count()
        assert clock.seconds == {stages.REST: 2, stages.INDEXES: 2, stages.EXACT: 1}

    def test_copies_are_told_apart_in_networks(self, ticks: None) -> None:
        clock = stages.Clock()
        clock.begin("network", stages.EXACT)
        clock.begin("cpu", stages.COPIES)
        clock.end("cpu")
        clock.end("network")
        assert clock.seconds == {stages.REST: 1, stages.EXACT: 2, stages.COPIES: 1}

    def test_an_encode_and_a_decode_have_all_of_them(self) -> None:
        model, picture = small.model("mbt2018"), small.picture(64, 96)
        data = rs.encode(picture, model)
        both = {stages.EXACT, stages.INDEXES, stages.RANS, stages.CONTAINER, stages.REST}
        encode = stages.watched(1, lambda: rs.encode(picture, model))
        assert {stage for stage, seconds in encode.items() if seconds} >= both | {stages.ANALYSIS, stages.HYPER}
        assert not encode[stages.SYNTHESIS]
        decode = stages.watched(1, lambda: rs.decode(data, model))
        assert {stage for stage, seconds in decode.items() if seconds} >= both | {stages.SYNTHESIS, stages.PICTURE}
        assert not decode[stages.ANALYSIS]
        assert not decode[stages.HYPER]
        assert sys.getprofile() is None

    def test_an_error_ends_it(self) -> None:
        with pytest.raises(ZeroDivisionError), stages.Watch():
            1 / 0  # noqa: B018
        assert sys.getprofile() is None

    def test_compressais_own(self) -> None:
        net = small.net("elic2022-official")
        x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            found = stages.watched_net(1, net, lambda: net.compress(x))
            assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
        assert {stage for stage, seconds in found.items() if seconds} == {
            stages.ANALYSIS, stages.HYPER, stages.EXACT, stages.REST
        }  # fmt: skip


class TestLimits:
    def test_operations_and_bytes(self) -> None:
        """Counted by hand: 8 channels between, 12 latents, 64 x 128 pixels."""
        work = limits.work(small.net("mbt2018-mean"), torch.zeros(1, 3, 64, 128))
        # Of a transposed convolution each input meets each of 25 taps once; GDN is a product with a matrix.
        sides = [4 * 8 * 4**k for k in range(5)]
        channels = (12, 8, 8, 8, 3)
        layers = [(sides[k], sides[k + 1], channels[k], channels[k + 1]) for k in range(4)]
        convolutions = sum(2 * 25 * a * b * inputs for inputs, _, a, b in layers)
        gdn = sum(2 * 8 * 8 * outputs for _, outputs, _, _ in layers[:3])
        assert work[stages.SYNTHESIS].operations == convolutions + gdn
        values = sum(a * inputs + b * outputs + 25 * a * b + b for inputs, outputs, a, b in layers)
        values += sum(2 * 8 * outputs + 8 * 8 + 8 for _, outputs, _, _ in layers[:3])
        assert work[stages.SYNTHESIS].bytes == 4 * values

    def test_seconds(self) -> None:
        assert PEAKS.seconds(limits.Work(4e9, 1e9)) == 2
        assert PEAKS.seconds(limits.Work(4e9, 3e9)) == 3
        assert PEAKS.carrying(1000) == 0
        assert limits.Peaks({}, 1, from_host=1e3, to_host=2e3).carrying(1000) == 3 + 4

    def test_peaks_are_measured(self) -> None:
        found = limits.peaks(size=64)
        assert min(found.operations["float32"], found.operations["float64"], found.memory) > 0
        assert found.from_host is None
        assert "float64" in str(found)


class TestZoo:
    def test_a_gain_goes_into_the_weights(self) -> None:
        torch.manual_seed(1)
        plain = models.MeanScaleHyperpriorVbr(8, 12).eval()
        folded = zoo.folded({"N": 8, "M": 12, "state_dict": plain.state_dict()}, 2)
        gain = plain.Gain[2].abs()
        x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            y = plain.g_a(x)
            z = plain.h_a(y)
            same = (
                (folded.g_a(x), gain * y),
                (folded.h_a(gain * y), z),
                (folded.h_s(z), gain * plain.h_s(z)),
                (folded.g_s(gain * y), plain.g_s(y)),
            )
        assert abs(gain - 1) > 0.1
        for ours, theirs in same:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("name", zoo.SIZES)
    def test_latents_are_spread(self, name: str) -> None:
        photo = small.picture(300, 280)
        one, two = (zoo.load(name, photo, codec.TINY[name]) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
        x = torch.from_numpy(photo[22:278, 12:268].copy()).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            spread = one.g_a(x).std((0, 2, 3))
            decoded = rs.decode(rs.encode(photo, model := rs.freeze(one)), model)
        torch.testing.assert_close(spread, zoo._spreads(0, len(spread)), rtol=0.05, atol=0)
        assert decoded.report.exact
        # Symbols of y that are neither all zeros nor all saturated.
        assert 0.5 < (decoded.latents.abs() > 2048).float().mean() < 0.99
        assert decoded.latents.abs().max() < 100 * 4096


class TestBars:
    def test_dry_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(limits, "peaks", lambda device, size: PEAKS)
        monkeypatch.setattr(codec, "CPU", codec.CPU[:2])
        monkeypatch.setenv("FIGURES", str(tmp_path))
        figures = list(codec.codec_cpu(tmp_path / "none", small=True))
        assert {figure.what: figure.value for figure in figures}.keys() >= {
            "mbt2018-mean: whole decode against decompress",
            "bundled model: 2 pictures: decode_batch, pictures/s",
        }
        assert all(figure.holds for figure in figures if "proven" in figure.what)
        assert (tmp_path / "codec-cpu.png").read_bytes().startswith(b"\x89PNG")
        assert "| mbt2018-mean: decode |" in capsys.readouterr().err

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_without_a_gpu(self, tmp_path: Path) -> None:
        (figure,) = codec.codec_gpu(tmp_path)
        assert figure.value.startswith("skipped")
        assert figure.holds is None

    def test_time_runs_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "peaks", lambda device, size: PEAKS)
        bench = codec.Bench("cpu", small=True, until=0)
        (one,), (many,) = codec._single(bench, codec.GPU[0], tmp_path), codec._batch(bench, "mbt2018-mean", tmp_path)
        assert "no time was left" in one.value
        assert "no time was left" in many.value
        runs: list[int] = []
        assert len(common.interleaved(5, lambda: runs.append(1), until=0)) == 1
        assert len(runs) == 2

    def test_verdicts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "peaks", lambda device, size: PEAKS)
        bench = codec.Bench("cpu")
        assert bench.against(0.5, 0.51) == ("<= 0.5", False)
        assert bench.against(0.5, 0.5) == ("<= 0.5", True)
        assert bench.against(100, 99, more=True) == (">= 100", False)
        assert bench.against(None, 99) == ("", None)
        assert codec.Bench("cpu", small=True).against(0.5, 0.51) == ("", None)


def test_table() -> None:
    spent = {stages.SYNTHESIS: 0.4, stages.RANS: 0.002}
    row = breakdown.Row("m", "decode", 0.41, spent, {stages.SYNTHESIS: 0.2, stages.ANALYSIS: 0.3})
    assert breakdown.table([row]).splitlines() == [
        "| milliseconds | whole | rANS | synthesis | watched |",
        "|---|---|---|---|---|",
        "| m: decode | 410.0 | 2.0 | 400.0 | 402.0 |",
        "| at least | 200.0 | – | 200.0 | |",
    ]


def test_photographs(tmp_path: Path) -> None:
    none = common.photographs(tmp_path, 3)
    assert [photo.shape for photo in none] == [(512, 768, 3)] * 3
    assert not np.array_equal(none[0], none[1])
