"""Drifted models: as far off as they were asked to be, always in the same way, and in native mode only."""

from __future__ import annotations

import pickle
import warnings

import pytest
import torch

import robuststream as rs
from robuststream.faults import drifted
from robuststream.faults.drift import Drift
from tests.small import model, picture

IMAGE = picture(128, 128)
#: With means, so that the least drift shows in latents.
CASES = ["mbt2018-mean", "mbt2018", "elic2022-official", "mbt2018-mean-vbr"]


def latents(data: bytes, small: rs.Model) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.DamageWarning)
        return rs.decode(data, small).latents


@pytest.mark.parametrize("architecture", CASES)
def test_the_seed_decides(architecture: str) -> None:
    small = model(architecture)
    data = rs.encode(IMAGE, small, tile=64, mode="native")
    whole = latents(data, small)
    others = [drifted(small, relative=1e-3, seed=seed) for seed in range(3)]
    results = [latents(data, other) for other in others]
    assert not any(torch.equal(result, whole) for result in results)
    assert not torch.equal(results[0], results[1])
    # Whatever was decoded before, and in which order.
    assert all(torch.equal(latents(data, others[n]), results[n]) for n in (2, 0, 1))
    assert torch.equal(latents(data, drifted(small, relative=1e-3, seed=1)), results[1])
    assert torch.equal(latents(data, small), whole)


def test_encoder_and_decoder_of_one_machine_agree() -> None:
    other = drifted(model(), relative=0.01, seed=1)
    out = rs.decode(rs.encode(IMAGE, other, mode="native"), other, strict=True)
    assert out.report.verified


def test_exact_mode_does_not_drift() -> None:
    small = model()
    other = drifted(small, relative=0.5, seed=1)
    assert (other.parameters_digest, other.synthesis_digest) == (small.parameters_digest, small.synthesis_digest)
    data = rs.encode(IMAGE, other)
    assert data == rs.encode(IMAGE, small)
    assert rs.decode(data, other, strict=True).report.exact


def test_without_networks_nothing_drifts() -> None:
    small = model("bmshj2018-factorized")
    data = rs.encode(IMAGE, small, mode="native")
    assert torch.equal(latents(data, drifted(small, relative=0.5, seed=1)), latents(data, small))


def test_no_drift() -> None:
    data = rs.encode(IMAGE, model(), mode="native")
    assert torch.equal(latents(data, drifted(model(), relative=0, seed=1)), latents(data, model()))


def test_pickled() -> None:
    other = drifted(model(), relative=1e-3, seed=1)
    data = rs.encode(IMAGE, model(), mode="native")
    assert torch.equal(latents(data, pickle.loads(pickle.dumps(other))), latents(data, other))


def test_drift_is_uniform_and_relative() -> None:
    x = torch.linspace(-1000, 3000, 40_000, dtype=torch.float64).reshape(1, 4, 100, 100)
    run = Drift(0.25, 3)("h_s", lambda x: 2 * x)
    off = (run(x) / (2 * x) - 1).flatten()
    assert -0.25 <= off.min() < -0.2499
    assert 0.2499 < off.max() <= 0.25
    # A uniform distribution's mean, and its standard deviation.
    assert abs(off.mean()) < 4 * 0.25 / 3**0.5 / 200
    assert off.std() == pytest.approx(0.25 / 3**0.5, rel=0.02)


def test_drift_hangs_on_network_and_input() -> None:
    x = torch.ones((1, 2, 8, 8), dtype=torch.float64)

    def values(seed: int, name: str, x: torch.Tensor) -> torch.Tensor:
        return Drift(0.1, seed)(name, torch.ones_like)(x)

    first = values(1, "h_s", x)
    assert torch.equal(values(1, "h_s", x.clone()), first)
    for other in (values(2, "h_s", x), values(1, "h_a", x), values(1, "h_s", x + 1e-9)):
        assert not torch.equal(other, first)


@pytest.mark.parametrize(
    ("relative", "seed", "message"),
    [(-1e-6, 1, "drift of -1e-06"), (float("nan"), 1, "drift of nan"), (float("inf"), 1, "of inf"), (0.1, -1, "seed")],
)
def test_refused(relative: float, seed: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drifted(model(), relative=relative, seed=seed)
