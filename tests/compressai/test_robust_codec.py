"""A frozen model in the shape of a CompressAI module: CompressAI's own evaluation runs on it, and damage is told."""

from __future__ import annotations

import copy
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import robuststream as rs
from robuststream.compressai import RobustCodec
from robuststream.container.packets import Kind, Packet
from robuststream.container.scanner import scan
from tests.small import WIDE, model, picture

#: One of each kind of prior.
MODELS = ["bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "cheng2020-anchor-checkerboard"]


@pytest.fixture(scope="module")
def evaluation() -> Any:
    """CompressAI's evaluation code, without the settings that importing it leaves to all other tests."""
    threads, deterministic = torch.get_num_threads(), torch.backends.cudnn.deterministic
    module = importlib.import_module("compressai.utils.eval_model.__main__")
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = deterministic
    return module


def batch(height: int, width: int, count: int = 1) -> torch.Tensor:
    pictures = np.stack([picture(height, width, seed) for seed in range(count)])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def codec(architecture: str = "mbt2018-mean", tile: int = 64, **options: bool) -> RobustCodec:
    return RobustCodec(model(architecture), tile, **options).eval()


def hurt(data: bytes, index: int) -> bytes:
    """The stream with one byte of a tile's y overwritten."""
    (tile,) = [e for e in scan(data) if isinstance(e, Packet) and (e.kind, e.number) == (Kind.TILE, index)]
    at = tile.offset + tile.size - 5
    return data[:at] + bytes((data[at] ^ 0x55,)) + data[at + 1 :]


# --- Round trips ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", MODELS)
def test_pictures_are_those_of_decode(architecture: str) -> None:
    tile = 128 if architecture in WIDE else 64
    x = batch(96, 160, 2)
    out = codec(architecture, tile).compress(x)
    assert out["shape"] == torch.Size([96, 160])
    assert out["strings"] == [[rs.encode(one, model(architecture), tile=tile) for one in x]]
    x_hat = codec(architecture).decompress(**out)["x_hat"]
    assert (x_hat.shape, x_hat.dtype) == (x.shape, torch.float32)
    assert 0 <= x_hat.min() < x_hat.max() <= 1
    assert torch.equal(x_hat, torch.stack([rs.decode(one, model(architecture)).tensor for one in out["strings"][0]]))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (63, 65), (130, 7)])
def test_any_size(height: int, width: int) -> None:
    out = codec().compress(batch(height, width))
    assert codec().decompress(out["strings"], out["shape"])["x_hat"].shape == (1, 3, height, width)
    assert codec().decompress(out["strings"], [height, width])["x_hat"].shape == (1, 3, height, width)


def test_values_between_eight_bits_are_not_rounded() -> None:
    x = batch(128, 128)
    between = (x + 0.49 / 255).clamp(0, 1)
    assert torch.equal((between * 255).round(), (x * 255).round())
    assert codec().compress(x)["strings"] != codec().compress(between)["strings"]


def test_mode_is_passed_on() -> None:
    out = RobustCodec(model(), 64, mode="native").compress(batch(64, 64))
    assert out["strings"] == [[rs.encode(batch(64, 64)[0], model(), tile=64, mode="native")]]


# --- In the place of a CompressAI module ---------------------------------------------------------------------------


def test_compressais_inference_measures_whole_streams(evaluation: Any) -> None:
    x = batch(180, 200)[0]
    found = evaluation.inference(codec(), x)
    padded = torch.nn.functional.pad(x, (28, 28, 6, 6))
    assert found["bpp"] == len(rs.encode(padded, model(), tile=64)) * 8 / (180 * 200)
    assert 5 < found["psnr-rgb"] < 60
    assert found["ms-ssim-rgb"] > 0


