"""CDF tables from densities: against the real numbers that mpmath gives, and against CompressAI's own."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
import torch
from compressai._CXX import pmf_to_quantized_cdf
from compressai.entropy_models import EntropyBottleneck, EntropyBottleneckVbr, GaussianConditional
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf
from torch import nn

import robuststream as rs
from robuststream.entropy.tables import CdfTables
from robuststream.model import reals
from robuststream.model.densities import _frequencies, _reach, bottleneck_tables, gaussian_tables, scale_table
from robuststream.model.reals import ONE

mp.dps = 50
TAIL_MASS = 1e-9


def objects(*values: int) -> Any:
    return np.array(values, object)


def rows(tables: CdfTables) -> list[list[int]]:
    """Frequencies of each row."""
    return [np.diff(row).tolist() for row in np.split(tables.cdf, tables.starts[1:])]


def rounded(probabilities: list[Any]) -> list[int]:
    """Frequencies of real numbers: spec/model.md, section 9.4, in plain words."""
    counts = [int(mpmath.floor(p * 65536 + mpf("0.5"))) for p in probabilities]
    frequencies = [count * 65536 // sum(counts) for count in counts]
    frequencies[-1] += 65536 - sum(frequencies)
    for place, frequency in enumerate(frequencies):
        if frequency == 0:
            frequencies[frequencies.index(min(f for f in frequencies if f > 1))] -= 1
            frequencies[place] = 1
    return frequencies


class TestReals:
    @pytest.mark.parametrize(
        ("function", "real", "least", "most", "error"),
        [
            (reals.decay, lambda x: mpmath.exp(-x), 0, 200, 2.0**-88),
            (reals.log, mpmath.log, 1, 2, 2.0**-88),
            (reals.softplus, lambda x: mpmath.log(1 + mpmath.exp(x)), -90, 90, 2.0**-88),
            (reals.sigmoid, lambda x: 1 / (1 + mpmath.exp(-x)), -90, 90, 2.0**-88),
            (reals.tanh, mpmath.tanh, -90, 90, 2.0**-88),
            (reals.normal, lambda t: mpmath.erf(t / mpmath.sqrt(2)) / 2, 0, 8, 2.0**-45),
            (reals.normal, lambda t: mpmath.erf(t / mpmath.sqrt(2)) / 2, 0, 6, 2.0**-64),
        ],
    )
    @given(st.data())
    def test_functions(
        self, function: Callable[[Any], Any], real: Any, least: int, most: int, error: float, data: st.DataObject
    ) -> None:
        x = data.draw(st.integers(least * ONE, most * ONE))
        assert abs(mpf(int(function(objects(x))[0])) / ONE - real(mpf(x) / ONE)) < error

    def test_far_out(self) -> None:
        far = objects(10**60 * ONE)
        assert reals.decay(far)[0] == 0
        assert reals.softplus(far)[0] == far[0]
        assert reals.softplus(-far)[0] == 0
        assert (reals.sigmoid(far)[0], reals.sigmoid(-far)[0]) == (ONE, 0)
        assert (reals.tanh(far)[0], reals.tanh(-far)[0]) == (ONE, -ONE)
        assert abs(reals.normal(far)[0] - ONE // 2) < ONE >> 49

    @given(st.floats(width=32, allow_nan=False, allow_infinity=False))
    def test_from_floats(self, x: float) -> None:
        whole = int(reals.fixed(x)[()])
        assert 0 <= Fraction(x) * ONE - whole < 1


class TestGaussians:
    def test_scales(self) -> None:
        def real(levels: int) -> npt.NDArray[np.float32]:
            low, high = mpf("0.11"), mpf(256)
            table = [low * (high / low) ** (mpf(i) / (levels - 1)) for i in range(levels)]
            return np.array([float(scale) for scale in table]).astype(np.float32)

        for levels in (2, 3, 64, 100):
            assert scale_table(levels).tolist() == real(levels).tolist()

    @pytest.mark.parametrize(
        ("tail_mass", "reach"), [(1e-9, 6.109410205), (1e-4, 3.890591886), (0.5, 0.674489750), (1.0, 0.0)]
    )
    def test_reach(self, tail_mass: float, reach: float) -> None:
        """Quantiles of the normal distribution, as tables of it have them."""
        assert _reach(tail_mass) == np.float32(reach)

    @pytest.mark.parametrize("tail_mass", [TAIL_MASS, 1e-3])
    def test_rows_are_the_real_numbers_rounded(self, tail_mass: float) -> None:
        scales = scale_table()
        tables = gaussian_tables(scales, tail_mass)
        for scale, offset, row in zip(scales.tolist(), tables.offsets.tolist(), rows(tables), strict=True):
            edges = [mpmath.erfc((mpf(k) - mpf("0.5")) / scale / mpmath.sqrt(2)) / 2 for k in range(-offset + 2)]
            half = [above - below for above, below in pairwise(edges)]
            assert row == rounded([*half[:0:-1], *half, 2 * edges[-1]])

    def test_as_compressais(self) -> None:
        scales = scale_table()
        conditional = GaussianConditional(None)
        conditional.scale_table = scales
        conditional.update()
        assert_close(gaussian_tables(scales, conditional.tail_mass), conditional)

    def test_too_wide(self) -> None:
        with pytest.raises(rs.UnsupportedModel, match="a scale of 2000 needs a row of more than 8192 values"):
            gaussian_tables(torch.tensor([0.5, 2000.0]), TAIL_MASS)


def bottleneck(cls: Any = EntropyBottleneck, channels: int = 6, spread: float = 0.3, **more: Any) -> Any:
    """One that looks trained: densities of many shapes, and quantiles where they belong."""
    torch.manual_seed(4)
    made = cls(channels, **more)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name != "quantiles":
                parameter.add_(spread * torch.randn(parameter.shape))
        fitted = EntropyBottleneck(channels, **more)
        for parameter, own in zip(fitted.parameters(), ordered(made), strict=True):
            parameter.copy_(own)
        fitted._update_quantiles()
        # Scales of a hyperlatent: some ten values a row.
        made.quantiles.copy_(fitted.quantiles * 0.1 + torch.rand(channels, 1, 1))
    return made


def ordered(made: Any) -> list[nn.Parameter]:
    """Parameters in the order of EntropyBottleneck's."""
    kinds = {"matri": 0, "bias": 1, "factor": 2, "quantiles": -1}

    def place(name: str) -> tuple[int, str]:
        return next(number for kind, number in kinds.items() if kind in name), name

    return [parameter for name, parameter in sorted(made.named_parameters(), key=lambda item: place(item[0]))]


