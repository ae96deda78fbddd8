"""A frozen model: networks, prior, tables and digests in one safetensors file that executes nothing (spec/model.md)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from robuststream.entropy.tables import CdfTables
from robuststream.errors import ModelNotFound, UnsupportedModel
from robuststream.files import write_file
from robuststream.networks.exact import ExactNetwork
from robuststream.networks.fixedpoint import LIMIT, ONE, LayerBound
from robuststream.networks.floating import FloatingNetwork
from robuststream.networks.graph import Network, network_from_description
from robuststream.priors.factorized import Factorized
from robuststream.priors.hyperprior import Hyperprior
from robuststream.priors.walk import Prior

FORMAT = 1
METADATA_KEY = "robuststream.model"
MAX_FILE_BYTES = 4 << 30
MAX_TEXT = 4096
#: Of one network; also limits what the known answer takes.
MAX_SCALE = 64

FACTORIZED, SCALE_HYPERPRIOR, MEAN_SCALE_HYPERPRIOR = "factorized", "scale-hyperprior", "mean-scale-hyperprior"
#: Networks each prior has; those of the second set yield entropy parameters, so they are exact.
PRIORS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    FACTORIZED: (frozenset({"g_a", "g_s"}), frozenset()),
    SCALE_HYPERPRIOR: (frozenset({"g_a", "g_s", "h_a"}), frozenset({"h_s"})),
    MEAN_SCALE_HYPERPRIOR: (frozenset({"g_a", "g_s", "h_a"}), frozenset({"h_s"})),
}


@dataclass(frozen=True, eq=False)
class ModelParts:
    """What a frozen model consists of, as data.

    Attributes:
        prior: a key of PRIORS.
        networks: by name; g_a, g_s, h_a floating, h_s exact.
        tables: Gaussian rows first, then one row per channel of the entropy bottleneck.
        medians: int32 (C,) at 2^-12, of the entropy bottleneck's channels.
        thresholds: int32 (L - 1,) at 2^-12, between the L Gaussian rows; empty for factorized priors.
        texts: name, licence, attribution, origin: for people, in no digest.
    """

    prior: str
    networks: Mapping[str, Network]
    tables: CdfTables
    medians: Tensor
    thresholds: Tensor
    texts: Mapping[str, str] = field(default_factory=dict)

    def entropy_tensors(self) -> dict[str, Tensor]:
        tables = {
            "tables.cdf": torch.from_numpy(self.tables.cdf),
            "tables.lengths": torch.from_numpy(self.tables.lengths),
            "tables.offsets": torch.from_numpy(self.tables.offsets),
        }
        return tables | {"medians": self.medians, "thresholds": self.thresholds}


class Model:
    """A frozen model, ready to code. Immutable: threads may share it, and it can be pickled.

    Attributes:
        name: for people; the digests are what counts.
        parameters_digest, synthesis_digest: 16 bytes each, see spec/model.md section 6.
        latent_stride: pixels per latent of y, in each direction.
        factor: pixels per latent of the deepest level; pictures are padded to a multiple of it.
        channels: of y.
        device: where the analysis and synthesis transforms run; the exact networks always run on the CPU.
    """

    def __init__(self, parts: ModelParts, device: torch.device | str = "cpu") -> None:
        _check_parts(parts)
        self.parts = parts
        self.device = torch.device(device)
        self.name = parts.texts.get("name", "")
        self.analysis = FloatingNetwork(parts.networks["g_a"], self.device)
        self.synthesis = FloatingNetwork(parts.networks["g_s"], self.device)
        self.tables = parts.tables
        self.latent_stride = parts.networks["g_s"].scale[0]
        self.channels = parts.networks["g_s"].channels[0]
        self._exact = {name: ExactNetwork(parts.networks[name]) for name in sorted(PRIORS[parts.prior][1])}
        self.prior = self._make_prior()
        self.factor = self.latent_stride * self.prior.hyper_factor
        self.parameters_digest = parameters_digest(parts)
        self.synthesis_digest = _digest({"format": FORMAT}, [parts.networks["g_s"]], {})

    def _make_prior(self) -> Prior:
        parts = self.parts
        if parts.prior == FACTORIZED:
            return Factorized(parts.medians)
        return Hyperprior(
            FloatingNetwork(parts.networks["h_a"], self.device),
            self._exact["h_s"],
            parts.medians,
            parts.thresholds,
            means=parts.prior == MEAN_SCALE_HYPERPRIOR,
        )

    @property
    def bounds(self) -> Mapping[str, list[LayerBound]]:
        """The proof of exactness, layer by layer, of each network that yields entropy parameters."""
        return {name: network.bounds for name, network in self._exact.items()}

    def known_answer(self) -> str:
        """SHA-256 of what the exact networks make of a fixed input: equal on every machine that may decode."""
        digest = hashlib.sha256()
        for _, network in sorted(self._exact.items()):
            channels = network.network.channels[0]
            # Symbols from -8 to 8, without a pattern that a kernel's blocking could hide behind.
            ramp = np.arange(channels * 16, dtype=np.int64)
            symbols = (ramp * 1103515245 + 12345 >> 16) % 17 - 8
            answer = network(torch.from_numpy(symbols * ONE).reshape(1, channels, 4, 4))
            digest.update(answer.to(torch.int32).numpy().astype("<i4").tobytes())
        return digest.hexdigest()[:32]

    def to_bytes(self) -> bytes:
        """The model file."""
        parts = self.parts
        description = {
            "format": FORMAT,
            "prior": parts.prior,
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
        """
        try:
            description = read_description(data)
            tensors = safetensors.torch.load(data)
            model = cls(_parts_from(description, tensors), device)
            named = [description[name] for name in ("parameters_digest", "synthesis_digest", "known_answer")]
            computed = [model.parameters_digest.hex(), model.synthesis_digest.hex(), model.known_answer()]
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise UnsupportedModel(f"{source}: not a valid model file ({error}): get a whole copy of it") from error
        except UnsupportedModel as error:
            raise UnsupportedModel(f"{source}: {error}") from error
        if computed[0] != named[0]:
            raise UnsupportedModel(f"{source}: its tensors do not have the digest it names: the file is damaged")
        if computed[1] != named[1]:
            raise UnsupportedModel(f"{source}: its synthesis transform does not have the digest it names: damaged file")
        if computed[2] != named[2]:
            raise UnsupportedModel(
                f"{source}: the known-answer test fails: this machine does not compute the exact networks exactly, "
                "so nothing is decoded on it. Please report it with your CPU and torch version"
            )
        return model

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Model:
        """Read a model file from `path`.

        Raises:
            ModelNotFound: it cannot be read. UnsupportedModel: it is not valid.
        """
        try:
            if Path(path).stat().st_size > MAX_FILE_BYTES:
                raise UnsupportedModel(f"{path}: larger than any model file may be ({MAX_FILE_BYTES} bytes)")
            data = Path(path).read_bytes()
        except OSError as error:
            raise ModelNotFound(f"{path}: the model file cannot be read ({error.strerror})") from error
        return cls.from_bytes(data, device, str(path))

    def __reduce__(self) -> tuple[Any, ...]:
        return Model.from_bytes, (self.to_bytes(), str(self.device))

    def __repr__(self) -> str:
        return f"<Model {self.name} ({self.parts.prior}), parameters {self.parameters_digest.hex()}>"


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no white space, ASCII only: one text for one value. Floats do not occur in it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def parameters_digest(parts: ModelParts) -> bytes:
    """Names all that entropy decoding depends on: prior, geometry, exact networks, tables, medians, thresholds."""
    head = {"format": FORMAT, "prior": parts.prior, "latent_stride": parts.networks["g_s"].scale[0]}
    exact = [parts.networks[name] for name in sorted(PRIORS[parts.prior][1])]
    return _digest(head, exact, parts.entropy_tensors())


