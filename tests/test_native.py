"""Native mode: float parameters, checked group by group; drift is repaired where it can be, and never silent."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from compressai.latent_codecs import GaussianConditionalLatentCodec
from torch import nn

import robuststream as rs
from robuststream.container.packets import Mode
from robuststream.container.report import Outcome, Rule
from robuststream.container.writer import write_stream
from robuststream.faults import drifted
from robuststream.model.anatomy import ARCHITECTURES
from robuststream.picture.concealment import Mask
from robuststream.priors.gaussian import Gaussian
from robuststream.transfers.reading import read_stream
from tests.priors.test_context import Own
from tests.small import model, picture

CODED = [name for name in ARCHITECTURES if "factorized" not in name]


def quiet(data: bytes, small: rs.Model) -> rs.Decoded:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.DamageWarning)
        return rs.decode(data, small)


def outcomes(out: rs.Decoded) -> list[Outcome | None]:
    return [tile.outcome for tile in out.report.tiles]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_round_trip_is_verified_and_never_called_exact(architecture: str) -> None:
    small = model(architecture)
    image = picture(130, 150)
    data = rs.encode(image, small, tile=64, mode="native")
    assert read_stream(data).header.mode == Mode.NATIVE
    out = rs.decode(data, small, strict=True)
    assert out.report.verified is True
    assert out.report.exact is False
    assert out.report.intact
    assert not out.mask.any()
    assert set(outcomes(out)) == {Outcome.VERIFIED}
    exact = rs.decode(rs.encode(image, small, tile=64), small).latents
    # The same symbols but for a few that round the other way, and with context what follows those.
    assert ((out.latents - exact).abs() < 64).float().mean() > 0.5


@pytest.mark.parametrize(
    ("architecture", "digests"),
    [("mbt2018-mean", 1), ("cheng2020-anchor-checkerboard", 2), ("elic2022-official", 8), ("mbt2018", 11)],
)
def test_a_digest_for_each_group_of_steps(architecture: str, digests: int) -> None:
    stream = read_stream(rs.encode(picture(256, 256), model(architecture), mode="native"))
    assert len(stream.tiles[0].earlier) + 1 == digests


@pytest.mark.parametrize("architecture", ["bmshj2018-hyperprior", "mbt2018-mean", "elic2022-official"])
@pytest.mark.parametrize("relative", [1e-6, 1e-5, 3e-5])
def test_small_drift_is_repaired(architecture: str, relative: float) -> None:
    small = model(architecture, 8, 24)
    data = rs.encode(picture(512, 512), small, mode="native")
    whole = rs.decode(data, small)
    repaired = 0
    for seed in range(12):
        out = rs.decode(data, drifted(small, relative=relative, seed=seed))
        assert set(outcomes(out)) <= {Outcome.VERIFIED, Outcome.REPAIRED}
        assert out.report.verified
        assert (out.latents - whole.latents).abs().max() <= 2
        repaired += outcomes(out).count(Outcome.REPAIRED)
        for tile in out.report.tiles:
            box = out.mask[tile.index // 2 * 256 :, tile.index % 2 * 256 :][:256, :256]
            assert (box == (Mask.REPAIRED if tile.outcome == Outcome.REPAIRED else Mask.EXACT)).all()
    assert repaired or relative < 3e-5, "no drift met a threshold: the test proves nothing"


def test_repaired_rows_whose_string_does_not_end_are_no_repaired_tile() -> None:
    """The rows are the encoder's; only the end state says whether the symbols are."""
    small = model("mbt2018-mean", 8, 24)
    stream = read_stream(rs.encode(picture(256, 256), small, mode="native"))
    whole = write_stream(stream.header, [stream.tiles[0]])
    seed = next(seed for seed in range(40) if repaired_with(whole, small, seed))
    tile = replace(stream.tiles[0], words=bytes(stream.tiles[0].words) + bytes(4))
    out = quiet(write_stream(stream.header, [tile]), drifted(small, relative=3e-5, seed=seed))
    assert outcomes(out) == [Outcome.CONCEALED]
    assert {finding.rule for finding in out.report.findings} == {Rule.ENTROPY}


