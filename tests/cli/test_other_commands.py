"""`damage` and `freeze`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import robuststream as rs
from robuststream import faults
from tests.cli.conftest import Files, Run
from tests.helpers import sample_stream
from tests.small import model, net

CHANNEL = faults.GilbertElliott(to_bad=0.1, to_good=0.2, error_good=0.05, error_bad=0.9)


class TestDamage:
    @pytest.mark.parametrize(
        ("options", "damage"),
        [
            (["--flip", 5], lambda data: faults.flip_bits(data, seed=7, count=5)),
            (["--bit-error-rate", 0.001], lambda data: faults.flip_bits(data, seed=7, rate=0.001)),
            (["--burst", 30], lambda data: faults.burst(data, seed=7, length=30)),
            (["--burst", 30, "--bursts", 3], lambda data: faults.burst(data, seed=7, length=30, count=3)),
            (["--zero-sectors", 1], lambda data: faults.zero_sectors(data, seed=7, count=1)),
            (["--zero-sectors", 2, "--sector", 50], lambda data: faults.zero_sectors(data, seed=7, count=2, size=50)),
            (["--duplicate", 2], lambda data: faults.duplicate(data, seed=7, count=2)),
            (["--duplicate", 2, "--mtu", 90], lambda data: faults.duplicate(data, seed=7, count=2, mtu=90)),
            (["--reorder", 3], lambda data: faults.reorder(data, seed=7, count=3)),
            (["--reorder", 3, "--mtu", 90], lambda data: faults.reorder(data, seed=7, count=3, mtu=90)),
            (["--loss", 0.3, "--mtu", 90], lambda data: faults.lose_datagrams(data, seed=7, rate=0.3, mtu=90)),
            (
                ["--loss", 0.9, "--lost", "zeroed"],
                lambda data: faults.lose_datagrams(data, seed=7, rate=0.9, lost="zeroed"),
            ),
            (
                ["--loss-channel", 0.1, 0.2, 0.05, 0.9, "--mtu", 40],
                lambda data: faults.lose_datagrams(data, seed=7, channel=CHANNEL, mtu=40),
            ),
            (["--channel", 0.1, 0.2, 0.05, 0.9], lambda data: faults.channel_errors(data, seed=7, channel=CHANNEL)),
            (
                ["--channel", 0.1, 0.2, 0.05, 0.9, "--channel-unit", "bytes"],
                lambda data: faults.channel_errors(data, seed=7, channel=CHANNEL, unit="bytes"),
            ),
            (["--delete", 30], lambda data: faults.delete(data, seed=7, length=30)),
            (["--delete", 30, "--deletes", 3], lambda data: faults.delete(data, seed=7, length=30, count=3)),
            (["--insert", 30], lambda data: faults.insert(data, seed=7, length=30)),
            (["--insert", 30, "--inserts", 3], lambda data: faults.insert(data, seed=7, length=30, count=3)),
            (["--cut-start", 99], lambda data: data[99:]),
            (["--truncate", 99], lambda data: data[:99]),
            (["--truncate", 0], lambda data: b""),
            (["--drop-tiles", 2], lambda data: faults.drop_tiles(data, seed=7, count=2)),
            (
                ["--truncate", 900, "--flip", 3, "--drop-tiles", 1],
                lambda data: faults.flip_bits(faults.drop_tiles(data, seed=7, count=1), seed=7, count=3)[:900],
            ),
            (
                ["--cut-start", 9, "--insert", 30, "--reorder", 3, "--channel", 0.1, 0.2, 0.05, 0.9],
                lambda data: faults.channel_errors(
                    faults.insert(faults.reorder(data, seed=7, count=3), seed=7, length=30), seed=7, channel=CHANNEL
                )[9:],
            ),
        ],
    )
    def test_as_the_library(self, options: list[object], damage: Any, run: Run, files: Files, tmp_path: Path) -> None:
        out = tmp_path / "out.robs"
        done = run("damage", files.stream, out, "--seed", 7, *options)
        assert (done.code, done.out, done.err) == (0, b"", "")
        assert out.read_bytes() == damage(files.stream.read_bytes())
        assert out.read_bytes() != files.stream.read_bytes()

    @pytest.mark.parametrize("length", [None, 50])
    def test_splice(self, length: int | None, run: Run, files: Files, tmp_path: Path) -> None:
        data, other = files.stream.read_bytes(), sample_stream()[2]
        (tmp_path / "other.robs").write_bytes(other)
        options = ["--splice", tmp_path / "other.robs", "--splices", 2]
        done = run("damage", files.stream, "-", "--seed", 7, *options, *(["--splice-bytes", length] if length else []))
        assert (done.code, done.err) == (0, "")
        assert done.out == faults.splice(data, other=other, seed=7, count=2, length=length)

    def test_nothing_to_splice(self, run: Run, files: Files, tmp_path: Path) -> None:
        for name in (files.photo, tmp_path / "missing.robs"):
            done = run("damage", files.stream, tmp_path / "out", "--seed", 1, "--splice", name)
            assert (done.code, done.out) == (1, b"")
            assert ("there are 0" if name == files.photo else "missing.robs: cannot be read") in done.error
        assert not list(tmp_path.iterdir())

    def test_pipes(self, run: Run) -> None:
        assert run("damage", "-", "-", "--seed", 1, "--truncate", 3, stdin=b"abcdef").out == b"abc"

    @pytest.mark.parametrize(
        "options",
        [
            [],
            ["--seed", 1],
            ["--flip", 1],
            ["--seed", 1, "--flip", -1],
            ["--seed", -1, "--flip", 1],
            ["--seed", 1, "--flip", 10**9],
            ["--seed", 1, "--bit-error-rate", 2],
            ["--seed", 1, "--drop-tiles", 7],
            ["--seed", 1, "--duplicate", 99],
            ["--seed", 1, "--reorder", 1],
            ["--seed", 1, "--loss", -0.5],
            ["--seed", 1, "--loss", "nan"],
            ["--seed", 1, "--loss", 0.5, "--mtu", 0],
            ["--seed", 1, "--loss", 0.5, "--lost", "burnt"],
            ["--seed", 1, "--loss-channel", 0.1, 0.1, 0.1, 3],
            ["--seed", 1, "--channel", 0, 0, 0, 1],
            ["--seed", 1, "--channel", 0.1, 0.1, 0.1],
            ["--seed", 1, "--channel", 0.1, 0.1, 0, 1, "--channel-unit", "words"],
            ["--seed", 1, "--delete", -1],
            ["--seed", 1, "--insert", 5, "--inserts", -1],
            ["--seed", 1, "--zero-sectors", 1, "--sector", 0],
            ["--seed", 1, "--cut-start", -1],
        ],
    )
    def test_usage(self, options: list[object], run: Run, files: Files, tmp_path: Path) -> None:
        done = run("damage", files.stream, tmp_path / "out", *options)
        assert done.code == 1
        assert done.error
        assert not list(tmp_path.iterdir())

    def test_an_existing_output_is_refused(self, run: Run, files: Files, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.write_bytes(b"precious")
        assert run("damage", files.stream, out, "--seed", 1, "--flip", 1).code == 1
        assert out.read_bytes() == b"precious"
        assert run("damage", files.stream, out, "--seed", 1, "--flip", 1, "--force").code == 0


class TestFreeze:
    def test_as_the_library(self, run: Run, tmp_path: Path) -> None:
        checkpoint, out = tmp_path / "c.pth", tmp_path / "m.safetensors"
        torch.save(net("mbt2018-mean").state_dict(), checkpoint)
        texts = ["--name", "mine", "--licence", "CC0", "--attribution", "me"]
        done = run("freeze", "mbt2018-mean", checkpoint, out, *texts)
        assert (done.code, done.err) == (0, "")
        frozen = rs.load_model(out)
        assert frozen.parameters_digest == model().parameters_digest
        assert frozen.synthesis_digest == model().synthesis_digest
        assert frozen.name == "mine"
        assert frozen.parts.texts["licence"] == "CC0"
        assert frozen.parts.texts["attribution"] == "me"
        bits = max(bound.bits for bound in frozen.bounds["h_s"])
        assert done.out.decode().splitlines() == [
            f"{out}: mine",
            f"  parameters {frozen.parameters_digest.hex()}",
            f"  synthesis  {frozen.synthesis_digest.hex()}",
            f"  bytes      {out.stat().st_size}",
            f"  h_s: sums below 2^{bits:.2f} of 2^52",
        ]
        assert run("freeze", "mbt2018-mean", checkpoint, out).code == 1

    def test_verbose_shows_each_layer(self, run: Run, tmp_path: Path) -> None:
        checkpoint, out = tmp_path / "c.pth", tmp_path / "m.safetensors"
        torch.save(net("mbt2018").state_dict(), checkpoint)
        brief = run("freeze", "mbt2018", checkpoint, out).out.decode().splitlines()
        done = run("freeze", "mbt2018", checkpoint, out, "--force", "-v")
        assert (done.code, done.err) == (0, "")
        lines = done.out.decode().splitlines()
        layers = [line for line in lines if line.startswith("    layer ")]
        assert [line for line in lines if line not in layers] == brief
        bounds = rs.load_model(out).bounds
        assert [line.split(":")[0] for line in brief[4:]] == [f"  {network}" for network in bounds]
        assert [
            f"    layer {b.layer}: sums below 2^{b.bits:.2f}, shifted by {b.shifts[0]} to {b.shifts[1]} bits"
            for n in bounds
            for b in bounds[n]
        ] == layers

    def test_a_factory_beside_the_user(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """In the current folder, which is not where the program lies."""
        (tmp_path / "my_factory.py").write_text(
            "from compressai.models import MeanScaleHyperprior\n\ndef make():\n    return MeanScaleHyperprior(8, 12)\n"
            "\ndef broken():\n    raise KeyError('of\\nsome kind')\n"
        )
        torch.save(net("mbt2018-mean").state_dict(), tmp_path / "c.pth")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
        done = run("freeze", "my_factory:make", "c.pth", "m.safetensors")
        assert (done.code, done.err) == (0, "")
        assert rs.load_model("m.safetensors").parameters_digest == model().parameters_digest
        for factory in ("my_factory:broken", "my_factory:none", "no_such_module_here:make", "os:getcwd", ":"):
            done = run("freeze", factory, "c.pth", "n.safetensors")
            assert done.code == 1
            assert factory in done.error
        assert not Path("n.safetensors").exists()

    @pytest.mark.parametrize(
        ("architecture", "content"),
        [("mbt2018-mean", None), ("mbt2018-mean", b"words"), ("nonsense", b"words"), ("mbt2018-mean", b"")],
    )
    def test_refused(self, architecture: str, content: bytes | None, run: Run, tmp_path: Path) -> None:
        checkpoint = tmp_path / "c.pth"
        if content is not None:
            checkpoint.write_bytes(content)
        done = run("freeze", architecture, checkpoint, tmp_path / "m.safetensors")
        assert done.code == 1
        assert done.error
        assert not (tmp_path / "m.safetensors").exists()
