"""The numbers of CompressAI's entropy models: CDF tables, medians, thresholds. Checked, and built where there are none.

Tables that stand in a checkpoint are kept as they are: built anew, they differ from machine to machine.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robuststream.entropy.tables import MAX_OFFSET, PRECISION, CdfTables
from robuststream.errors import UnsupportedModel, first_line
from robuststream.model.anatomy import Anatomy, is_compressais
from robuststream.networks.fixedpoint import FRACTION_BITS, LIMIT, ONE, check_finite, integers

log = logging.getLogger(__name__)

#: Share of a row's probability that may lie elsewhere in a row built anew. Other arithmetic moves up to 2^-9 and costs
#: nothing; training moves more.
DRIFT = 2.0**-8


class EntropyModels:
    """The entropy models of a CompressAI module, on the CPU and in float32.

    Args:
        net, anatomy: the module, and where its parts are.
        z_steps: int32 (Q,) at 2^-12, where the bottleneck has tables for each of Q quantisation steps.
        rebuild: build all tables anew, whether there are any or not.

    Raises:
        UnsupportedModel: naming the tensor whose numbers are not possible.
    """

    def __init__(self, net: Any, anatomy: Anatomy, z_steps: Tensor | None, rebuild: bool = False) -> None:
        self._net = net
        self._names = {module: name for name, module in net.named_modules()}
        self._bottleneck = anatomy.bottleneck
        self._conditionals = anatomy.conditionals
        #: With them the bottleneck's tables are built for each quality index, whatever it has itself.
        self._z_steps = z_steps
        self._with_tables = [*([self._bottleneck] if z_steps is None else []), *self._conditionals]
        medians = self._quantiles()[:, 0, 1]
        self.medians = integers(self._name(self._bottleneck, "quantiles"), medians, FRACTION_BITS)
        self._complete(rebuild)
        self.tables, self.thresholds = self._joined()

    def _name(self, model: Any, tensor: str) -> str:
        return f"{self._names[model]}.{tensor}"

    def _quantiles(self) -> Tensor:
        quantiles: Tensor = self._bottleneck.quantiles.detach()
        if quantiles.ndim != 3 or quantiles.shape[1:] != (1, 3) or not len(quantiles):
            name = self._name(self._bottleneck, "quantiles")
            raise UnsupportedModel(f"{name} has the shape {tuple(quantiles.shape)}, not (channels, 1, 3)")
        return quantiles

    # --- Building --------------------------------------------------------------------------------------------------

    def _complete(self, rebuild: bool) -> None:
        """See that there are tables, and say what was done for that, or what is wrong with those there are."""
        missing = [model for model in self._with_tables if rebuild or model._quantized_cdf.numel() == 0]
        if missing:
            # Rebuilt tables differ from machine to machine; from here on these are the model's, wherever it goes.
            what = (
                "the model's CDF tables are built anew"
                if rebuild
                else "the model has no CDF tables yet: they are built now"
            )
            log.warning("%s, and frozen with it", what)
            self._update(missing, rebuild)
        else:
            self._say_stale()

    def _update(self, models: list[Any], force: bool) -> None:
        """As CompressAI's `update`, in float32 whatever the default is."""
        if self._bottleneck in models:
            self._check_density()
        owner = next(cls for cls in type(self._net).__mro__ if "update" in vars(cls))
        if not is_compressais(owner):
            self._built(type(self._net).__name__, lambda: self._net.update(force=force))
            return
        for model in models:
            if model is not self._bottleneck:
                model.scale_table = scale_table()
            self._built(self._names[model], partial(_rebuild, model))

    def _built(self, what: str, build: Callable[[], object]) -> None:
        """Raises UnsupportedModel for whatever CompressAI's own code raises, of numbers that make no density."""
        try:
            build()
        except Exception as error:
            raise UnsupportedModel(f"{what}: no CDF tables can be built ({first_line(error)})") from error

    def _check_density(self, step: float = 1.0) -> None:
        """CompressAI takes these numbers unseen, and more memory than there is where they are far apart."""
        for key, tensor in self._bottleneck.named_parameters():
            check_finite(self._name(self._bottleneck, key), tensor)
        quantiles = self._quantiles()[:, 0].double()
        widest = float((quantiles - quantiles[:, 1:2]).abs().max()) / step
        if widest > MAX_OFFSET:
            name = self._name(self._bottleneck, "quantiles")
            raise UnsupportedModel(f"{name}: {widest:.3g} steps from a median, more than {MAX_OFFSET}: no table can be")

    def _say_stale(self) -> None:
        """Weights trained on after `update()` have other tables: those there are still decode, and cost more bits."""
        for model in self._with_tables[:2]:  # groups of y have all the same
            tables = self._padded(model)
            fresh = copy.deepcopy(model)
            try:
                if model is self._bottleneck:
                    self._check_density()
                else:
                    self._scales(model)
                _rebuild(fresh)
                rebuilt = _padded_tables(fresh._quantized_cdf, fresh._cdf_length, fresh._offset)
            except Exception as error:  # the tables do without the density, as those of a thawed model have to
                log.info("%s: its tables cannot be compared with its weights (%s)", self._names[model], error)
                continue
            stale = differing_rows(tables, rebuilt)
            if stale:
                log.warning(
                    "%s: %d of %d CDF tables are stale: its weights give others now, as after training without another "
                    "update(). They decode, and cost bits: net.update(force=True) before saving, or update_tables=True "
                    "here (--update-tables), builds them anew",
                    self._names[model],
                    stale,
                    tables.rows,
                )

    # --- Reading ---------------------------------------------------------------------------------------------------

    def _joined(self) -> tuple[CdfTables, Tensor]:
        """Gaussian rows, then the bottleneck's; and the thresholds between Gaussian rows."""
        bottleneck = self._padded(self._bottleneck) if self._z_steps is None else self._tables_by_quality(self._z_steps)
        if not self._conditionals:
            return bottleneck, torch.zeros(0, dtype=torch.int32, device="cpu")
        conditional = self._conditionals[0]
        gaussian = self._padded(conditional)
        thresholds = self._scales(conditional)[:-1]
        bound = int(self._bound(conditional))
        for other in self._conditionals[1:]:
            same = _same(self._padded(other), gaussian) and self._scales(other)[:-1].equal(thresholds)
            if not same or int(self._bound(other)) != bound:
                raise UnsupportedModel("the groups of y have different Gaussian tables: they would have to share one")
        # CompressAI raises scales to a bound before it compares: thresholds below the bound always lie below the scale.
        thresholds[thresholds < bound] = -LIMIT - 1
        return gaussian.joined(bottleneck), thresholds

    def _scales(self, conditional: Any) -> Tensor:
        """The scale table as int32 at 2^-12."""
        name, scales = self._name(conditional, "scale_table"), conditional.scale_table
        if scales.ndim != 1 or len(scales) != len(conditional._quantized_cdf):
            rows = len(conditional._quantized_cdf)
            raise UnsupportedModel(f"{name} has the shape {tuple(scales.shape)}, and there are {rows} CDF tables")
        values = integers(name, scales, FRACTION_BITS)
        if (torch.diff(scales) < 0).any():
            raise UnsupportedModel(f"{name} does not rise")
        return values

    def _bound(self, conditional: Any) -> Tensor:
        name = self._name(conditional, "lower_bound_scale.bound")
        return integers(name, conditional.lower_bound_scale.bound, FRACTION_BITS)

    def _tables_by_quality(self, z_steps: Tensor) -> CdfTables:
        """CompressAI rebuilds these tables for each quality index: here they are built once for all of them."""
        log.warning("tables for each quality index are built now, and frozen with the model")
        self._check_density(float(z_steps.min()) / ONE)
        joined: CdfTables | None = None
        for step in z_steps:
            variable = partial(self._bottleneck.update_variable, force=True, qs=step.float() / ONE)
            self._built(self._names[self._bottleneck], variable)
            tables = self._padded(self._bottleneck)
            joined = tables if joined is None else joined.joined(tables)
        assert joined is not None
        return joined

    def _padded(self, model: Any) -> CdfTables:
        """A model's tables as they are."""
        arrays = {key: getattr(model, key) for key in ("_quantized_cdf", "_cdf_length", "_offset")}
        for key, tensor in arrays.items():
            if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
                raise UnsupportedModel(f"{self._name(model, key)} is {tensor.dtype}, where whole numbers are needed")
            if tensor.numel() and int(tensor.long().abs().max()) >= 1 << 31:
                raise UnsupportedModel(f"{self._name(model, key)} holds numbers beyond 32 bits")
        cdf, lengths, offsets = arrays["_quantized_cdf"], arrays["_cdf_length"].flatten(), arrays["_offset"].flatten()
        if cdf.ndim != 2 or not len(cdf) == len(lengths) == len(offsets):
            shapes = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in arrays.items())
            raise UnsupportedModel(f"{self._names[model]}: its tables do not fit each other: {shapes}")
        if len(cdf) and not 3 <= int(lengths.min()) <= int(lengths.max()) <= cdf.shape[1]:
            name = self._name(model, "_cdf_length")
            raise UnsupportedModel(f"{name} holds lengths that are not from 3 to {cdf.shape[1]}")
        try:
            return _padded_tables(cdf, lengths, offsets)
        except UnsupportedModel as error:
            raise UnsupportedModel(f"{self._names[model]}: {error}") from error