def test_compressais_eval_model(evaluation: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(picture(180, 200)).save(path)
    options = {"architecture": "mbt2018-mean", "half": False, "per_image": False}
    found = evaluation.eval_model(codec(), tmp_path, tmp_path, [path], **options)
    assert found["bpp"] == evaluation.inference(codec(), batch(180, 200)[0])["bpp"]
    # Half precision, as its --half asks for: the codec's transforms stay in float32, and bytes follow x alone.
    halved = evaluation.eval_model(codec(), tmp_path, tmp_path, [path], **options | {"half": True})
    assert halved["bpp"] == pytest.approx(found["bpp"], rel=0.05)


def test_no_estimates(evaluation: Any) -> None:
    with pytest.raises(NotImplementedError, match="measure the bytes of compress"):
        evaluation.inference_entropy_estimation(codec(), batch(64, 64)[0])


def test_what_is_done_with_modules() -> None:
    made = RobustCodec(model())
    assert not made.update()
    assert not made.update(force=True)
    assert not made.update(torch.ones(3), force=True, update_quantiles=True)
    assert made.eval() is made
    assert made.to("cpu") is made
    assert made.model is model()
    assert next(made.parameters()).device == torch.device("cpu")
    assert made.double().decompress(**made.compress(batch(64, 64)))["x_hat"].dtype == torch.float64
    assert copy.deepcopy(made).model.parameters_digest == model().parameters_digest


def test_to_moves_the_transforms_and_leaves_the_given_model() -> None:
    """With the one other device that every machine has."""
    moved = codec().to("meta")
    assert moved.model.device == next(moved.parameters()).device == torch.device("meta")
    assert moved.model.parameters_digest == model().parameters_digest
    assert model().device == torch.device("cpu")


def test_named_lazily() -> None:
    code = (
        "import sys, robuststream as rs; assert 'torch' not in sys.modules; rs.compressai.RobustCodec;"
        "sys.exit('compressai' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- What is refused, and damage -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (batch(64, 64)[0], r"\(3, 64, 64\), float32: float \(B, 3, H, W\)"),
        (batch(64, 64)[:, :1], r"\(1, 1, 64, 64\)"),
        (batch(64, 64)[:0], r"\(0, 3, 64, 64\)"),
        ((batch(64, 64) * 255).byte(), "uint8: float"),
        (
            batch(64, 64, 2) * torch.tensor([1.0, 3.0])[:, None, None, None],
            r"picture 1: .* values in \[0, 1\] are needed",
        ),
        (torch.full((1, 3, 64, 64), torch.nan), "nan"),
    ],
)
def test_tensors_that_are_no_batch_of_pictures(x: torch.Tensor, message: str) -> None:
    with pytest.raises(rs.ImageError, match=message):
        codec().compress(x)


def test_impossible_tile() -> None:
    with pytest.raises(ValueError, match="tile 100"):
        codec(tile=100).compress(batch(64, 64))


def test_strings_of_another_form() -> None:
    with pytest.raises(ValueError, match="2 lists of strings: one is needed"):
        codec().decompress([[b"y"], [b"z"]], (1, 1))
    with pytest.raises(ValueError, match="one is needed"):
        codec().decompress([[]], (1, 1))


def test_shape_of_another_picture() -> None:
    out = codec().compress(batch(64, 64))
    with pytest.raises(rs.DamagedStream, match=r"picture 0: .*\(64, 64\), and \(64, 128\) was asked for"):
        codec().decompress(out["strings"], (64, 128))


def test_damage_is_an_error() -> None:
    out = codec().compress(batch(128, 128, 2))
    first, second = out["strings"][0]
    with pytest.raises(rs.DamagedStream, match=r"picture 1: ROBS-TILE-CRC.*tile 2"):
        codec().decompress([[first, hurt(second, 2)]], out["shape"])
    with pytest.raises(rs.NotARobustStream, match="picture 0: "):
        codec().decompress([[b"", second]], out["shape"])


def test_damage_is_concealed_when_asked_for() -> None:
    lenient = codec(strict=False)
    out = lenient.compress(batch(128, 128, 2))
    whole = lenient.decompress(**out)["x_hat"]
    first, second = out["strings"][0]
    with pytest.warns(rs.DamageWarning, match="1 of 4 tiles are not exact"):
        x_hat = lenient.decompress([[first, hurt(second, 0)]], out["shape"])["x_hat"]
    assert torch.equal(x_hat[0], whole[0])
    assert not torch.equal(x_hat[1], whole[1])


def test_another_model() -> None:
    out = codec("bmshj2018-hyperprior").compress(batch(64, 64))
    with pytest.raises(rs.ModelMismatch, match="was encoded with model"):
        codec().decompress(**out)
