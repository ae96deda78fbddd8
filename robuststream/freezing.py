"""From a CompressAI module or checkpoint to a frozen model. The only part of the library that needs compressai."""

from __future__ import annotations

import copy
import importlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robuststream.architectures import ARCHITECTURES, Anatomy, dissect
from robuststream.entropy.tables import CdfTables
from robuststream.errors import ModelNotFound, UnsupportedModel, first_line
from robuststream.model import Model
from robuststream.modelparts import (
    CHANNEL_CONTEXT,
    CONTEXT_PREDICTION,
    ENTROPY_PARAMETERS,
    OFFSET,
    ModelParts,
    group_network,
)
from robuststream.networks.fixedpoint import FRACTION_BITS, LIMIT, ONE, freeze_exact, quantise
from robuststream.networks.graph import Layer, Network
from robuststream.networks.native import LiveNetwork
from robuststream.networks.trace import trace
from robuststream.priors.gain import Gains
from robuststream.variablerate import freeze_gains, offset_module

log = logging.getLogger(__name__)


def freeze(
    net: nn.Module,
    *,
    name: str | None = None,
    licence: str = "",
    attribution: str = "",
    device: str = "cpu",
    native: bool = False,
) -> Model:
    """Freeze a CompressAI model: entropy networks in integers, CDF tables as they are, everything else as it is.

    Args:
        net: one of CompressAI's image models (`ARCHITECTURES`), with any N and M, or a SimpleVAECompressionModel of
            the user's own whose latent codec is made of CompressAI's in the same shapes. It is not changed. A net
            whose tables were never built gets them here, once.
        name: for people; the architecture and N, M when not given.
        licence, attribution: of the weights and what they were trained on; kept in the model file.
        native: keep entropy networks that have no exact form as the modules they are. Such a model codes in native
            mode only and has no model file: whoever decodes must have the module.

    Raises:
        UnsupportedModel: another architecture, or layers or weights that have no exact form.
    """
    dissect(net)  # before anything is copied: most refusals come of it
    try:
        whole: Any = copy.deepcopy(net).cpu().float().eval()
    except Exception as error:  # a module may hold what cannot be copied: hooks' tensors of old reparametrisations
        reason = first_line(error)
        raise UnsupportedModel(f"{type(net).__name__} cannot be copied ({reason})") from error
    anatomy = dissect(whole)
    gains = freeze_gains(whole) if hasattr(whole, "Gain") else None
    tables, thresholds = _tables(whole, anatomy, gains)
    analysis = trace("g_a", whole.g_a, 3)
    channels = analysis.channels[1]
    networks: dict[str, Network | LiveNetwork] = {"g_a": analysis}
    if len(anatomy.groups) == 1:
        anatomy.groups = (replace(anatomy.groups[0], channels=channels),)
    networks["g_s"] = trace("g_s", whole.g_s, channels)
    if anatomy.hyper is not None:
        analysis = trace("h_a", anatomy.hyper[0], channels)
        networks["h_a"] = Network("h_a", [Layer("abs"), *analysis.layers]) if anatomy.absolute else analysis
        networks["h_s"] = _entropy_network("h_s", anatomy.hyper[1], anatomy.bottleneck.channels, native)
        networks |= _group_networks(anatomy, networks["h_s"].channels[1], native)
    if gains is not None and not whole.no_quantoffset:
        networks[OFFSET] = _entropy_network(OFFSET, offset_module(whole), 2, native)
    sizes = f"{anatomy.bottleneck.channels}-{channels}"
    texts = {
        "name": name or f"{anatomy.name}-{sizes}"[:64],
        "licence": licence,
        "attribution": attribution,
        "origin": f"CompressAI {anatomy.name}, N={anatomy.bottleneck.channels}, M={channels}",
    }
    medians = quantise(anatomy.bottleneck._get_medians().detach().flatten(), FRACTION_BITS).to(torch.int32)
    return Model(ModelParts(anatomy.prior, networks, tables, medians, thresholds, anatomy.groups, gains, texts), device)


def freeze_checkpoint(
    architecture: str,
    checkpoint: str | Path,
    *,
    name: str | None = None,
    licence: str = "",
    attribution: str = "",
) -> Model:
    """Freeze a checkpoint file: a state dict, or a dict with one under "state_dict". Loaded with `weights_only=True`.

    Args:
        architecture: a key of ARCHITECTURES, or `package.module:function`: an importable factory that takes nothing
            and gives the module to load the state dict into.
        checkpoint: the file.
        name, licence, attribution: as for `freeze`.

    Raises:
        ModelNotFound: the file cannot be read. UnsupportedModel: it does not hold such a model.
    """
    if architecture not in ARCHITECTURES and ":" not in architecture:
        raise UnsupportedModel(
            f"architecture {architecture!r} is not one of {', '.join(ARCHITECTURES)}, and no package.module:function"
        )
    state = _load_state(checkpoint)
    try:
        if ":" in architecture:
            net = make_module(architecture)
            net.load_state_dict(state)
        else:
            cls = getattr(_models(), ARCHITECTURES[architecture][0])
            # One class, with z's step variable or not: only the state dict tells.
            variable = {"vr_entbttlnck": True} if any(key.startswith("gayn2zqstep") for key in state) else {}
            net = cls.from_state_dict(state, **variable)
    except (KeyError, RuntimeError, TypeError, AttributeError, AssertionError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2]) or type(error).__name__
        raise UnsupportedModel(f"{checkpoint}: does not hold a {architecture} ({reason})") from error
    return freeze(net, name=name, licence=licence, attribution=attribution)


