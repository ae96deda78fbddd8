"""From a CompressAI module or checkpoint to a frozen model. The only part of the library that needs compressai."""

from __future__ import annotations

import copy
import importlib
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from robuststream.errors import UnsupportedModel, first_line
from robuststream.model.anatomy import ARCHITECTURES, Anatomy, dissect
from robuststream.model.checkpoints import State, fitted, read_state
from robuststream.model.devices import find_device
from robuststream.model.frozen import Model
from robuststream.model.gains import VARIABLE_RATE, freeze_gains, freeze_z_steps
from robuststream.model.parts import (
    CHANNEL_CONTEXT,
    CONTEXT_PREDICTION,
    ENTROPY_PARAMETERS,
    ModelParts,
    group_network,
)
from robuststream.model.tables import EntropyModels
from robuststream.networks.fixedpoint import check_finite
from robuststream.networks.graph import Layer, Network
from robuststream.networks.narrowing import freeze_exact
from robuststream.networks.native import LiveNetwork
from robuststream.networks.trace import trace


def freeze(
    net: nn.Module,
    *,
    name: str | None = None,
    licence: str = "",
    attribution: str = "",
    device: torch.device | str = "cpu",
    native: bool = False,
    update_tables: bool = False,
) -> Model:
    """Freeze a CompressAI model: entropy networks in integers, CDF tables as they are, everything else as it is.

    Args:
        net: one of CompressAI's image models (`ARCHITECTURES`), with any N and M, or a SimpleVAECompressionModel of
            the user's own whose latent codec is made of CompressAI's in the same shapes. It is not changed. What
            DataParallel, torch.compile or weight averaging wrap around it does not matter. A net whose tables were
            never built gets them here, once; where weights were trained on after that, it is said.
        name: for people; the architecture and N, M when not given.
        licence, attribution: of the weights and what they were trained on; kept in the model file.
        device: where the model's analysis and synthesis transforms run.
        native: keep entropy networks that have no exact form as the modules they are. Such a model codes in native
            mode only and has no model file: the decoder needs the module as well.
        update_tables: build the CDF tables anew from the weights, as CompressAI's `update(force=True)` does, but the
            same on every machine. A class with an `update` of its own is asked itself, and builds what it builds.

    Raises:
        UnsupportedModel: another architecture, or layers or weights that have no exact form, or numbers that cannot be.
        DeviceNotFound: the device is not there.
    """
    if not isinstance(net, nn.Module):
        raise UnsupportedModel(
            f"a {type(net).__name__} cannot be frozen: a module is needed, or freeze_checkpoint for a file"
        )
    device = find_device(device)
    # A caller's default device, autocast and gradients are not for what is computed here.
    with torch.device("cpu"), torch.autocast("cpu", enabled=False), torch.no_grad():
        whole, anatomy = _taken_apart(unwrapped(net))
        parts = _parts(whole, anatomy, native, update_tables)
    sizes = f"{anatomy.bottleneck.channels}-{parts.networks['g_s'].channels[0]}"
    texts = {
        "name": name or f"{anatomy.name}-{sizes}"[:64],
        "licence": licence,
        "attribution": attribution,
        "origin": "CompressAI {}, N={}, M={}".format(anatomy.name, *sizes.split("-")),
    }
    return Model(replace(parts, texts=texts), device)


def _taken_apart(net: nn.Module) -> tuple[Any, Anatomy]:
    """A copy of a net, on the CPU, in float32 and without wrappers inside, and where its parts are."""
    if not any(unwrapped(module) is not module for module in net.modules()):
        dissect(net)  # before anything is copied: most refusals come of it
    try:
        whole: Any = copy.deepcopy(net).cpu().float().eval()
    except Exception as error:  # a module may hold what cannot be copied: hooks' tensors of old reparametrisations
        reason = first_line(error)
        raise UnsupportedModel(f"{type(net).__name__} cannot be copied ({reason})") from error
    _unwrap_inside(whole)
    anatomy = dissect(whole)
    _check_numbers(whole, anatomy)
    return whole, anatomy


def _parts(whole: Any, anatomy: Anatomy, native: bool, update_tables: bool) -> ModelParts:
    variable = hasattr(whole, "Gain")
    z_steps = freeze_z_steps(whole) if variable else None
    entropy = EntropyModels(whole, anatomy, z_steps, update_tables)
    gains = freeze_gains(whole, z_steps, entropy.thresholds) if variable else None
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
    return ModelParts(
        anatomy.prior, networks, entropy.tables, entropy.medians, entropy.thresholds, anatomy.groups, gains
    )


