"""Back to CompressAI: a frozen model as the module it came from. Needs compressai."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robuststream.errors import UnsupportedModel
from robuststream.model.densities import scale_table
from robuststream.model.frozen import Model
from robuststream.model.parts import CONTEXT_MODEL, FACTORIZED, SCALE_HYPERPRIOR
from robuststream.networks.fixedpoint import ONE
from robuststream.networks.graph import Layer, Network
from robuststream.networks.narrowing import in_real_numbers


def thaw(model: Model) -> nn.Module:
    """A CompressAI module with this model's weights and tables, for `compress` and `decompress`.

    Its entropy networks run in float32 again. The entropy bottleneck's density is not part of a frozen model, only its
    tables and medians are: the module cannot be trained on, nor estimate rates with `forward`, nor build its tables
    anew. So that none of that happens unseen, the density's parameters are NaN.

    Raises:
        UnsupportedModel: compressai is not installed, or the model has a context model or variable rate: a frozen
            model does not say which class it came from, and several share one prior.
    """
    if model.parts.prior == CONTEXT_MODEL or model.parts.gains is not None:
        what = "models with context or variable rate cannot be thawed"
        raise UnsupportedModel(f"{model.name}: {what}; keep the module they came from")
    try:
        from compressai import models
    except ImportError as error:
        raise UnsupportedModel("this needs compressai: pip install 'robuststream[compressai]'") from error
    networks = {name: model.parts.network(name) for name in model.parts.networks}
    if model.parts.prior == FACTORIZED:
        relu = any(layer.operation == "relu" for layer in networks["g_a"].layers)
        architecture = models.FactorizedPriorReLU if relu else models.FactorizedPrior
    else:
        architecture = models.ScaleHyperprior if model.parts.prior == SCALE_HYPERPRIOR else models.MeanScaleHyperprior
    # On the CPU and in float32, whatever a caller's defaults are.
    with torch.device("cpu"):
        net: Any = architecture(_hidden_channels(networks["g_a"]), model.channels).float()
    for name, network in networks.items():
        real = in_real_numbers(network)
        layers = [layer for layer in real.layers if layer.operation not in ("abs", "round")]
        for layer, module in zip(layers, getattr(net, name), strict=True):
            _fill(module, layer)
    _fill_tables(net, model)
    return net.eval()  # type: ignore[no-any-return]


def _hidden_channels(analysis: Network) -> int:
    return len(analysis.layers[0].tensors["bias"])


@torch.no_grad()
def _fill(module: Any, layer: Layer) -> None:
    if layer.operation == "gdn":
        for reparam in (module.beta_reparam, module.gamma_reparam):
            # As its constructor has it, but in float32.
            reparam.lower_bound.bound.fill_((reparam.minimum + reparam.reparam_offset**2) ** 0.5)
        module.beta.copy_(module.beta_reparam.init(layer.tensors["beta"]))
        module.gamma.copy_(module.gamma_reparam.init(layer.tensors["gamma"]))
    elif "weight" in layer.tensors:
        for name, values in layer.tensors.items():
            getattr(module, name).copy_(values)


@torch.no_grad()
def _fill_tables(net: Any, model: Model) -> None:
    bottleneck = net.entropy_bottleneck
    for name, parameter in bottleneck.named_parameters():
        if name != "quantiles":
            parameter.fill_(float("nan"))
    medians = model.parts.medians.float() / ONE
    bottleneck.quantiles[:, 0, :] = medians[:, None]
    gaussian_rows = 0
    if model.parts.prior != FACTORIZED:
        scales = _scales(model.parts.thresholds)
        gaussian_rows = len(scales)
        net.gaussian_conditional.scale_table = scales
        for bound in (net.gaussian_conditional.lower_bound_scale.bound, net.gaussian_conditional.scale_bound):
            bound.fill_(scales[scales > 0][0])
        _fill_rows(net.gaussian_conditional, model, range(gaussian_rows))
    _fill_rows(bottleneck, model, range(gaussian_rows, model.tables.rows))


def _scales(thresholds: Tensor) -> Tensor:
    """The scale table: thresholds are all scales but the last, which nothing is compared with. Those that lay below the
    least scale are 0.
    """
    scales = thresholds.clamp(min=0).float() / ONE
    last = scales.new_tensor([float(scale_table()[-1]), *scales[-1:]]).max()
    return torch.cat((scales, last[None]))


def _fill_rows(entropy_model: Any, model: Model, rows: range) -> None:
    tables = model.tables
    lengths = tables.lengths[rows.start : rows.stop]
    cdf = torch.zeros((len(rows), int(lengths.max())), dtype=torch.int32, device="cpu")
    for target, row in enumerate(rows):
        start, length = tables.starts[row], tables.lengths[row]
        cdf[target, :length] = torch.from_numpy(tables.cdf[start : start + length])
    entropy_model._quantized_cdf = cdf
    entropy_model._cdf_length = torch.from_numpy(lengths.copy())
    entropy_model._offset = torch.from_numpy(tables.offsets[rows.start : rows.stop].copy())