def _rebuild(model: Any) -> None:
    """A bottleneck's tables from its density, a Gaussian's from its scales."""
    if hasattr(model, "quantiles"):
        model.update(force=True)
    else:
        model.update()


def differing_rows(tables: CdfTables, others: CdfTables) -> int:
    """How many rows give more than DRIFT of their probability to other values."""
    if tables.rows != others.rows:
        return max(tables.rows, others.rows)
    return sum(_distance(tables, others, row) > DRIFT for row in range(tables.rows))


def _distance(tables: CdfTables, others: CdfTables, row: int) -> float:
    """Total variation between two rows: 0 for the same, 1 for nothing in common."""
    first = int(min(tables.offsets[row], others.offsets[row]))
    size = int(max(t.offsets[row] + t.lengths[row] for t in (tables, others))) - first
    spread = []
    for table in (tables, others):
        start, length = int(table.starts[row]), int(table.lengths[row])
        frequencies = np.diff(table.cdf[start : start + length])
        # Regular values where they belong, and what is left for all others behind them.
        values = np.zeros(size, np.int64)
        at = int(table.offsets[row]) - first
        values[at : at + length - 2] = frequencies[:-1]
        values[-1] = frequencies[-1]
        spread.append(values)
    return float(np.abs(spread[0] - spread[1]).sum()) / (2 << PRECISION)


def _same(tables: CdfTables, others: CdfTables) -> bool:
    pairs = ((tables.cdf, others.cdf), (tables.lengths, others.lengths), (tables.offsets, others.offsets))
    return all(np.array_equal(*pair) for pair in pairs)


def _padded_tables(cdf: Tensor, lengths: Tensor, offsets: Tensor) -> CdfTables:
    return CdfTables.from_padded(cdf.numpy(), lengths.flatten().numpy(), offsets.flatten().numpy())


def scale_table(levels: int | None = None) -> Tensor:
    """CompressAI's `get_scale_table`, in float32 whatever the default is. Needs compressai."""
    from compressai.models.base import SCALES_LEVELS, SCALES_MAX, SCALES_MIN

    levels = levels or SCALES_LEVELS
    logarithms = torch.linspace(math.log(SCALES_MIN), math.log(SCALES_MAX), levels, dtype=torch.float32, device="cpu")
    return torch.exp(logarithms)
