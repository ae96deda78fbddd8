"""A frozen model, ready to code; one safetensors file that executes nothing (spec/model.md)."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from robuststream.container.packets import Mode
from robuststream.errors import UnsupportedModel, first_line
from robuststream.files.writing import write_file
from robuststream.model.devices import find_device
from robuststream.model.file import FORMAT, METADATA_KEY, not_a_model, read_description, read_model_file
from robuststream.model.filekinds import HEAD
from robuststream.model.parts import (
    CHANNEL_CONTEXT,
    CONTEXT_PREDICTION,
    ENTROPY_PARAMETERS,
    FACTORIZED,
    ModelParts,
    canonical_json,
    group_network,
    parts_from_description,
)
from robuststream.networks.exact import ExactNetwork
from robuststream.networks.fixedpoint import ONE, LayerBound, prove
from robuststream.networks.floating import FloatingNetwork
from robuststream.networks.graph import Network
from robuststream.networks.native import NativeNetwork
from robuststream.priors.channel_groups import NO_CONTEXT, ORDERS, ChannelGroups
from robuststream.priors.context import SpatialContext, gathered
from robuststream.priors.factorized import Factorized
from robuststream.priors.gain import Gain
from robuststream.priors.gaussian import Gaussian
from robuststream.priors.hyperprior import Hyperprior, LatentCoder, Parallel
from robuststream.priors.walk import Prior, Runner

log = logging.getLogger(__name__)

#: A native network's name and the network, to what is used in its place.
Change = Callable[[str, Runner], Runner]


class Model:
    """A frozen model, ready to code. Immutable: threads may share it, and it can be pickled.

    Attributes:
        name: for people; the digests are what counts.
        parameters_digest, synthesis_digest: 16 bytes each, see spec/model.md section 6.
        latent_stride: pixels per latent of y, in each direction.
        factor: pixels per latent of the deepest level; pictures are padded to a multiple of it.
        channels: of y.
        qualities: how many quality indexes there are; 1 where the rate is not variable.
        device: where the analysis and synthesis transforms run.
        exact_device: where the networks of the entropy parameters run: the same, or the CPU if it is not exact there.

    Args:
        change: a function of a native network's name and the network, which gives the one to use instead; for models
            that are wrong on purpose (`faults.drifted`). Digests do not show it.

    Raises:
        UnsupportedModel: sums of a network could leave the exact range.
    """

    def __init__(self, parts: ModelParts, device: torch.device | str = "cpu", change: Change | None = None) -> None:
        self.parts = parts
        self._change = change
        self.device = torch.device(device)
        self.name = parts.texts.get("name", "")
        self.analysis = FloatingNetwork(parts.network("g_a"), self.device)
        self.synthesis = FloatingNetwork(parts.network("g_s"), self.device)
        self.tables = parts.tables
        self.latent_stride = parts.networks["g_s"].scale[0]
        self.channels = parts.networks["g_s"].channels[0]
        #: The proof of exactness, layer by layer, of each network that yields entropy parameters: asked for here alone.
        self.bounds = {} if parts.live_names else {name: prove(parts.network(name)) for name in parts.exact_names}
        self.qualities = 1 if parts.gains is None else len(parts.gains)
        #: Where the exact networks run: on the model's device, if that is seen to compute them exactly.
        self.exact_device = self._exact_device()
        self._makers = {
            mode: PriorMaker(parts, mode, self.bounds, (self.device, self.exact_device), change) for mode in Mode
        }
        #: What modes and quality indexes share of a prior: its geometry, and what an encoder codes.
        self.prior = self._makers[Mode.NATIVE if parts.live_names else Mode.EXACT](0)
        self.factor = self.latent_stride * self.prior.hyper_factor
        self.parameters_digest = parts.parameters_digest()
        self.synthesis_digest = parts.synthesis_digest()

    def _exact_device(self) -> torch.device:
        """A device on which the known answer is the CPU's, and else the CPU, which is said."""
        cpu = torch.device("cpu")
        if self.device.type == "cpu" or self.parts.live_names:
            return cpu
        try:
            if self.known_answer(self.device) == self.known_answer(cpu):
                return self.device
            reason = "the known-answer test fails there"
        except (UnsupportedModel, RuntimeError, NotImplementedError) as error:
            reason = first_line(error)
        what = "the networks of its entropy parameters run on the CPU"
        log.warning("%s: %s, not on %s: %s", self.name, what, self.device, reason)
        return cpu

    @property
    def engines(self) -> dict[str, str]:
        """What each exact network multiplies with on this machine: "int8", "float64" or "float32"; of no account for
        what comes out."""
        networks = {name: self.parts.network(name) for name in self.bounds}
        return {
            name: ExactNetwork(network, self.bounds[name], self.exact_device).engine.name
            for name, network in networks.items()
        }

    def known_answer(self, device: torch.device | str = "cpu") -> str:
        """SHA-256 of what the exact networks make of a fixed input: equal on every machine that may decode."""
        digest = hashlib.sha256()
        for name, bounds in self.bounds.items():
            # Made for this and let go: each holds its weights once more.
            network = ExactNetwork(self.parts.network(name), bounds, device)
            channels = network.network.channels[0]
            # Symbols from -8 to 8, without a pattern that a kernel's blocking could hide behind.
            ramp = np.arange(channels * 16, dtype=np.int64)
            symbols = (ramp * 1103515245 + 12345 >> 16) % 17 - 8
            answer = network(torch.from_numpy(symbols * ONE).reshape(1, channels, 4, 4))
            digest.update(answer.to(torch.int32).cpu().numpy().astype("<i4").tobytes())
        return digest.hexdigest()[:32]

    def prior_for(self, mode: Mode, quality: int = 0) -> Prior:
        """The prior with its networks in exact or native arithmetic, at a quality index.

        Raises:
            UnsupportedModel: exact mode, for a model with modules that have no exact form.
        """
        if mode == Mode.EXACT and self.parts.live_names:
            names = ", ".join(self.parts.live_names)
            raise UnsupportedModel(f"{self.name}: {names} have no exact form: use mode='native' (--mode native)")
        return self._makers[mode](quality)

    def to_bytes(self) -> bytes:
        """The model file.

        Raises:
            UnsupportedModel: a model with modules that are no data.
        """
        parts = self.parts
        if parts.live_names:
            names = ", ".join(parts.live_names)
            raise UnsupportedModel(f"{self.name}: {names} are code, not data, so there is no model file of it")
        description = {
            "format": FORMAT,
            **parts.described_prior(),
            "networks": {name: network.description() for name, network in parts.networks.items()},
            "parameters_digest": self.parameters_digest.hex(),
            "synthesis_digest": self.synthesis_digest.hex(),
            "known_answer": self.known_answer(),
            "texts": dict(parts.texts),
        }
        tensors = parts.entropy_tensors()
        for network in parts.networks.values():
            tensors |= network.named_tensors()
        return safetensors.torch.save(tensors, {METADATA_KEY: canonical_json(description)})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file, all or nothing. Raises OSError."""
        write_file(path, self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes, device: torch.device | str = "cpu", source: str = "model") -> Model:
        """Read a model file, checking every count, size and value.

        Raises:
            UnsupportedModel: the bytes are no valid model; `source` says whose in the message.
            DeviceNotFound: the device is not there.
        """
        return cls._of(data, find_device(device), source)

    @classmethod
    def _of(cls, data: bytes, device: torch.device, source: str, change: Change | None = None) -> Model:
        what = not_a_model(data[:HEAD])
        if what:
            raise UnsupportedModel(f"{source}: not a model file but {what}")
        try:
            description = read_description(data)
            # It makes empty tensors on whatever device is the default.
            with torch.device("cpu"):
                tensors = safetensors.torch.load(data)
            model = cls(parts_from_description(description, tensors), device, change)
            named = [description[name] for name in ("parameters_digest", "synthesis_digest", "known_answer")]
            computed = [model.parameters_digest.hex(), model.synthesis_digest.hex(), model.known_answer()]
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
            reason = first_line(error)
            if "memory" in reason:  # torch has no class of its own for this on a CPU
                raise
            raise UnsupportedModel(f"{source}: not a valid model file ({reason}): get a whole copy of it") from error
        except UnsupportedModel as error:
            raise UnsupportedModel(f"{source}: {error}") from error
        if computed[0] != named[0]:
            raise UnsupportedModel(f"{source}: its tensors do not have the digest it names: the file is damaged")
        if computed[1] != named[1]:
            raise UnsupportedModel(f"{source}: its synthesis transform does not have the digest it names: damaged file")
        if computed[2] != named[2]:
            raise UnsupportedModel(
                f"{source}: the known-answer test fails: either the file's own answer is damaged, or this machine does "
                "not compute the exact networks exactly, so nothing is decoded on it. Try another copy; if it fails as "
                "well, please report it with your CPU and torch version"
            )
        return model

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Model:
        """Read a model file from `path`.

        Raises:
            ModelNotFound: it cannot be read. UnsupportedModel: it is not valid. DeviceNotFound: no such device.
        """
        return cls.from_bytes(read_model_file(path), device, str(path))

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.to_bytes(), str(self.device), self._change)

    def __repr__(self) -> str:
        return f"<Model {self.name} ({self.parts.prior}), parameters {self.parameters_digest.hex()}>"


class PriorMaker:
    """Makes the walks of a model in one arithmetic, one for each quality index; its networks are made ready once.

    Args:
        bounds: of each exact network, by its name, as `prove` gives them; none are needed in native mode.
        devices: where the analysis runs, and where the exact networks do.
        change: as for `Model`.
    """

    def __init__(
        self,
        parts: ModelParts,
        mode: Mode,
        bounds: Mapping[str, Sequence[LayerBound]],
        devices: tuple[torch.device, torch.device],
        change: Change | None = None,
    ) -> None:
        self._parts = parts
        self._bounds = bounds
        self._exact = mode == Mode.EXACT
        self._change = change
        self._device, self._exact_device = devices
        self._runners: dict[str, Runner] = {}
        self._priors: dict[int, Prior] = {}

    def __call__(self, quality: int) -> Prior:
        if quality not in self._priors:
            self._priors[quality] = self._make(quality)
        return self._priors[quality]

    def _make(self, quality: int) -> Prior:
        parts = self._parts
        if parts.prior == FACTORIZED:
            return Factorized(parts.medians)
        gain, first_row = None, len(parts.thresholds) + 1
        if parts.gains is not None:
            gain = Gain.of(parts.gains, quality, self._exact)
            first_row += quality * len(parts.medians) if parts.gains.z_tables else 0
        groups = parts.coded_groups
        coders = [self._coder(number, gain) for number in range(len(groups))]
        contexts = [
            self._runner(group_network(number, CHANNEL_CONTEXT)) if group.takes else None
            for number, group in enumerate(groups)
        ]
        return Hyperprior(
            FloatingNetwork(parts.network("h_a"), self._device),
            self._runner("h_s"),
            parts.medians,
            first_row,
            factor=parts.networks["h_s"].scale[0],
            latent=coders[0] if len(groups) == 1 else ChannelGroups(groups, coders, contexts),
            z_step=ONE if gain is None else gain.z_step,
        )

    def _coder(self, number: int, gain: Gain | None) -> LatentCoder:
        """Of a group of channels."""
        parts = self._parts
        group, name = parts.coded_groups[number], group_network(number, ENTROPY_PARAMETERS)
        network = self._runner(name) if name in parts.networks else None
        gaussian = Gaussian(parts.thresholds, group.chunks, network, gain)
        if group.context == NO_CONTEXT:
            return Parallel(gaussian)
        name, order = group_network(number, CONTEXT_PREDICTION), ORDERS[group.context]
        pointwise, taps = gathered(parts.network(name), order)
        reach = parts.network(name).layers[-1].tensors["weight"].shape[2] // 2
        bias = gain.context_bias if gain is not None and len(gain.context_bias) else None
        prediction = self._runner(name, pointwise)
        channels = group.channels, pointwise.channels[1]
        return SpatialContext(gaussian, prediction, taps, *channels, reach, order, bias)

    def _runner(self, name: str, network: Network | None = None) -> Runner:
        if name not in self._runners:
            self._runners[name] = (
                ExactNetwork(network or self._parts.network(name), self._bounds[name], self._exact_device)
                if self._exact
                else self._native(name, NativeNetwork(network or self._parts.networks[name]))
            )
        return self._runners[name]

    def _native(self, name: str, network: NativeNetwork) -> Runner:
        return network if self._change is None else self._change(name, network)


def _unpickled(data: bytes, device: str, change: Change | None) -> Model:
    return Model._of(data, find_device(device), "model", change)