def _digest(head: Mapping[str, Any], networks: list[Network], tensors: dict[str, Tensor]) -> bytes:
    described = dict(head) | {"networks": {network.name: network.description() for network in networks}}
    digest = hashlib.sha256(canonical_json(described).encode())
    named = dict(tensors)
    for network in networks:
        named |= network.named_tensors()
    kinds = {torch.float32: "<f4", torch.int32: "<i4", torch.int64: "<i8"}
    for name, tensor in sorted(named.items()):
        kind = kinds[tensor.dtype]
        digest.update(f"\n{name} {kind} {'x'.join(map(str, tensor.shape))}\n".encode())
        digest.update(tensor.contiguous().numpy().astype(kind).tobytes())
    return digest.digest()[:16]


def read_description(data: bytes) -> dict[str, Any]:
    """The description in a model file's safetensors header; `data` may end behind the header.

    Raises:
        ValueError, KeyError: not a model file of this format.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise ValueError(f"{len(data)} bytes are too few, or no safetensors file")
    try:
        header = json.loads(data[8 : 8 + size].decode())
        metadata = header.get("__metadata__") if isinstance(header, dict) else None
        text = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
        description = json.loads(text) if isinstance(text, str) else None
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(description, dict):
        raise ValueError("without a robuststream model's description")
    if description["format"] != FORMAT:
        raise ValueError(f"model format {description['format']}, this release reads {FORMAT}")
    return description


def _parts_from(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ModelParts:
    prior = description["prior"]
    if prior not in PRIORS:
        raise UnsupportedModel(f"prior {prior!r} is not one of {', '.join(PRIORS)}")
    floating, exact = PRIORS[prior]
    if set(description["networks"]) != floating | exact:
        raise UnsupportedModel(f"the networks of {prior} are {', '.join(sorted(floating | exact))}")
    networks = {
        name: network_from_description(name, layers, tensors, exact=name in exact)
        for name, layers in description["networks"].items()
    }
    texts = description["texts"]
    if not all(isinstance(text, str) and len(text) <= MAX_TEXT and text.isprintable() for text in texts.values()):
        raise UnsupportedModel(f"a text is longer than {MAX_TEXT} characters, or not printable")
    tables = CdfTables(*(tensors[f"tables.{name}"].numpy() for name in ("cdf", "lengths", "offsets")))
    return ModelParts(prior, networks, tables, tensors["medians"], tensors["thresholds"], texts)


def _check_parts(parts: ModelParts) -> None:
    """See that networks, tables, medians and thresholds belong together."""
    networks, medians, thresholds = parts.networks, parts.medians, parts.thresholds
    analysis, synthesis = networks["g_a"], networks["g_s"]
    problem = None
    if any(max(network.scale) > MAX_SCALE for network in networks.values()):
        problem = f"a network scales sizes by more than {MAX_SCALE}"
    elif analysis.scale != synthesis.scale[::-1] or synthesis.scale[1] != 1:
        problem = f"g_a scales by {analysis.scale} and g_s by {synthesis.scale}"
    elif analysis.channels != synthesis.channels[::-1] or analysis.channels[0] != 3:
        problem = f"g_a maps {analysis.channels} channels and g_s {synthesis.channels}"
    elif any(tensor.dtype != torch.int32 or tensor.ndim != 1 for tensor in (medians, thresholds)):
        problem = "medians and thresholds must be int32 with one dimension"
    elif len(medians) == 0 or not -LIMIT <= int(medians.min()) <= int(medians.max()) <= LIMIT:
        problem = "medians are missing or beyond 2^24"
    elif (torch.diff(thresholds.long()) < 0).any() or (thresholds.long().abs() > LIMIT + 1).any():
        problem = "thresholds do not rise, or are beyond 2^24"
    elif parts.prior == FACTORIZED:
        if len(thresholds) or not len(medians) == parts.tables.rows == synthesis.channels[0]:
            problem = "a factorized prior has one table row and median per channel of y, and no thresholds"
    else:
        problem = _hyperprior_problem(parts)
    if problem:
        raise UnsupportedModel(problem)


def _hyperprior_problem(parts: ModelParts) -> str | None:
    analysis, synthesis = parts.networks["h_a"], parts.networks["h_s"]
    channels = parts.networks["g_s"].channels[0]
    outputs = channels * (2 if parts.prior == MEAN_SCALE_HYPERPRIOR else 1)
    if analysis.scale != synthesis.scale[::-1] or synthesis.scale[1] != 1:
        return f"h_a scales by {analysis.scale} and h_s by {synthesis.scale}"
    if analysis.channels != (channels, len(parts.medians)) or synthesis.channels != (len(parts.medians), outputs):
        return f"h_a maps {analysis.channels} channels and h_s {synthesis.channels}, with {len(parts.medians)} medians"
    if parts.tables.rows != len(parts.thresholds) + 1 + len(parts.medians):
        return f"{parts.tables.rows} table rows, {len(parts.thresholds)} thresholds, {len(parts.medians)} medians"
    return None
