"""Exactness across kernels, in child processes that are "other machines": instruction sets, threads, order of sums."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from machines import coding, settings, tables  # noqa: E402


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "dog.png"
    Image.open(ROOT / "robuststream" / "samples" / "dog.png").convert("RGB").crop((90, 60, 410, 316)).save(path)
    return path


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory, photo: Path) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    tables.child("default", ["encode", str(folder), str(photo)])
    return folder


@pytest.mark.parametrize("machine", ["AVX2", "SSE4.1"])
def test_native_mode_is_never_silent(streams: Path, machine: str) -> None:
    (line,) = tables.decoded(machine, streams, "native")
    assert line["silent"] is False
    assert line["same"] or line["drifted"]


@pytest.mark.parametrize("machine", [*settings.MACHINES, *settings.engines()])
def test_latents_are_identical(streams: Path, machine: str) -> None:
    lines = tables.decoded(machine, streams, "robuststream")
    assert [line["same"] for line in lines] == [True]


def test_the_check_can_fail(streams: Path) -> None:
    """Networks that round nowhere differ when sums are permuted."""
    default = tables.decoded("default", streams, "control")
    permuted = tables.decoded("sums permuted", streams, "control")
    assert default[0]["hash"] != permuted[0]["hash"]


def test_other_latents_are_found(streams: Path, tmp_path: Path) -> None:
    for path in streams.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "dog.sha256").write_text("0" * 64)
    codec = coding.Codec.load(None, None)
    assert [line["same"] for line in coding.decode(tmp_path, "robuststream", codec)] == [False]
    assert [line["same"] for line in coding.decode(streams, "robuststream", codec)] == [True]
    assert [line["same"] for line in coding.decode(streams, "compressai", codec)] == [True]


@pytest.mark.parametrize("transposed", [False, True])
def test_sums_are_permuted(transposed: bool) -> None:
    random = torch.Generator().manual_seed(1)
    x, weight = torch.randn(1, 64, 9, 9, generator=random), torch.randn(64, 64, 3, 3, generator=random)
    convolve = F.conv_transpose2d if transposed else F.conv2d
    plain = convolve(x, weight), x[0, 0] @ weight[0, :9, 0].T[:, :9].expand(3, 9).T
    with settings.PermutedSums():
        permuted = convolve(x, weight), x[0, 0] @ weight[0, :9, 0].T[:, :9].expand(3, 9).T
    for one, other in zip(plain, permuted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert not torch.equal(plain[0], permuted[0])
    whole = (x * 100).round().double(), (weight * 100).round().double()
    with settings.PermutedSums():
        exact = convolve(*whole)
    assert torch.equal(exact, convolve(*whole))


def test_devices(photo: Path) -> None:
    """The CPU against itself: what a GPU is put through."""
    ours, rows = map(copy.deepcopy, tables.devices([photo], "cpu"))
    assert not any("compressai_broken" in row for row in ours)
    assert [row["decoder"] for row in rows] == ["cpu", "cpu, TF32"] * 2
    assert all(row["identical"] == row["beside"] == 1 for row in rows)
    assert not any(row["compressai_broken"] or row["native_silent"] for row in rows)
    assert "| cpu | cpu, TF32 | 1 of 1 | 0 of 1 |" in tables.table(rows)


def test_nets_without_tables_are_frozen_too(tmp_path: Path) -> None:
    with torch.no_grad():
        coding.unfrozen(tmp_path, ["mbt2018-mean"])
    found = coding.freeze(tmp_path)
    assert list(found) == ["mbt2018-mean, its tables", "mbt2018-mean, no tables"]
    assert found == coding.freeze(tmp_path)


def test_digests_with_tables_are_the_same_elsewhere(tmp_path: Path) -> None:
    with torch.no_grad():
        coding.unfrozen(tmp_path, ["mbt2018"])
    (elsewhere,) = coding.lines(tables.child("SSE4.1", ["freeze", str(tmp_path)]))
    name = "mbt2018, its tables"
    assert elsewhere[name] == coding.freeze(tmp_path)[name]


def test_digest_table() -> None:
    row = {
        "machine": "m",
        "nets": 2,
        "its tables": 2,
        "no tables": 1,
        "other, its tables": [],
        "other, no tables": ["b"],
    }
    assert tables.digest_table([row]).splitlines()[-1] == "| m | 2 of 2 | 1 of 2 | b |"


def test_engines_where_there_is_a_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings.robuststream, "__file__", str(tmp_path / "__init__.py"))
    assert settings.engines() == {}
    (tmp_path / "engine.py").write_text("os.environ['ROBUSTSTREAM_EXACT']")
    assert settings.engines()["engine int8"] == ({"ROBUSTSTREAM_EXACT": "int8"}, [])


def test_the_tool_explains_itself() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "cross_machine.py"), "-h"], capture_output=True, text=True
    )
    assert "other machines" in done.stdout
