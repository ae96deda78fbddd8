"""On a GPU: what the CPU encoded is decoded to the same latents there, and the other way round, by any settings.

ROBUSTSTREAM_TEST_DEVICE=cpu runs the same tests without one, to see that they would run (tools/gpu_check.sh, DRY=1).
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import pytest
import torch

import robuststream as rs
from robuststream.faults import flip_bits
from tests import small

DEVICE = os.environ.get("ROBUSTSTREAM_TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="there is no CUDA device"),
]
NAMES = (
    "bmshj2018-factorized",
    "bmshj2018-hyperprior",
    "mbt2018-mean",
    "mbt2018-mean-vbr",
    "mbt2018",
    "cheng2020-attn",
    "cheng2020-anchor-checkerboard",
    "elic2022-official",
)
PICTURE = small.picture(150, 200)


@lru_cache
def there(name: str) -> rs.Model:
    """The model on the device: the same, not one frozen anew."""
    return rs.Model.from_bytes(small.model(name).to_bytes(), DEVICE)


@contextmanager
def careless() -> Iterator[None]:
    """Settings that programs around may have: they are not to count."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
        torch.backends.cudnn.benchmark = benchmark


def same(one: rs.Decoded, other: rs.Decoded) -> None:
    assert torch.equal(one.latents.cpu(), other.latents.cpu())
    np.testing.assert_array_equal(one.mask, other.mask)
    assert one.report.exact == other.report.exact
    difference = np.asarray(one.image).astype(int) - np.asarray(other.image)
    # Pixels are float32's: random weights, as here, make large ones of small differences.
    assert np.abs(difference).mean() < 1


@pytest.mark.parametrize("name", NAMES)
def test_encoded_here_decoded_there(name: str) -> None:
    data = rs.encode(PICTURE, small.model(name), tile=128)
    decoded = rs.decode(data, there(name), strict=True)
    assert decoded.report.exact
    same(decoded, rs.decode(data, small.model(name)))


@pytest.mark.parametrize("name", NAMES)
def test_encoded_there_decoded_here(name: str) -> None:
    data = rs.encode(PICTURE, there(name), tile=128)
    decoded = rs.decode(data, small.model(name), strict=True)
    assert decoded.report.exact
    same(decoded, rs.decode(data, there(name)))


@pytest.mark.parametrize("name", ["mbt2018-mean", "mbt2018", "elic2022-official"])
def test_settings_do_not_count(name: str) -> None:
    data = rs.encode(PICTURE, small.model(name), tile=128)
    with careless():
        decoded = rs.decode(data, there(name), strict=True)
        again = rs.encode(PICTURE, there(name), tile=128)
    assert torch.equal(decoded.latents.cpu(), rs.decode(data, small.model(name)).latents)
    assert rs.decode(again, small.model(name), strict=True).report.exact


def test_batches() -> None:
    name = "mbt2018-mean"
    pictures = [small.picture(130, 180, seed) for seed in range(4)]
    streams = rs.encode_batch(pictures, there(name), tile=64)
    for data, decoded in zip(streams, rs.decode_batch(streams, there(name)), strict=True):
        assert decoded.report.exact
        same(decoded, rs.decode(data, small.model(name)))


def test_threads() -> None:
    data = [rs.encode(small.picture(130, 180, seed), small.model("mbt2018-mean"), tile=64) for seed in range(8)]
    wanted = [rs.decode(stream, small.model("mbt2018-mean")).latents for stream in data]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda stream: rs.decode(stream, there("mbt2018-mean")), data))
    assert all(torch.equal(one.latents.cpu(), other) for one, other in zip(found, wanted, strict=True))


def test_a_damaged_stream() -> None:
    data = rs.encode(PICTURE, small.model("mbt2018-mean"), tile=64)
    damaged = flip_bits(data, count=40, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.DamageWarning)
        decoded, other = (rs.decode(damaged, model) for model in (there("mbt2018-mean"), small.model("mbt2018-mean")))
    assert not decoded.report.intact
    same(decoded, other)


def test_native_mode_is_never_silent() -> None:
    data = rs.encode(PICTURE, small.model("mbt2018-mean"), mode="native", tile=64)
    wanted = rs.decode(data, small.model("mbt2018-mean")).latents
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.DamageWarning)
        decoded = rs.decode(data, there("mbt2018-mean"))
    assert not decoded.report.verified or (decoded.latents.cpu() - wanted).abs().max() <= 8


def test_the_model_travels() -> None:
    model = pickle.loads(pickle.dumps(there("mbt2018-mean")))
    data = rs.encode(PICTURE, model)
    assert torch.equal(rs.decode(data, model).latents.cpu(), rs.decode(data, small.model("mbt2018-mean")).latents)
    assert model.parameters_digest == small.model("mbt2018-mean").parameters_digest
