"""The tool that measures what damage does: its parts against oracles, and one small run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.small import SAMPLE

TOOL = Path(__file__).parent.parent / "tools" / "resilience.py"
sys.path.insert(0, str(TOOL.parent))

pytest.importorskip("cv2")
ssim = pytest.importorskip("pytorch_msssim")
pytest.importorskip("matplotlib")

import resilience  # noqa: E402
from curves import channels, child, codecs, measure, similarity, summary  # noqa: E402

Pixels = np.ndarray


def noise(seed: int, height: int = 180, width: int = 192) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# --- MS-SSIM --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [0, 5, 60])
def test_ms_ssim_is_that_of_pytorch_msssim(spread: float) -> None:
    picture = np.asarray(Image.open(SAMPLE).convert("RGB").resize((256, 192)))
    other = (picture + np.random.default_rng(1).normal(0, spread, picture.shape)).clip(0, 255).astype(np.uint8)
    a, b = (torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() for array in (picture, other))
    expected = float(ssim.ms_ssim(a, b, data_range=255))
    assert similarity.ms_ssim(similarity.scales(picture), similarity.scales(other)) == pytest.approx(expected, abs=1e-5)


# --- Channels -------------------------------------------------------------------------------------------------------


def test_the_rates_of_the_channels() -> None:
    """Over a long stream, a channel does what its level says; the lowest would want a longer one."""
    data = bytes([255]) * (channels.MTU * 4000)
    ones = np.frombuffer(data, np.uint8)
    for cell in (cell for cell in channels.cells() if cell.level > 1e-6):
        damaged = cell.damage(data, seed=3)
        if cell.channel == channels.REMOVED:
            share = 1 - len(damaged) / len(data)
        else:
            changed = ones ^ np.frombuffer(damaged, np.uint8)
            share = np.unpackbits(changed).mean() if cell.channel == channels.BIT_ERRORS else (changed > 0).mean()
        assert share == pytest.approx(cell.level, rel=0.4), cell


def test_datagrams_are_lost_in_bursts_of_three() -> None:
    data = bytes([1]) * (channels.MTU * 8000)
    left = np.frombuffer(channels.Cell(channels.BURSTS, 0.05).damage(data, seed=1), np.uint8)
    lost = left[:: channels.MTU] == 0
    starts = np.count_nonzero(lost & ~np.roll(lost, 1))
    assert lost.sum() / starts == pytest.approx(channels.MEAN_BURST, rel=0.2)


def test_the_bars_are_among_the_cells() -> None:
    assert {cell.channel: cell.level for cell in channels.cells() if cell.bar} == channels.BARS


# --- Children -------------------------------------------------------------------------------------------------------


def decoder(data: bytes) -> tuple[Pixels, bool]:
    """What a decoder can do to its process."""
    match data:
        case b"crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case b"hang":
            while True:
                pass
        case b"sleep":
            time.sleep(60)
        case b"memory":
            np.zeros(child.MEMORY + (1 << 30), np.uint8)
        case b"warning":
            warnings.warn("damaged", UserWarning, stacklevel=1)
    return noise(1), data == b"complaint"


def test_a_child_says_how_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    called = child.Child(decoder)
    seen = {data: called(data) for data in (b"good", b"crash", b"complaint", b"memory", b"warning")}
    monkeypatch.setattr(child, "SECONDS", 0.2)
    seen[b"hang"] = called(b"hang")
    monkeypatch.setattr(child, "WAIT", 0.2)
    seen[b"sleep"] = called(b"sleep")
    monkeypatch.undo()
    seen[b"again"] = called(b"again")
    called.close()
    assert {data: (shown.end, shown.told) for data, shown in seen.items()} == {
        b"good": ("picture", False),
        b"crash": ("crash", True),
        b"complaint": ("picture", True),
        b"memory": ("error", True),
        b"warning": ("picture", True),
        b"hang": ("hang", True),
        b"sleep": ("hang", True),
        b"again": ("picture", False),
    }
    assert np.array_equal(seen[b"again"].pixels, noise(1))
    assert seen[b"crash"].pixels is None


# --- What is kept of a draw -----------------------------------------------------------------------------------------


class Lookup:
    """A child that shows what it is told to."""

    def __init__(self, hurt: child.Shown) -> None:
        self.hurt = hurt
        self.calls = 0

    def __call__(self, data: bytes) -> child.Shown:
        self.calls += 1
        return child.Shown(noise(1), False, "picture") if data == DATA else self.hurt


DATA = bytes(5 * channels.MTU)
CELL = channels.Cell(channels.BIT_ERRORS, 1e-3)
CODEC = codecs.Codec(lambda photo, size: DATA, decoder)


def subject(tmp_path: Path, hurt: child.Shown) -> measure.Subject:
    Image.fromarray(noise(2)).save(tmp_path / "photo.png")
    return measure.Subject(CODEC, measure.Photo(tmp_path / "photo.png"), DATA, Lookup(hurt))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pixels", "told", "lost", "silent", "failed"),
    [
        (noise(1), False, 0, False, False),  # the damage does not show
        (np.where(np.arange(192)[:, None] < 48, noise(1) // 2 + 99, noise(1)), False, 0.25, True, False),
        (np.where(np.arange(192)[:, None] < 48, noise(1) // 2 + 99, noise(1)), True, 0.25, False, False),
        (noise(1)[:90], False, 1, True, True),  # another size
        (None, True, 1, False, True),
    ],
)
def test_a_draw(tmp_path: Path, pixels: Pixels | None, told: bool, lost: float, silent: bool, failed: bool) -> None:
    if pixels is not None:
        pixels = pixels.astype(np.uint8)
    whole = subject(tmp_path, child.Shown(pixels, told, "picture" if pixels is not None else "error"))
    draw = whole.draw(CELL, 1)
    assert draw.lost == pytest.approx(lost, abs=0.02)
    assert (draw.silent, draw.failed) == (silent, failed)
    grey = whole.photo.quality(np.full_like(noise(2), 128))
    assert ((draw.psnr, draw.ms_ssim) == grey) == failed


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    store = measure.Store(tmp_path / "cache")
    Image.fromarray(noise(2)).save(tmp_path / "photo.png")
    arguments = ({tmp_path / "photo.png": None}, {CELL: 2})
    first = measure.measure(store, "codec", CODEC, *arguments)
    with (tmp_path / "cache" / "codec.jsonl").open("a") as file:
        file.write('{"picture": "pho')  # killed while it wrote

    def fails(data: bytes) -> tuple[Pixels, bool]:
        raise AssertionError

    assert measure.measure(store, "codec", replace(CODEC, decode=fails), *arguments) == first
    other = replace(CODEC, encode=lambda photo, size: DATA + b"longer")
    store.forget("codec")
    assert measure.measure(store, "codec", other, *arguments) != first


def test_standard_error_is_over_draws_within_pictures() -> None:
    """Pictures that differ add nothing; draws do: for n draws of variance v in each of P pictures, sqrt(v / (n P))."""
    groups = [[30.0 * picture + value for value in (1.0, 3.0, 5.0)] for picture in range(4)]
    mean, error = summary._mean(groups)
    assert mean == pytest.approx(48.0)
    assert error == pytest.approx((4 / (3 * 4)) ** 0.5)


# --- The whole ------------------------------------------------------------------------------------------------------


def test_a_small_run(tmp_path: Path) -> None:
    Image.open(SAMPLE).convert("RGB").resize((192, 176)).save(tmp_path / "photo.png")
    names = ["robuststream, parity 20 %", "CompressAI", "JPEG, restart markers"]
    command = ["--photos", str(tmp_path), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    command += ["--codec", *names, "--draws", "1", "--other-draws", "1"]
    # A process of its own: its children are forks, which do not go with the threads that other tests have started.
    done = subprocess.run([sys.executable, "-W", "ignore", str(TOOL), *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = summary.read_summary(tmp_path / "out" / "resilience.csv")
    assert [*rows] == names
    assert {len(group) for group in rows.values()} == {1 + len(list(channels.cells()))}
    ours, theirs, jpeg = rows.values()
    assert ours[0].psnr == pytest.approx(theirs[0].psnr, abs=0.1)
    assert all(row.silent == 0 for row in ours)
    assert any(row.silent for row in theirs)
    plain = (tmp_path / "cache" / "robuststream" / "photo.bin").stat().st_size
    assert jpeg[0].bpp * 192 * 176 / 8 >= (1 - codecs.SMALLER) * plain
    assert Image.open(tmp_path / "out" / "resilience.png").width > 1000


def test_a_codec_that_is_not_there() -> None:
    with pytest.raises(SystemExit, match="no codec is called 'GIF'"):
        resilience.choose(codecs.codecs(), ["GIF"])
