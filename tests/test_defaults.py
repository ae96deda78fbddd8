"""A caller's default device and dtype, autocast and gradients are not ours: every result is the same under them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robuststream as rs
from robuststream import faults
from robuststream.compressai import RobustCodec, thaw
from robuststream.model.anatomy import ARCHITECTURES
from robuststream.model.freeze import freeze_checkpoint
from robuststream.model.frozen import Model
from tests.small import model, net, picture

Setting = Callable[[], AbstractContextManager[Any]]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


#: On the device `meta` nothing can be read back: what a default puts there is found out.
SETTINGS: dict[str, Setting] = {
    "with the device": lambda: torch.device("meta"),
    "set the device": lambda: default_device("meta"),
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


def as_bytes(value: Any) -> Any:
    """What can be compared bit by bit."""
    if isinstance(value, (Tensor, np.ndarray)):
        array = value.detach().numpy() if isinstance(value, Tensor) else value
        return str(array.dtype), array.shape, array.tobytes()
    return value


def under_all(work: Callable[[], dict[str, Any]], settings: dict[str, Setting] = SETTINGS) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = {name: as_bytes(value) for name, value in work().items()}
        for setting, context in settings.items():
            with context():
                given = work()
            for name, value in given.items():
                assert as_bytes(value) == wanted[name], f"{name} under {setting}"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_freezing_and_coding(architecture: str) -> None:
    pixels = picture(70, 90)

    def work() -> dict[str, Any]:
        data = rs.freeze(net(architecture)).to_bytes()
        small = Model.from_bytes(data)
        results: dict[str, Any] = {"model": data}
        for mode in ("exact", "native"):
            stream = rs.encode(pixels, small, tile=64, mode=mode)
            out, hurt = rs.decode(stream, small), rs.decode(faults.drop_tiles(stream, tiles=[1]), small)
            results |= {f"{mode} stream": stream, f"{mode} pixels": out.tensor, f"{mode} latents": out.latents}
            results |= {f"{mode} concealed": hurt.tensor, f"{mode} mask": hurt.mask}
        with rs.open(io.BytesIO(results["exact stream"]), small) as file:
            results["region"] = file.decode((10, 10, 40, 60)).tensor
        return results

    under_all(work)


def test_the_bundled_model(tmp_path: Path) -> None:
    copy = tmp_path / "m.safetensors"
    rs.load_model().save(copy)

    def work() -> dict[str, Any]:
        # Read anew: those that are kept were made under another setting.
        bundled = Model.load(copy)
        stream = rs.encode(picture(40, 40), bundled)
        return {"model": bundled.to_bytes(), "stream": stream, "pixels": rs.decode(stream, bundled).tensor}

    under_all(work)


@pytest.mark.parametrize("architecture", ["bmshj2018-factorized", "mbt2018-mean", "mbt2018-mean-vbr", "mbt2018"])
def test_checkpoints_without_tables(architecture: str, tmp_path: Path) -> None:
    """CompressAI's own code makes modules and tables in the default type."""
    state = dict(net(architecture).state_dict())
    for key in state:
        if key.endswith(("_quantized_cdf", "_cdf_length", "_offset")):
            state[key] = torch.zeros(0, dtype=torch.int32)
    torch.save(state, tmp_path / "c.pth")

    def work() -> dict[str, Any]:
        return {"model": freeze_checkpoint(architecture, tmp_path / "c.pth").to_bytes()}

    under_all(work)


@pytest.mark.parametrize("architecture", ["bmshj2018-factorized", "bmshj2018-factorized-relu", "mbt2018-mean"])
def test_thawing(architecture: str) -> None:
    def work() -> dict[str, Any]:
        # Estimating rates, a thawed module has nothing to do it with.
        state = thaw(model(architecture)).state_dict().items()
        return {key: value for key, value in state if not key.endswith(("target", "likelihood_lower_bound.bound"))}

    under_all(work, {name: setting for name, setting in SETTINGS.items() if name != "autocast"})


def test_the_codec_for_compressai() -> None:
    x = torch.from_numpy(picture(40, 40)).permute(2, 0, 1)[None].float() / 255

    def work() -> dict[str, Any]:
        codec = RobustCodec(model(), tile=64).eval()
        out = codec.compress(x)
        return {"string": out["strings"][0][0], "pixels": codec.decompress(out["strings"], out["shape"])["x_hat"]}

    under_all(work)


class Making(nn.Module):
    """Makes a tensor of its own, as users' modules do; it has no exact form."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(24, 24, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x + torch.sin(torch.arange(x.shape[1], dtype=x.dtype))[None, :, None, None]


def test_users_own_modules_in_native_mode() -> None:
    torch.manual_seed(1)
    original = net("mbt2018-mean")
    changed = type(original).from_state_dict(dict(original.state_dict())).eval()
    changed.h_s.add_module("more", Making())

    def work() -> dict[str, Any]:
        small = rs.freeze(changed, native=True)
        stream = rs.encode(picture(40, 40), small, tile=64, mode="native")
        return {"stream": stream, "pixels": rs.decode(stream, small).tensor}

    under_all(work)


def test_freezing_leaves_the_random_state_alone() -> None:
    original = net("mbt2018-vbr")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    rs.freeze(original)
    assert torch.equal(torch.get_rng_state(), before)


def test_gradients_are_not_asked_for() -> None:
    assert not any(
        value.requires_grad for value in rs.freeze(net("mbt2018-mean")).parts.network("g_s").named_tensors().values()
    )
