"""Numbers that cannot be are refused by their tensor's name; wrappers do not matter; stale tables are found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from compressai.entropy_models import EntropyBottleneck
from compressai.models import MeanScaleHyperprior, SimpleVAECompressionModel
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import robuststream as rs
from robuststream.compressai import thaw
from robuststream.entropy.tables import CdfTables
from robuststream.model.frozen import Model
from robuststream.model.tables import differing_rows
from tests.helpers import random_tables
from tests.small import model, net, picture

NAN, INF = float("nan"), float("inf")


def copied(architecture: str = "mbt2018-mean") -> Any:
    """A net to change."""
    return copy.deepcopy(net(architecture))


def without_tables(changed: Any) -> Any:
    for module in changed.modules():
        if hasattr(module, "_quantized_cdf"):
            for key in ("_quantized_cdf", "_cdf_length", "_offset"):
                setattr(module, key, torch.zeros(0, dtype=torch.int32))
    return changed


def put(tensor: Tensor, value: float) -> None:
    """Into its last place."""
    with torch.no_grad():
        tensor.view(-1)[-1] = value


class TestNumbers:
    @pytest.mark.parametrize("value", [NAN, INF, -INF, 1e30, -1e30, 2.0**20 + 7, 4097.0, -5000.0])
    def test_medians(self, value: float) -> None:
        """2^20 + 7 is 2^32 and a little at 2^-12: as int32 it would be a median like any other."""
        for architecture in ("mbt2018-mean", "bmshj2018-factorized", "mbt2018-mean-vbr", "elic2022-official"):
            changed = copied(architecture)
            bottleneck = next(module for module in changed.modules() if hasattr(module, "quantiles"))
            with torch.no_grad():
                bottleneck.quantiles[1, 0, 1] = value
            with pytest.raises(rs.UnsupportedModel, match=r"entropy_bottleneck\.quantiles: ") as error:
                rs.freeze(changed)
            assert "\n" not in str(error.value)

    def test_medians_up_to_the_limit(self) -> None:
        changed = copied()
        with torch.no_grad():
            changed.entropy_bottleneck.quantiles[1, 0, 1] = -4096
        assert rs.freeze(changed).parts.medians[1] == -(2**24)

    @pytest.mark.parametrize(
        "key", ["g_a.0.weight", "g_a.1.beta", "g_s.1.gamma", "g_s.6.bias", "h_a.2.weight", "h_s.4.bias"]
    )
    @pytest.mark.parametrize("value", [NAN, INF])
    def test_weights(self, key: str, value: float) -> None:
        changed = copied()
        put(changed.state_dict()[key], value)
        with pytest.raises(rs.UnsupportedModel, match=rf"^{key}: 1 of \d+ values are not finite \({value}\)$"):
            rs.freeze(changed)

    @pytest.mark.parametrize(
        ("architecture", "key"),
        [
            ("mbt2018", "context_prediction.weight"),
            ("mbt2018", "entropy_parameters.2.bias"),
            ("mbt2018-mean-vbr", "Gain"),
            ("mbt2018-mean-vbr", "gayn2zqstep.0.weight"),
            ("mbt2018-vbr", "QuantABCD.0.weight"),
            ("mbt2018-vbr", "scale_to_context.bias"),
        ],
    )
    def test_weights_of_other_parts(self, architecture: str, key: str) -> None:
        changed = copied(architecture)
        put(changed.state_dict()[key], NAN)
        with pytest.raises(rs.UnsupportedModel, match=f"^{key}: 1 of "):
            rs.freeze(changed)

    def test_weights_too_large_for_float32(self) -> None:
        changed = copied().double()
        put(changed.g_a[0].weight, 1e300)
        with pytest.raises(rs.UnsupportedModel, match=r"^g_a.0.weight: 1 of 600 values are not finite \(inf\)"):
            rs.freeze(changed)

    def test_weights_that_give_no_numbers(self) -> None:
        changed = copied()
        with torch.no_grad():
            changed.g_a[0].weight.fill_(1e38)
        with pytest.raises(rs.UnsupportedModel, match="network g_a: gives values that are not finite"):
            rs.freeze(changed)

    def test_weights_of_other_kinds(self) -> None:
        changed = copied()
        changed.h_s[0].weight = nn.Parameter(changed.h_s[0].weight.to(torch.complex64))
        with pytest.raises(rs.UnsupportedModel, match=r"^h_s.0.weight is torch.complex64, where floating-point"):
            rs.freeze(changed)

    @pytest.mark.parametrize("key", ["matrices.0", "biases.4", "factors.3", "quantiles"])
    @pytest.mark.parametrize("value", [NAN, INF])
    def test_densities_that_tables_are_built_of(self, key: str, value: float) -> None:
        changed = without_tables(copied())
        put(changed.entropy_bottleneck.get_parameter(key), value)
        with pytest.raises(rs.UnsupportedModel, match=rf"^entropy_bottleneck.{key}: 1 of \d+ values are not finite"):
            rs.freeze(changed)

    def test_densities_that_no_table_can_be_built_of(self) -> None:
        changed = without_tables(copied())
        put(changed.entropy_bottleneck.quantiles, 1e9)
        with pytest.raises(rs.UnsupportedModel, match=r"quantiles: 1e\+09 steps from a median, more than 8192"):
            rs.freeze(changed)
        # All of a channel's probability at 5, between its only value and the end of the longest row.
        changed = without_tables(copied())
        with torch.no_grad():
            changed.entropy_bottleneck.quantiles[0] = 0
            for parameter in changed.entropy_bottleneck.matrices:
                parameter[0] = 10
            for number, parameter in enumerate(changed.entropy_bottleneck.biases):
                parameter[0] = 0 if number else -50
        no_tables = r"^entropy_bottleneck: no CDF tables can be built \(a row's values have no probability\)$"
        with pytest.raises(rs.UnsupportedModel, match=no_tables):
            rs.freeze(changed)

    def test_densities_of_any_size(self) -> None:
        """CompressAI's float32 overflows here, and it makes no tables."""
        changed = without_tables(copied())
        with torch.no_grad():
            for parameter in changed.entropy_bottleneck.matrices:
                parameter.fill_(3e38)
            for parameter in changed.entropy_bottleneck.biases:
                parameter[:, ::2] = 3e38
                parameter[:, 1::2] = -3e38
        frozen = rs.freeze(changed)
        image = picture(40, 40)
        assert rs.decode(rs.encode(image, frozen, tile=64), frozen).report.exact

    def test_densities_do_not_matter_where_tables_are(self) -> None:
        changed = copied()
        put(changed.entropy_bottleneck.matrices[0], NAN)
        assert rs.freeze(changed).parameters_digest == model().parameters_digest

    @pytest.mark.parametrize(
        ("where", "change", "message"),
        [
            ("gaussian_conditional.scale_table", lambda t: t.fill_(NAN), "scale_table: 64 of 64 values are not finite"),
            ("gaussian_conditional.scale_table", lambda t: t * 1e6, "scale_table: holds a value of size"),
            ("gaussian_conditional.scale_table", lambda t: t.flip(0), "scale_table does not rise"),
            (
                "gaussian_conditional.scale_table",
                lambda t: t[:-1],
                r"scale_table has the shape \(63,\), and there are 64",
            ),
            ("gaussian_conditional.scale_table", lambda t: t[None], "scale_table has the shape"),
            (
                "gaussian_conditional._cdf_length",
                lambda t: t * 1000,
                "_cdf_length holds lengths that are not from 3 to",
            ),
            ("gaussian_conditional._cdf_length", lambda t: -t, "_cdf_length holds lengths that are not from 3 to"),
            ("gaussian_conditional._cdf_length", lambda t: t[:-1], "its tables do not fit each other: _quantized_cdf"),
            ("gaussian_conditional._cdf_length", lambda t: t.float(), "_cdf_length is torch.float32, where whole"),
            (
                "gaussian_conditional._quantized_cdf",
                lambda t: t.long() + 2**32,
                "_quantized_cdf holds numbers beyond 32",
            ),
            ("gaussian_conditional._quantized_cdf", lambda t: t.float(), "_quantized_cdf is torch.float32"),
            ("gaussian_conditional._quantized_cdf", lambda t: t.flatten(), "its tables do not fit each other"),
            ("gaussian_conditional._quantized_cdf", lambda t: t // 2, "gaussian_conditional: .* does not go from 0"),
            ("entropy_bottleneck._quantized_cdf", lambda t: t[:3], "entropy_bottleneck: its tables do not fit"),
            (
                "entropy_bottleneck._offset",
                lambda t: t.long() * 2**30,
                "entropy_bottleneck._offset holds numbers beyond",
            ),
            ("entropy_bottleneck._offset", lambda t: t - 2**20, "entropy_bottleneck: .* an offset beyond 8192"),
            ("entropy_bottleneck._offset", lambda t: t.bool(), "entropy_bottleneck._offset is torch.bool"),
        ],
    )
    def test_tables(self, where: str, change: Callable[[Tensor], Tensor], message: str) -> None:
        changed = copied()
        module, key = where.split(".")
        owner = changed.get_submodule(module)
        setattr(owner, key, change(getattr(owner, key).clone()))
        with pytest.raises(rs.UnsupportedModel, match=message) as error:
            rs.freeze(changed)
        assert "\n" not in str(error.value)

    def test_bounds(self) -> None:
        changed = copied()
        changed.gaussian_conditional.lower_bound_scale.bound.fill_(NAN)
        with pytest.raises(rs.UnsupportedModel, match=r"gaussian_conditional.lower_bound_scale.bound: 1 of 1 values"):
            rs.freeze(changed)

    def test_quantiles_of_another_shape(self) -> None:
        changed = copied()
        changed.entropy_bottleneck.quantiles = nn.Parameter(torch.zeros(8, 3))
        with pytest.raises(rs.UnsupportedModel, match=r"quantiles has the shape \(8, 3\), not \(channels, 1, 3\)"):
            rs.freeze(changed)

    def test_groups_with_other_offsets(self) -> None:
        """Their tables are one in the model: all of each must be the same."""
        changed = copied("elic2022-official")
        conditionals = [module for module in changed.modules() if hasattr(module, "scale_table")]
        conditionals[1]._offset = conditionals[1]._offset - 1
        with pytest.raises(rs.UnsupportedModel, match="the groups of y have different Gaussian tables"):
            rs.freeze(changed)


class Wrapped(nn.DataParallel):
    """As CompressAI's examples have it."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)


class TestWrappers:
    @pytest.mark.parametrize(
        "wrap",
        [
            nn.DataParallel,
            Wrapped,
            AveragedModel,
            torch.compile,
            lambda net: torch.compile(nn.DataParallel(net)),
            lambda net: nn.DataParallel(torch.compile(net)),
        ],
    )
    def test_whole_nets(self, wrap: Callable[[Any], Any]) -> None:
        assert rs.freeze(wrap(copied())).to_bytes() == model().to_bytes()

    def test_parts(self) -> None:
        changed = copied("cheng2020-anchor-checkerboard")
        changed.g_a = torch.compile(changed.g_a)
        changed.g_s[0] = torch.compile(changed.g_s[0])
        changed.latent_codec.hyper.h_s = nn.DataParallel(changed.latent_codec.hyper.h_s)
        before = dict(changed.named_modules())
        assert rs.freeze(changed).to_bytes() == model("cheng2020-anchor-checkerboard").to_bytes()
        assert dict(changed.named_modules()) == before

    @pytest.mark.parametrize("given", ["a.pth", None, {}, b""])
    def test_what_is_no_module(self, given: Any) -> None:
        with pytest.raises(rs.UnsupportedModel, match=f"a {type(given).__name__} cannot be frozen: a module is needed"):
            rs.freeze(given)


class TestStaleTables:
    """Weights trained on after `update()`: CompressAI goes on with the tables of before, and says nothing."""

    def test_found_by_rebuilding_and_said(self, caplog: pytest.LogCaptureFixture) -> None:
        changed = copied()
        assert not caplog.text
        with torch.no_grad():
            for parameter in changed.entropy_bottleneck.matrices:
                parameter.add_(0.3)
        frozen = rs.freeze(changed)
        assert "entropy_bottleneck: 8 of 8 CDF tables are stale: its weights give others now" in caplog.text
        # Said, and left: the tables are the checkpoint's.
        assert frozen.parameters_digest == model().parameters_digest

    def test_built_anew_where_asked_for(self, caplog: pytest.LogCaptureFixture) -> None:
        changed = copied()
        with torch.no_grad():
            for parameter in changed.entropy_bottleneck.matrices:
                parameter.add_(0.3)
        frozen = rs.freeze(changed, update_tables=True)
        assert caplog.text.count("built anew") == 1
        assert frozen.to_bytes() == rs.freeze(without_tables(changed)).to_bytes()
        assert "stale" not in caplog.text

    def test_of_scales(self, caplog: pytest.LogCaptureFixture) -> None:
        changed = copied()
        changed.gaussian_conditional.scale_table = changed.gaussian_conditional.scale_table * 1.5
        rs.freeze(changed)
        assert "gaussian_conditional: 63 of 64 CDF tables are stale" in caplog.text

    @pytest.mark.parametrize(
        "architecture", ["bmshj2018-factorized", "mbt2018", "mbt2018-mean-vbr", "elic2022-official"]
    )
    def test_fresh_ones_are_not_accused(self, architecture: str, caplog: pytest.LogCaptureFixture) -> None:
        rs.freeze(net(architecture))
        assert "stale" not in caplog.text

    def test_those_of_another_machine_are_not_accused(self, caplog: pytest.LogCaptureFixture) -> None:
        """Built in float64, where another machine differs in its last bits."""
        torch.manual_seed(1)
        fresh = MeanScaleHyperprior(64, 96).eval()
        with torch.no_grad():
            for name, parameter in fresh.entropy_bottleneck.named_parameters():
                if name != "quantiles":
                    parameter.add_(0.3 * torch.randn(parameter.shape))
            fresh.update(update_quantiles=True)
        fresh.double().update(force=True)
        rs.freeze(fresh)
        assert not caplog.text

    def test_thawed_ones_have_none(self, caplog: pytest.LogCaptureFixture) -> None:
        """A frozen model holds no density; what is thawed must not be given tables of a random one."""
        thawed = thaw(model())
        assert rs.freeze(thawed).parameters_digest == model().parameters_digest
        assert not caplog.text
        with pytest.raises(rs.UnsupportedModel, match=r"entropy_bottleneck.* not finite"):
            rs.freeze(thawed, update_tables=True)

    def test_distance_of_rows(self) -> None:
        tables = random_tables(np.random.default_rng(1), 5)
        assert differing_rows(tables, tables) == 0
        moved = CdfTables(tables.cdf, tables.lengths, tables.offsets + 1)
        assert differing_rows(tables, moved) == differing_rows(moved, tables) == 5
        assert differing_rows(tables, random_tables(np.random.default_rng(1), 4)) == 5


class Own(SimpleVAECompressionModel):
    """A user's class."""

    def __init__(self) -> None:
        super().__init__()
        inner = copied("cheng2020-anchor-checkerboard")
        self.g_a, self.g_s, self.latent_codec = inner.g_a, inner.g_s, inner.latent_codec


class OwnUpdate(Own):
    """With scales of its own."""

    def update(self, scale_table: Any = None, force: bool = False, **more: Any) -> bool:
        return bool(super().update([0.2, 1.0, 5.0], force, **more))


def test_a_users_own_update_is_called(caplog: pytest.LogCaptureFixture) -> None:
    frozen = rs.freeze(without_tables(OwnUpdate()))
    assert len(frozen.parts.thresholds) == 2
    assert "no CDF tables yet" in caplog.text
    stream = rs.encode(picture(40, 40), frozen, tile=64)
    assert rs.decode(stream, Model.from_bytes(frozen.to_bytes())).report.exact


class OwnDensity(EntropyBottleneck):
    """A user's: CompressAI's, drawn out."""

    def _logits_cumulative(self, inputs: Tensor, stop_gradient: bool) -> Tensor:
        return super()._logits_cumulative(inputs * 0.5, stop_gradient)


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_users_own_density_is_asked(rebuild: bool, caplog: pytest.LogCaptureFixture) -> None:
    changed = Own()
    own = OwnDensity(8)
    own.load_state_dict(dict(changed.latent_codec.hyper.entropy_bottleneck.named_parameters()), strict=False)
    changed.latent_codec.hyper.entropy_bottleneck = own
    if not rebuild:
        own.update(force=True)
    frozen = rs.freeze(changed, update_tables=rebuild)
    assert "stale" not in caplog.text
    own.update(force=True)
    rows = CdfTables.from_padded(own._quantized_cdf.numpy(), own._cdf_length.numpy(), own._offset.numpy())
    assert frozen.tables.cdf[-len(rows.cdf) :].tolist() == rows.cdf.tolist()