def repaired_with(data: bytes, small: rs.Model, seed: int) -> bool:
    return outcomes(quiet(data, drifted(small, relative=3e-5, seed=seed))) == [Outcome.REPAIRED]


@pytest.mark.parametrize("architecture", ["mbt2018-mean", "mbt2018", "elic2022-chandelier"])
def test_large_drift_is_contained_and_told(architecture: str) -> None:
    small = model(architecture)
    data = rs.encode(picture(128, 128), small, tile=64, mode="native")
    whole = rs.decode(data, small)
    other = drifted(small, relative=0.05, seed=0)
    out = quiet(data, other)
    assert Outcome.CONCEALED in outcomes(out)
    assert {finding.rule for finding in out.report.findings} == {Rule.DESYNC}
    assert out.report.intact
    assert not out.report.verified
    for tile in out.report.tiles:
        if tile.outcome in (Outcome.VERIFIED, Outcome.REPAIRED):
            row, column = divmod(tile.index, 2)
            place = (slice(None), slice(row * 4, row * 4 + 4), slice(column * 4, column * 4 + 4))
            assert (out.latents[place] - whole.latents[place]).abs().max() < 2000
    with pytest.raises(rs.ContextDesync, match="entropy parameters differ"):
        rs.decode(data, other, strict=True)


def test_doubts_are_elements_near_thresholds() -> None:
    gaussian = Gaussian(torch.tensor([1000, 2000, 50000]), ("scales",))
    scales = torch.tensor([[1000.0, 1000.0001, 1500, 49999.99, 50000.01, -3000, 1999.9999]], dtype=torch.float64)
    parameters = gaussian(scales)
    rows = parameters.rows

    def doubts(tolerance: float) -> torch.Tensor:
        return gaussian.doubtful(parameters.scales, rows, tolerance)

    assert rows.tolist() == [[0, 1, 1, 2, 3, 0, 1]]
    assert doubts(1e-6).tolist() == [[1, 0, 1, 3, 2, 0, 2]]
    assert doubts(1e-12).tolist() == rows.tolist() or doubts(1e-12).tolist() == [[1, 1, 1, 2, 3, 0, 1]]


# --- Modules without an exact form ----------------------------------------------------------------------------------


def with_softplus() -> nn.Module:
    torch.manual_seed(2)
    parameters = nn.Sequential(nn.Conv2d(7, 12, 1), nn.Softplus())
    own = Own(GaussianConditionalLatentCodec(quantizer="ste", entropy_parameters=parameters), 7).eval()
    with torch.no_grad():
        own.g_a[-1].weight *= 30
        own.latent_codec.hyper.h_s[-1].weight *= 10
    own.update()
    return own


def test_modules_without_an_exact_form_code_in_native_mode() -> None:
    own = with_softplus()
    with pytest.raises(rs.UnsupportedModel, match=r"Softplus is not known: freeze.*native=True.*mode='native'"):
        rs.freeze(own)
    alive = rs.freeze(own, native=True)
    data = rs.encode(picture(64, 64), alive, mode="native")
    out = rs.decode(data, alive, strict=True)
    assert out.report.verified
    again = rs.freeze(with_softplus(), native=True)
    assert again.parameters_digest == alive.parameters_digest
    assert torch.equal(rs.decode(data, again).latents, out.latents)


@pytest.mark.parametrize(
    "action", [lambda m: rs.encode(picture(64, 64), m), lambda m: m.to_bytes()], ids=["exact", "save"]
)
def test_what_a_live_model_cannot_do_is_said(action: Callable[[rs.Model], object]) -> None:
    with pytest.raises(rs.UnsupportedModel, match=r"Own-4-6: y0.entropy_parameters (have no exact form|are code)"):
        action(rs.freeze(with_softplus(), native=True))


def test_another_live_module_is_another_model() -> None:
    own = with_softplus()
    data = rs.encode(picture(64, 64), rs.freeze(own, native=True), mode="native")
    with torch.no_grad():
        own.latent_codec.y.entropy_parameters[0].bias += 0.01
    with pytest.raises(rs.ModelMismatch):
        rs.decode(data, rs.freeze(own, native=True))
