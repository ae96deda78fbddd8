"""Where CompressAI's models keep their parts. compressai itself is not imported: who has such a model has it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from robuststream.errors import UnsupportedModel
from robuststream.model.parts import (
    CHANNEL_CONTEXT,
    CONTEXT_MODEL,
    CONTEXT_PREDICTION,
    ENTROPY_PARAMETERS,
    FACTORIZED,
    MEAN_SCALE_HYPERPRIOR,
    SCALE_HYPERPRIOR,
    group_network,
)
from robuststream.priors.channel_groups import Group

RASTER_SCAN = "raster-scan"
#: CompressAI's names of the architectures, their classes, and the prior or spatial context each has (None: what its
#: latent codec says).
ARCHITECTURES: dict[str, tuple[str, str | None]] = {
    "bmshj2018-factorized": ("FactorizedPrior", FACTORIZED),
    "bmshj2018-factorized-relu": ("FactorizedPriorReLU", FACTORIZED),
    "bmshj2018-hyperprior": ("ScaleHyperprior", SCALE_HYPERPRIOR),
    "mbt2018-mean": ("MeanScaleHyperprior", MEAN_SCALE_HYPERPRIOR),
    "mbt2018": ("JointAutoregressiveHierarchicalPriors", RASTER_SCAN),
    "cheng2020-anchor": ("Cheng2020Anchor", RASTER_SCAN),
    "cheng2020-attn": ("Cheng2020Attention", RASTER_SCAN),
    "cheng2020-anchor-checkerboard": ("Cheng2020AnchorCheckerboard", None),
    "elic2022-official": ("Elic2022Official", None),
    "elic2022-chandelier": ("Elic2022Chandelier", None),
    "bmshj2018-hyperprior-vbr": ("ScaleHyperpriorVbr", SCALE_HYPERPRIOR),
    "mbt2018-mean-vbr": ("MeanScaleHyperpriorVbr", MEAN_SCALE_HYPERPRIOR),
    "mbt2018-vbr": ("JointAutoregressiveHierarchicalPriorsVbr", RASTER_SCAN),
}


@dataclass
class Anatomy:
    """A model's parts, wherever its class keeps them.

    Attributes:
        name: of the architecture, or of the user's class.
        prior: as ModelParts.prior.
        bottleneck: the EntropyBottleneck of z, or of y where the prior is factorized.
        conditionals: the GaussianConditionals of y.
        hyper: h_a and h_s.
        absolute: h_a takes |y|.
        groups: of y's channels, for context models; a single one has all of them, however many it says.
        networks: the groups' networks: module and number of input channels, by name. None where the number is
            that of everything known there.
    """

    name: str
    prior: str
    bottleneck: Any
    conditionals: list[Any] = field(default_factory=list)
    hyper: tuple[nn.Module, nn.Module] | None = None
    absolute: bool = False
    groups: tuple[Group, ...] = ()
    networks: dict[str, nn.Module] = field(default_factory=dict)


def dissect(net: Any) -> Anatomy:
    """Find the parts of a CompressAI model, or of a user's own made of CompressAI's latent codecs.

    Raises:
        UnsupportedModel: naming the module that has no counterpart, and what would be needed.
    """
    # By the exact type: an autoregressive model is a subclass of a hyperprior, and not one.
    for name, (cls, prior) in ARCHITECTURES.items():
        if _is_compressai(net, cls):
            return _latent_codec(name, net.latent_codec) if prior is None else _attributes(name, net, prior)
    own = type(net)
    bases = [base for base in own.__mro__ if is_compressais(base) and base.__name__ == "SimpleVAECompressionModel"]
    if not bases or not all(hasattr(net, part) for part in ("g_a", "g_s", "latent_codec")):
        raise UnsupportedModel(
            f"{own.__module__}.{own.__name__} cannot be frozen: known are {', '.join(ARCHITECTURES)}, and classes "
            "derived from compressai's SimpleVAECompressionModel with g_a, g_s and a latent_codec"
        )
    for method in ("compress", "decompress"):
        if getattr(own, method) is not getattr(bases[0], method):
            raise UnsupportedModel(
                f"{own.__module__}.{own.__name__} has a {method} of its own, so what it does is not known: "
                "it would have to be SimpleVAECompressionModel's"
            )
    return _latent_codec(own.__name__, net.latent_codec)


def _attributes(name: str, net: Any, prior: str) -> Anatomy:
    """The models that keep their parts as attributes."""
    if prior == FACTORIZED:
        return Anatomy(name, prior, net.entropy_bottleneck)
    hyper, conditionals = (net.h_a, net.h_s), [net.gaussian_conditional]
    if prior != RASTER_SCAN:
        absolute = prior == SCALE_HYPERPRIOR
        return Anatomy(name, prior, net.entropy_bottleneck, conditionals, hyper, absolute)
    networks = {
        group_network(0, CONTEXT_PREDICTION): net.context_prediction,
        group_network(0, ENTROPY_PARAMETERS): net.entropy_parameters,
    }
    groups = (Group(net.context_prediction.in_channels, context=RASTER_SCAN),)
    return Anatomy(name, CONTEXT_MODEL, net.entropy_bottleneck, conditionals, hyper, False, groups, networks)


def _latent_codec(name: str, codec: Any) -> Anatomy:
    """The models whose prior is a tree of latent codecs."""
    if _is_compressai(codec, "EntropyBottleneckLatentCodec"):
        return Anatomy(name, FACTORIZED, codec.entropy_bottleneck)
    _expect(codec, "HyperpriorLatentCodec", "the outermost latent codec")
    hyper, y = codec.hyper, codec.y
    _expect(hyper, "HyperLatentCodec", "the latent codec of z")
    anatomy = Anatomy(name, CONTEXT_MODEL, hyper.entropy_bottleneck, hyper=(hyper.h_a, hyper.h_s))
    if not _is_compressai(y, "ChannelGroupsLatentCodec"):
        anatomy.groups = (_group(anatomy, 0, y, channels=0, takes=()),)
        return anatomy
    groups = []
    for number, channels in enumerate(y.groups):
        takes = _taken_groups(y, number)
        if takes:
            anatomy.networks[group_network(number, CHANNEL_CONTEXT)] = y.channel_context[f"y{number}"]
        groups.append(_group(anatomy, number, y.latent_codec[f"y{number}"], channels, takes))
    anatomy.groups = tuple(groups)
    return anatomy


def _group(anatomy: Anatomy, number: int, codec: Any, channels: int, takes: tuple[int, ...]) -> Group:
    """One group of channels; its networks and its GaussianConditional go into the anatomy."""
    where = f"the latent codec of y{number}"
    context, chunks, parameters = "none", ("scales", "means"), None
    if _is_compressai(codec, "GaussianConditionalLatentCodec"):
        inner = codec
    elif _is_compressai(codec, "CheckerboardLatentCodec"):
        context = "checkerboard" if codec.anchor_parity == "even" else "checkerboard-odd"
        inner, parameters = codec.latent_codec["y"], codec.entropy_parameters
        _expect(inner, "GaussianConditionalLatentCodec", f"{where}, inside the checkerboard,")
        if not isinstance(inner.entropy_parameters, nn.Identity):
            raise UnsupportedModel(f"{where}: entropy parameters inside a checkerboard's latent codec are not known")
    else:
        _expect(codec, "RasterScanLatentCodec", where)
        context, inner, parameters = RASTER_SCAN, codec, codec.entropy_parameters
    if parameters is None and not isinstance(inner.entropy_parameters, nn.Identity):
        parameters = inner.entropy_parameters
    if context != RASTER_SCAN:
        chunks = tuple(inner.chunks)
    if context != "none":
        anatomy.networks[group_network(number, CONTEXT_PREDICTION)] = codec.context_prediction
    if parameters is not None:
        anatomy.networks[group_network(number, ENTROPY_PARAMETERS)] = parameters
    anatomy.conditionals.append(inner.gaussian_conditional)
    return Group(channels, chunks, context, takes)


def _taken_groups(codec: Any, number: int) -> tuple[int, ...]:
    """Which groups a channel context sees: what the codec's own `merge_y` makes of marked channels."""
    if number == 0:
        return ()
    marked = [
        torch.full((1, channels, 1, 1), float(mark), dtype=torch.float32, device="cpu")
        for mark, channels in enumerate(codec.groups[:number])
    ]
    merged = codec.merge_y(*marked).flatten().tolist()
    takes = tuple(int(mark) for mark in dict.fromkeys(merged))
    whole = [mark for mark in takes for _ in range(codec.groups[mark])]
    if merged != whole or list(takes) != sorted(takes):
        raise UnsupportedModel(f"the channel context of y{number} takes channels in an order that is not known")
    return takes


def _expect(module: Any, cls: str, what: str) -> None:
    if not _is_compressai(module, cls):
        raise UnsupportedModel(f"{what} is a {type(module).__name__}, which is not known: it would have to be a {cls}")


def _is_compressai(module: Any, cls: str) -> bool:
    return type(module).__name__ == cls and is_compressais(type(module))


def is_compressais(cls: type) -> bool:
    """Whether a class is one of CompressAI's own."""
    return cls.__module__.split(".")[0] == "compressai"