def real_rows(made: Any, step: float) -> list[list[int]]:
    """Each channel's row in real numbers, from the paper's formula."""
    parameters = [parameter.detach().double() for parameter in ordered(made)]
    layers = len(made.filters) + 1
    matrices, biases = parameters[1 : 1 + layers], parameters[1 + layers : 1 + 2 * layers]
    factors = parameters[1 + 2 * layers :]

    def below(channel: int, x: Any) -> Any:
        values = [x]
        for layer in range(layers):
            inner = [
                sum(mpmath.log(1 + mpmath.exp(mpf(h))) * value for h, value in zip(line, values, strict=True)) + mpf(b)
                for line, (b,) in zip(matrices[layer][channel].tolist(), biases[layer][channel].tolist(), strict=True)
            ]
            values = inner
            if layer < layers - 1:
                gates = factors[layer][channel].flatten().tolist()
                values = [x + mpmath.tanh(mpf(f)) * mpmath.tanh(x) for f, x in zip(gates, inner, strict=True)]
        return 1 / (1 + mpmath.exp(-values[0]))

    quantiles = made.quantiles.detach()[:, 0]
    sizes = (
        torch.ceil((quantiles[:, 1:2] - quantiles[:, [0]]) / step),
        torch.ceil((quantiles[:, 2:] - quantiles[:, 1:2]) / step),
    )
    minima, maxima = (size.flatten().int().tolist() for size in sizes)
    longest = max(a + b + 1 for a, b in zip(minima, maxima, strict=True))
    found = []
    for channel, (least, most) in enumerate(zip(minima, maxima, strict=True)):
        median = mpf(float(quantiles[channel, 1]))
        places = [*range(least + most + 2), longest]
        edges = [below(channel, median + (j - least - mpf("0.5")) * step) for j in places]
        values = [upper - lower for lower, upper in pairwise(edges[:-1])]
        found.append(rounded([*values, edges[0] + 1 - edges[-1]]))
    return found