def make_module(factory: str) -> nn.Module:
    """Call an importable factory, `package.module:function`.

    Raises:
        UnsupportedModel: it cannot be imported, or gives no module.
    """
    module, _, function = factory.partition(":")
    try:
        made = getattr(importlib.import_module(module), function)()
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        reason = first_line(error)
        raise UnsupportedModel(f"{factory}: cannot be called ({reason})") from error
    if not isinstance(made, nn.Module):
        raise UnsupportedModel(f"{factory}: gives a {type(made).__name__}, not a torch module")
    return made


def _models() -> Any:
    try:
        from compressai import models
    except ImportError as error:
        raise UnsupportedModel("freezing needs compressai: pip install 'robuststream[compressai]'") from error
    return models


def _load_state(checkpoint: str | Path) -> Any:
    _models()
    try:
        loaded = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelNotFound(f"{checkpoint}: the checkpoint cannot be read ({error.strerror})") from error
    except Exception as error:  # torch raises whatever unpickling a damaged file raises
        reason = first_line(error)
        raise UnsupportedModel(f"{checkpoint}: not a checkpoint torch can load safely ({reason})") from error
    return loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None


def _entropy_network(name: str, module: nn.Module, channels: int, native: bool) -> Network | LiveNetwork:
    try:
        return freeze_exact(trace(name, module, channels))
    except UnsupportedModel as error:
        if not native:
            advice = "freeze(..., native=True) keeps it as code, for mode='native'"
            raise UnsupportedModel(f"{error}: {advice}") from error
    try:
        return LiveNetwork(name, module, channels)
    except Exception as error:  # the module's own forward may raise anything
        reason = first_line(error)
        raise UnsupportedModel(f"network {name}: cannot be run on {channels} channels ({reason})") from error


def _group_networks(anatomy: Anatomy, side: int, native: bool) -> dict[str, Network | LiveNetwork]:
    """The entropy networks of y's groups; `side` is the number of side parameters."""
    networks: dict[str, Network | LiveNetwork] = {}
    for number, group in enumerate(anatomy.groups):
        known = side
        taken = sum(anatomy.groups[other].channels for other in group.takes)
        for part, channels in ((CHANNEL_CONTEXT, taken), (CONTEXT_PREDICTION, group.channels), (ENTROPY_PARAMETERS, 0)):
            key = group_network(number, part)
            if key in anatomy.networks:
                # Context predictions are gathered place by place, so they must be data in either mode.
                alive = native and part != CONTEXT_PREDICTION
                networks[key] = _entropy_network(key, anatomy.networks[key], channels or known, alive)
                known += networks[key].channels[1]
    return networks


def _tables(net: Any, anatomy: Anatomy, gains: Gains | None) -> tuple[CdfTables, Tensor]:
    """Gaussian rows, then the bottleneck's; and the thresholds between Gaussian rows."""
    if any(model._quantized_cdf.numel() == 0 for model in (anatomy.bottleneck, *anatomy.conditionals)):
        # Rebuilt tables differ from machine to machine; from here on these are the model's, wherever it goes.
        log.warning("the model has no CDF tables yet: they are built now, and frozen with it")
        net.update()
    bottleneck = _padded_tables(anatomy.bottleneck)
    if gains is not None and gains.z_tables:
        bottleneck = _tables_by_quality(anatomy.bottleneck, gains)
    if not anatomy.conditionals:
        return bottleneck, torch.zeros(0, dtype=torch.int32)
    conditional = anatomy.conditionals[0]
    for other in anatomy.conditionals[1:]:
        same = other._quantized_cdf.equal(conditional._quantized_cdf)
        bounds = [float(model.lower_bound_scale.bound) for model in (other, conditional)]
        if not same or not other.scale_table.equal(conditional.scale_table) or bounds[0] != bounds[1]:
            raise UnsupportedModel("the groups of y have different Gaussian tables: they would have to share one")
    thresholds = quantise(conditional.scale_table[:-1], FRACTION_BITS)
    # CompressAI raises scales to a bound before it compares: thresholds below the bound always lie below the scale.
    bound = quantise(conditional.lower_bound_scale.bound, FRACTION_BITS)
    thresholds[thresholds < bound] = -LIMIT - 1
    return _padded_tables(conditional).joined(bottleneck), thresholds.to(torch.int32)


def _tables_by_quality(bottleneck: Any, gains: Gains) -> CdfTables:
    """CompressAI rebuilds these tables for each quality index: here they are built once for all of them."""
    log.warning("tables for each quality index are built now, and frozen with the model")
    joined: CdfTables | None = None
    for step in gains.z_steps:
        bottleneck.update_variable(force=True, qs=step.float() / ONE)
        tables = _padded_tables(bottleneck)
        joined = tables if joined is None else joined.joined(tables)
    assert joined is not None
    return joined


def _padded_tables(model: Any) -> CdfTables:
    cdf, lengths, offsets = model._quantized_cdf.numpy(), model._cdf_length.flatten().numpy(), model._offset.numpy()
    return CdfTables.from_padded(cdf, lengths, offsets)
