"""From a CompressAI module or checkpoint to a frozen model. The only part of the library that needs compressai."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robuststream.entropy.tables import CdfTables
from robuststream.errors import ModelNotFound, UnsupportedModel
from robuststream.model import FACTORIZED, MEAN_SCALE_HYPERPRIOR, SCALE_HYPERPRIOR, Model, ModelParts
from robuststream.networks.fixedpoint import FRACTION_BITS, LIMIT, freeze_exact, quantise
from robuststream.networks.graph import Layer, Network
from robuststream.networks.trace import trace

log = logging.getLogger(__name__)

#: CompressAI's names of the architectures, their classes, and the prior each has.
ARCHITECTURES = {
    "bmshj2018-factorized": ("FactorizedPrior", FACTORIZED),
    "bmshj2018-factorized-relu": ("FactorizedPriorReLU", FACTORIZED),
    "bmshj2018-hyperprior": ("ScaleHyperprior", SCALE_HYPERPRIOR),
    "mbt2018-mean": ("MeanScaleHyperprior", MEAN_SCALE_HYPERPRIOR),
}


def freeze(
    net: nn.Module, *, name: str | None = None, licence: str = "", attribution: str = "", device: str = "cpu"
) -> Model:
    """Freeze a CompressAI model: entropy networks in integers, CDF tables as they are, everything else as it is.

    Args:
        net: FactorizedPrior, FactorizedPriorReLU, ScaleHyperprior or MeanScaleHyperprior, with any N and M.
            It is not changed. A net whose tables were never built gets them here, once.
        name: for people; the architecture and N, M when not given.
        licence, attribution: of the weights and what they were trained on; kept in the model file.

    Raises:
        UnsupportedModel: another architecture, or layers or weights that have no exact form.
    """
    # By the exact type: an autoregressive model is a subclass of a hyperprior, and not one.
    found = [(key, prior) for key, (cls, prior) in ARCHITECTURES.items() if _full_name(net) == f"compressai.{cls}"]
    if not found:
        raise UnsupportedModel(
            f"{type(net).__module__}.{type(net).__name__} cannot be frozen: known are {', '.join(ARCHITECTURES)}"
        )
    architecture, prior = found[0]
    parts: Any = copy.deepcopy(net).cpu().eval()
    networks = {"g_a": trace("g_a", parts.g_a, 3)}
    channels = networks["g_a"].channels[1]
    networks["g_s"] = trace("g_s", parts.g_s, channels)
    bottleneck = parts.entropy_bottleneck
    if prior != FACTORIZED:
        analysis = trace("h_a", parts.h_a, channels)
        if prior == SCALE_HYPERPRIOR:
            # This model takes h_a of |y|.
            analysis = Network("h_a", [Layer("abs"), *analysis.layers])
        networks["h_a"] = analysis
        networks["h_s"] = freeze_exact(trace("h_s", parts.h_s, bottleneck.channels))
    tables, thresholds = _tables(parts, gaussian=prior != FACTORIZED)
    texts = {
        "name": name or f"{architecture}-{parts.N}-{parts.M}",
        "licence": licence,
        "attribution": attribution,
        "origin": f"CompressAI {architecture}, N={parts.N}, M={parts.M}",
    }
    medians = quantise(bottleneck._get_medians().detach().flatten(), FRACTION_BITS).to(torch.int32)
    return Model(ModelParts(prior, networks, tables, medians, thresholds, texts), device)


def freeze_checkpoint(
    architecture: str,
    checkpoint: str | Path,
    *,
    name: str | None = None,
    licence: str = "",
    attribution: str = "",
) -> Model:
    """Freeze a checkpoint file: a state dict, or a dict with one under "state_dict". Loaded with `weights_only=True`.

    Raises:
        ModelNotFound: the file cannot be read. UnsupportedModel: it does not hold such a model.
    """
    if architecture not in ARCHITECTURES:
        raise UnsupportedModel(f"architecture {architecture!r} is not one of {', '.join(ARCHITECTURES)}")
    try:
        from compressai import models
    except ImportError as error:
        raise UnsupportedModel("freezing needs compressai: pip install 'robuststream[compressai]'") from error
    try:
        loaded = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelNotFound(f"{checkpoint}: the checkpoint cannot be read ({error.strerror})") from error
    except Exception as error:  # torch raises whatever unpickling a damaged file raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnsupportedModel(f"{checkpoint}: not a checkpoint torch can load safely ({reason})") from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    try:
        net = getattr(models, ARCHITECTURES[architecture][0]).from_state_dict(state)
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise UnsupportedModel(f"{checkpoint}: does not hold a {architecture} ({reason})") from error
    return freeze(net, name=name, licence=licence, attribution=attribution)


def _full_name(net: nn.Module) -> str:
    return f"{type(net).__module__.split('.')[0]}.{type(net).__name__}"


def _tables(net: Any, gaussian: bool) -> tuple[CdfTables, Tensor]:
    """Gaussian rows, then the bottleneck's; and the thresholds between Gaussian rows."""
    models = [net.gaussian_conditional, net.entropy_bottleneck] if gaussian else [net.entropy_bottleneck]
    if any(model._quantized_cdf.numel() == 0 for model in models):
        # Rebuilt tables differ from machine to machine; from here on these are the model's, wherever it goes.
        log.warning("the model has no CDF tables yet: they are built now, and frozen with it")
        net.update()
    parts = [
        CdfTables.from_padded(model._quantized_cdf.numpy(), model._cdf_length.flatten().numpy(), model._offset.numpy())
        for model in models
    ]
    if not gaussian:
        return parts[0], torch.zeros(0, dtype=torch.int32)
    conditional = net.gaussian_conditional
    thresholds = quantise(conditional.scale_table[:-1], FRACTION_BITS)
    # CompressAI raises scales to a bound before it compares: thresholds below the bound always lie below the scale.
    bound = quantise(conditional.lower_bound_scale.bound, FRACTION_BITS)
    thresholds[thresholds < bound] = -LIMIT - 1
    return parts[0].joined(parts[1]), thresholds.to(torch.int32)