class TestBottlenecks:
    @pytest.mark.parametrize("cls", [EntropyBottleneck, EntropyBottleneckVbr])
    @pytest.mark.parametrize("filters", [(3, 3, 3, 3), (2,)])
    @pytest.mark.parametrize("step", [1.0, 0.5, 2.7001953125])
    def test_rows_are_the_real_numbers_rounded(self, cls: Any, filters: tuple[int, ...], step: float) -> None:
        made = bottleneck(cls, filters=filters)
        assert rows(bottleneck_tables(made, int(step * 4096))) == real_rows(made, step)

    def test_a_median_outside_its_quantiles(self) -> None:
        made = bottleneck()
        with torch.no_grad():
            made.quantiles[0, 0] = torch.tensor([3.0, 2.0, 7.5])
            made.quantiles[1, 0] = torch.tensor([-3.0, 2.0, 1.0])
        tables = bottleneck_tables(made)
        made.update()
        assert tables.offsets[:2].tolist() == made._offset[:2].tolist() == [0, -5]
        assert tables.lengths[:2].tolist() == made._cdf_length[:2].tolist() == [9, 8]

    @pytest.mark.parametrize("spread", [0.0, 0.3])
    def test_as_compressais(self, spread: float) -> None:
        made = bottleneck(channels=64, spread=spread)
        made.update()
        assert_close(bottleneck_tables(made), made)

    def test_as_compressais_for_a_step(self) -> None:
        made = bottleneck(EntropyBottleneckVbr, channels=32)
        made.update_variable(force=True, qs=torch.tensor(0.75))
        assert_close(bottleneck_tables(made, 3 << 10), made)

    def test_other_parameters(self) -> None:
        made = bottleneck()
        made.matrices = nn.ParameterList(list(made.matrices)[:-1])
        with pytest.raises(rs.UnsupportedModel, match="a EntropyBottleneck without matrices cannot be given tables"):
            bottleneck_tables(made)


def assert_close(tables: CdfTables, model: Any) -> None:
    """The same rows as CompressAI built, but for what its float32 lost: nothing in bytes."""
    theirs = CdfTables.from_padded(
        *(getattr(model, key).numpy() for key in ("_quantized_cdf", "_cdf_length", "_offset"))
    )
    assert theirs.lengths.tolist() == tables.lengths.tolist()
    assert theirs.offsets.tolist() == tables.offsets.tolist()
    own, other = (np.array([f for row in rows(each) for f in row], float) for each in (tables, theirs))
    assert np.abs(own - other).max() <= 4
    # Bits for symbols that come as often as each of both says.
    for weights in (own, other):
        assert abs((weights * np.log2(own / other)).sum() / (weights * np.log2(65536 / own)).sum()) < 1e-4


class TestFrequencies:
    @given(st.lists(st.integers(0, 1 << 12) | st.integers(0, 16), min_size=2, max_size=200), st.integers(8, 1 << 20))
    def test_as_compressais(self, shares: list[int], last: int) -> None:
        """Probabilities that are exact in float32, at 2^-20: halves of 2^-16 are among them."""
        shares = [*shares, last]
        cdf = pmf_to_quantized_cdf([share / (1 << 20) for share in shares], 16)
        assert _frequencies(objects(*(share << 76 for share in shares))).tolist() == np.diff(cdf).tolist()

    def test_all_of_it_at_one_value(self) -> None:
        assert _frequencies(objects(0, ONE, 0, -1)).tolist() == [1, 65533, 1, 1]

    def test_no_probability(self) -> None:
        with pytest.raises(rs.UnsupportedModel, match="a row's values have no probability"):
            _frequencies(objects(ONE >> 18, ONE >> 20))