def unwrapped(net: nn.Module) -> nn.Module:
    """What DataParallel and its like, torch.compile, and weight averaging wrap around a module."""
    while True:
        inner = getattr(net, "_orig_mod", None)
        if inner is None and isinstance(net, (nn.DataParallel, DistributedDataParallel, AveragedModel)):
            inner = net.module
        if not isinstance(inner, nn.Module):
            return net
        net = inner


def _unwrap_inside(module: nn.Module) -> None:
    for key, child in module.named_children():
        plain = unwrapped(child)
        if plain is not child:
            module._modules[key] = plain
        _unwrap_inside(plain)


def _check_numbers(whole: Any, anatomy: Anatomy) -> None:
    """The weights that become a model's, by the names they have in a checkpoint."""
    modules = [whole.g_a, whole.g_s, *(anatomy.hyper or ()), *anatomy.networks.values()]
    modules += [getattr(whole, name) for name in VARIABLE_RATE if hasattr(whole, name)]
    used = {id(tensor) for module in modules for tensor in chain(module.parameters(), module.buffers())}
    for key, tensor in chain(whole.named_parameters(), whole.named_buffers()):
        if id(tensor) not in used:
            continue
        if tensor.is_complex() or (isinstance(tensor, nn.Parameter) and not tensor.is_floating_point()):
            raise UnsupportedModel(f"{key} is {tensor.dtype}, where floating-point numbers are needed")
        check_finite(key, tensor)


def freeze_checkpoint(
    architecture: str,
    checkpoint: str | Path,
    *,
    name: str | None = None,
    licence: str = "",
    attribution: str = "",
    update_tables: bool = False,
) -> Model:
    """Freeze a checkpoint file. Nothing in it is run: torch.load reads it with `weights_only=True`.

    Args:
        architecture: a key of ARCHITECTURES, or `package.module:function`: an importable factory that takes nothing
            and gives the module to load the state dict into.
        checkpoint: the file: a state dict, alone or somewhere in a dict of other things, as torch.save or safetensors
            writes it. Names may be those of older releases of CompressAI, and have in front what DataParallel,
            torch.compile or an attribute of the training program put there.
        name, licence, attribution, update_tables: as for `freeze`.

    Raises:
        ModelNotFound: the file cannot be read. UnsupportedModel: it does not hold such a model.
    """
    if architecture not in ARCHITECTURES and ":" not in architecture:
        raise UnsupportedModel(
            f"architecture {architecture!r} is not one of {', '.join(ARCHITECTURES)}, and no package.module:function"
        )
    models = _models()
    state = _loadable(read_state(checkpoint))
    try:
        with torch.device("cpu"):
            net = _made(models, architecture, state)
            # Where the default type is not float32 the net was made, and loaded, in another.
            net.float().load_state_dict(fitted(state, net, checkpoint))
    except (KeyError, RuntimeError, TypeError, AttributeError, AssertionError, ValueError, IndexError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2]) or type(error).__name__
        raise UnsupportedModel(f"{checkpoint}: does not hold a {architecture} ({reason})") from error
    return freeze(net, name=name, licence=licence, attribution=attribution, update_tables=update_tables)


def _made(models: Any, architecture: str, state: State) -> nn.Module:
    """A module of the size that a state dict is of; what is in it does not count."""
    if ":" in architecture:
        return unwrapped(make_module(architecture))
    cls = getattr(models, ARCHITECTURES[architecture][0])
    # One class, with z's step variable or not: only the state dict tells.
    variable = {"vr_entbttlnck": True} if any(key.startswith("gayn2zqstep") for key in state) else {}
    return cls.from_state_dict(dict(state), **variable)  # type: ignore[no-any-return]


def _loadable(state: State) -> State:
    """Without what CompressAI's own classes of variable rate do not load."""
    # Of its first models of this kind, and used by none.
    state.pop("QuantOffset", None)
    if any(key.startswith("gayn2zqstep") for key in state):
        # These tables are built for each quality index anyway.
        for key in ("_quantized_cdf", "_cdf_length", "_offset"):
            state[f"entropy_bottleneck.{key}"] = torch.zeros(0, dtype=torch.int32, device="cpu")
    return state


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
