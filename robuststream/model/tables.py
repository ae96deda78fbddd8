"""The numbers of CompressAI's entropy models: CDF tables, medians, thresholds. Checked, and built where there are none.

Tables that stand in a checkpoint are kept as they are: built anew by CompressAI, they differ from machine to machine.
Those built here do not (densities.py).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from functools import partial, reduce
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from robuststream.entropy.tables import MAX_OFFSET, PRECISION, CdfTables
from robuststream.errors import UnsupportedModel, first_line
from robuststream.model.anatomy import Anatomy, is_compressais
from robuststream.model.densities import bottleneck_tables, gaussian_tables, scale_table
from robuststream.networks.fixedpoint import FRACTION_BITS, LIMIT, ONE, check_finite, integers

log = logging.getLogger(__name__)

Built = TypeVar("Built")

#: Share of a row's probability that may lie elsewhere in a row built anew. CompressAI's arithmetic moves up to 2^-9 of
#: it, which costs nothing; training moves more.
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
        self._tables = self._complete(rebuild)
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

    def _complete(self, rebuild: bool) -> dict[Any, CdfTables]:
        """Each model's tables, built where there are none; says what was done for that, or what is wrong with them."""
        missing = [model for model in self._with_tables if rebuild or model._quantized_cdf.numel() == 0]
        if not missing:
            tables = {model: self._padded(model) for model in self._with_tables}
            self._say_stale(tables)
            return tables
        done = "model's CDF tables are built anew" if rebuild else "model has no CDF tables yet: they are built now"
        log.warning("the %s, and frozen with it", done)
        if self._bottleneck in missing:
            self._check_density()
        owner = next(cls for cls in type(self._net).__mro__ if "update" in vars(cls))
        if not is_compressais(owner):
            # Only such a class itself knows which scales it wants.
            self._tried(type(self._net).__name__, partial(self._net.update, force=rebuild))
            missing = []
        tables = {}
        for model in self._with_tables:
            if model in missing and model is not self._bottleneck:
                model.scale_table = scale_table()
            tables[model] = self._built(model) if model in missing else self._padded(model)
        return tables

    def _built(self, model: Any) -> CdfTables:
        """A bottleneck's tables from its density, a Gaussian's from its scales."""
        name, bottleneck = self._names[model], hasattr(model, "quantiles")
        if not is_compressais(type(model)):
            # Only such a class itself knows how its density is computed.
            self._tried(name, partial(model.update, **({"force": True} if bottleneck else {})))
            return self._padded(model)
        if bottleneck:
            return self._tried(name, partial(bottleneck_tables, model))
        return self._tried(name, partial(gaussian_tables, model.scale_table, model.tail_mass))

    def _tried(self, what: str, build: Callable[[], Built]) -> Built:
        """Raises UnsupportedModel for numbers that make no tables, and whatever else the user's own code raises."""
        try:
            return build()
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

    def _say_stale(self, tables: dict[Any, CdfTables]) -> None:
        """Weights trained on after `update()` have other tables: those there are still decode, and cost more bits."""
        for model in self._with_tables[:2]:  # groups of y have all the same
            name = self._names[model]
            try:
                if model is self._bottleneck:
                    self._check_density()
                else:
                    self._scales(model, tables[model])
                fresh = copy.deepcopy(model)
                self._names[fresh] = name
                stale = differing_rows(tables[model], self._built(fresh))
            except Exception as error:  # the tables do without the density, as those of a thawed model have to
                log.info("%s: its tables cannot be compared with its weights (%s)", name, error)
                continue
            if stale:
                log.warning(
                    "%s: %d of %d CDF tables are stale: its weights give others now, as after training without another "
                    "update(). They decode, and cost bits: net.update(force=True) before saving, or update_tables=True "
                    "here (--update-tables), builds them anew",
                    name,
                    stale,
                    tables[model].rows,
                )

    # --- Reading ---------------------------------------------------------------------------------------------------

    def _joined(self) -> tuple[CdfTables, Tensor]:
        """Gaussian rows, then the bottleneck's; and the thresholds between Gaussian rows."""
        bottleneck = self._tables[self._bottleneck] if self._z_steps is None else self._tables_by_quality(self._z_steps)
        if not self._conditionals:
            return bottleneck, torch.zeros(0, dtype=torch.int32, device="cpu")
        conditional = self._conditionals[0]
        gaussian = self._tables[conditional]
        thresholds = self._scales(conditional, gaussian)[:-1]
        bound = int(self._bound(conditional))
        for other in self._conditionals[1:]:
            tables = self._tables[other]
            same = _same(tables, gaussian) and self._scales(other, tables)[:-1].equal(thresholds)
            if not same or int(self._bound(other)) != bound:
                raise UnsupportedModel("the groups of y have different Gaussian tables: they would have to share one")
        # CompressAI raises scales to a bound before it compares: thresholds below the bound always lie below the scale.
        thresholds[thresholds < bound] = -LIMIT - 1
        return gaussian.joined(bottleneck), thresholds

    def _scales(self, conditional: Any, tables: CdfTables) -> Tensor:
        """The scale table as int32 at 2^-12."""
        name, scales = self._name(conditional, "scale_table"), conditional.scale_table
        if scales.ndim != 1 or len(scales) != tables.rows:
            shape = tuple(scales.shape)
            raise UnsupportedModel(f"{name} has the shape {shape}, and there are {tables.rows} CDF tables")
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
        name, build = self._names[self._bottleneck], partial(bottleneck_tables, self._bottleneck)
        return reduce(CdfTables.joined, (self._tried(name, partial(build, step)) for step in z_steps.tolist()))

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
            return CdfTables.from_padded(cdf.numpy(), lengths.numpy(), offsets.numpy())
        except UnsupportedModel as error:
            raise UnsupportedModel(f"{self._names[model]}: {error}") from error


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
