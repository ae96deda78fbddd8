"""What a frozen model consists of, as data: checked, described, digested (spec/model.md, sections 3 to 6)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from robuststream.entropy.tables import CdfTables
from robuststream.errors import UnsupportedModel
from robuststream.model.file import FORMAT
from robuststream.networks.fixedpoint import LIMIT
from robuststream.networks.graph import Network, network_from_description
from robuststream.networks.native import LiveNetwork
from robuststream.priors.channel_groups import NO_CONTEXT, ORDERS, Group, groups_from_description
from robuststream.priors.context import prediction_problem
from robuststream.priors.gain import TENSORS, Gains
from robuststream.priors.gaussian import CHUNKS

MAX_TEXT = 4096
#: Of y, for each pixel; CompressAI's have 1.25 at most.
MAX_LATENTS = 64

FACTORIZED, SCALE_HYPERPRIOR, MEAN_SCALE_HYPERPRIOR = "factorized", "scale-hyperprior", "mean-scale-hyperprior"
CONTEXT_MODEL = "context-model"
PRIORS = (FACTORIZED, SCALE_HYPERPRIOR, MEAN_SCALE_HYPERPRIOR, CONTEXT_MODEL)


@dataclass(frozen=True, eq=False)
class ModelParts:
    """A frozen model as data.

    Attributes:
        prior: one of PRIORS.
        networks: by name; those `exact_names` gives are exact, or live in a model for native mode only; the others
            floating.
        tables: Gaussian rows first, then one row per channel of the entropy bottleneck.
        medians: int32 (C,) at 2^-12, of the entropy bottleneck's channels.
        thresholds: int32 (L - 1,) at 2^-12, between the L Gaussian rows; empty for factorized priors.
        groups: of y's channels, for context models.
        gains: of the quality indexes, in models of variable rate.
        texts: name, licence, attribution, origin: for people, in no digest.
    """

    prior: str
    networks: Mapping[str, Network | LiveNetwork]
    tables: CdfTables
    medians: Tensor
    thresholds: Tensor
    groups: tuple[Group, ...] = ()
    gains: Gains | None = None
    texts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise UnsupportedModel(problem)

    @property
    def exact_names(self) -> list[str]:
        """The networks that yield entropy parameters, by name in rising order."""
        return sorted(set(self.networks) - {"g_a", "g_s", "h_a"})

    @property
    def live_names(self) -> list[str]:
        """The networks that are no data, for which there is native mode only."""
        return [name for name, network in self.networks.items() if isinstance(network, LiveNetwork)]

    def network(self, name: str) -> Network:
        """A network that is data: g_a, g_s, h_a and context predictions always are."""
        network = self.networks[name]
        assert isinstance(network, Network)
        return network

    @property
    def coded_groups(self) -> tuple[Group, ...]:
        """How y is coded after z: every hyperprior's y in groups, a simple one's in a single group."""
        if self.groups:
            return self.groups
        chunks = CHUNKS[2] if self.prior == SCALE_HYPERPRIOR else CHUNKS[0]
        return (Group(self.networks["g_s"].channels[0], chunks),)

    def entropy_tensors(self) -> dict[str, Tensor]:
        tables = {
            "tables.cdf": torch.from_numpy(self.tables.cdf),
            "tables.lengths": torch.from_numpy(self.tables.lengths),
            "tables.offsets": torch.from_numpy(self.tables.offsets),
        }
        tables |= {"medians": self.medians, "thresholds": self.thresholds}
        return tables if self.gains is None else tables | self.gains.tensors()

    def described_prior(self) -> dict[str, Any]:
        """The prior as it stands in a model file and in the parameters digest."""
        described: dict[str, Any] = {"prior": self.prior}
        if self.groups:
            described["groups"] = [group.description() for group in self.groups]
        if self.gains is not None:
            described["gains"] = self.gains.description()
        return described

    def parameters_digest(self) -> bytes:
        """Names all that entropy decoding depends on: prior, geometry, exact networks, tables, medians, thresholds."""
        head = {"format": FORMAT, "latent_stride": self.networks["g_s"].scale[0]} | self.described_prior()
        return _digest(head, [self.networks[name] for name in self.exact_names], self.entropy_tensors())

    def synthesis_digest(self) -> bytes:
        return _digest({"format": FORMAT}, [self.networks["g_s"]], {})


def group_network(number: int, part: str) -> str:
    """The name of a group's network: `y0.context_prediction`."""
    return f"y{number}.{part}"


CHANNEL_CONTEXT, CONTEXT_PREDICTION, ENTROPY_PARAMETERS = "channel_context", "context_prediction", "entropy_parameters"


def network_names(prior: str, groups: tuple[Group, ...]) -> tuple[set[str], set[str]]:
    """Names a model's networks must have, and may have besides."""
    if prior == FACTORIZED:
        return {"g_a", "g_s"}, set()
    names = {"g_a", "g_s", "h_a", "h_s"}
    for number, group in enumerate(groups):
        names |= {group_network(number, CHANNEL_CONTEXT)} if group.takes else set()
        names |= {group_network(number, CONTEXT_PREDICTION)} if group.context != NO_CONTEXT else set()
    return names, {group_network(number, ENTROPY_PARAMETERS) for number in range(len(groups))}


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no white space, ASCII only: one text for one value. Floats do not occur in it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _digest(head: Mapping[str, Any], networks: list[Network | LiveNetwork], tensors: dict[str, Tensor]) -> bytes:
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


def parts_from_description(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ModelParts:
    """Rebuild a model's parts from untrusted data.

    Raises:
        UnsupportedModel, ValueError, KeyError, TypeError, AttributeError: whatever is wrong with them.
    """
    prior = description["prior"]
    if prior not in PRIORS:
        raise UnsupportedModel(f"prior {prior!r} is not one of {', '.join(PRIORS)}")
    groups = groups_from_description(description["groups"]) if prior == CONTEXT_MODEL else ()
    gains = None
    if "gains" in description and prior != FACTORIZED:
        gains = Gains(**{name: tensors[name] for name in TENSORS}, z_tables=description["gains"]["z_tables"])
    required, allowed = network_names(prior, groups)
    names = set(description["networks"])
    if not required <= names <= required | allowed:
        raise UnsupportedModel(f"the networks of {prior} are {', '.join(sorted(required))}, not {', '.join(names)}")
    networks: dict[str, Network | LiveNetwork] = {
        name: network_from_description(name, layers, tensors, exact=name not in ("g_a", "g_s", "h_a"))
        for name, layers in description["networks"].items()
    }
    texts = description["texts"]
    tables = CdfTables(*(tensors[f"tables.{name}"].numpy() for name in ("cdf", "lengths", "offsets")))
    return ModelParts(prior, networks, tables, tensors["medians"], tensors["thresholds"], groups, gains, texts)


def _problem(parts: ModelParts) -> str | None:
    """Why networks, tables, medians and thresholds do not belong together, or None where they do."""
    networks, medians, thresholds = parts.networks, parts.medians, parts.thresholds
    analysis, synthesis = networks["g_a"], networks["g_s"]
    if not all(isinstance(text, str) and len(text) <= MAX_TEXT and text.isprintable() for text in parts.texts.values()):
        return f"a text is longer than {MAX_TEXT} characters, or not printable"
    if analysis.scale != synthesis.scale[::-1] or synthesis.scale[1] != 1:
        return f"g_a scales by {analysis.scale} and g_s by {synthesis.scale}"
    if analysis.channels != synthesis.channels[::-1] or analysis.channels[0] != 3:
        return f"g_a maps {analysis.channels} channels and g_s {synthesis.channels}"
    if synthesis.channels[0] > MAX_LATENTS * synthesis.scale[0] ** 2:
        return f"more than {MAX_LATENTS} latents for each pixel"
    if any(tensor.dtype != torch.int32 or tensor.ndim != 1 for tensor in (medians, thresholds)):
        return "medians and thresholds must be int32 with one dimension"
    if len(medians) == 0 or not -LIMIT <= int(medians.min()) <= int(medians.max()) <= LIMIT:
        return "medians are missing or beyond 2^24"
    if (torch.diff(thresholds.long()) < 0).any() or (thresholds.long().abs() > LIMIT + 1).any():
        return "thresholds do not rise, or are beyond 2^24"
    if parts.prior == FACTORIZED:
        if len(thresholds) or not len(medians) == parts.tables.rows == synthesis.channels[0]:
            return "a factorized prior has one table row and median per channel of y, and no thresholds"
        return None
    return _hyperprior_problem(parts)


def _hyperprior_problem(parts: ModelParts) -> str | None:
    analysis, synthesis = parts.networks["h_a"], parts.networks["h_s"]
    channels = parts.networks["g_s"].channels[0]
    if analysis.scale != synthesis.scale[::-1] or synthesis.scale[1] != 1:
        return f"h_a scales by {analysis.scale} and h_s by {synthesis.scale}"
    if analysis.channels != (channels, len(parts.medians)) or synthesis.channels[0] != len(parts.medians):
        return f"h_a maps {analysis.channels} channels and h_s {synthesis.channels}, with {len(parts.medians)} medians"
    sets = len(parts.gains) if parts.gains is not None and parts.gains.z_tables else 1
    if parts.tables.rows != len(parts.thresholds) + 1 + sets * len(parts.medians):
        return f"{parts.tables.rows} table rows, {len(parts.thresholds)} thresholds, {len(parts.medians)} medians"
    if sum(group.channels for group in parts.coded_groups) != channels:
        return f"the groups' channels are not the {channels} of y"
    if parts.gains is not None:
        problem = _gains_problem(parts, parts.gains)
        if problem:
            return problem
    for number, group in enumerate(parts.coded_groups):
        problem = _group_problem(parts, number, group)
        if problem:
            return f"group {number}: {problem}"
    return None


def _gains_problem(parts: ModelParts, gains: Gains) -> str | None:
    problem = gains.problem()
    if problem:
        return problem
    rows = len(parts.thresholds) + 1
    if gains.offsets.shape[1] != rows:
        return f"{gains.offsets.shape[1]} offsets for each gain, not one for each of {rows} Gaussian rows"
    bias = gains.context_bias.shape[1]
    contexts = [number for number, group in enumerate(parts.coded_groups) if group.context != NO_CONTEXT]
    if bias and [parts.networks[group_network(number, CONTEXT_PREDICTION)].channels[1] for number in contexts] != [
        bias
    ]:
        return f"context biases of {bias} channels do not fit the context prediction"
    return None


def _group_problem(parts: ModelParts, number: int, group: Group) -> str | None:
    """Follow the channels from side parameters to entropy parameters."""
    known = parts.networks["h_s"].channels[1]
    groups = parts.coded_groups
    if group.takes:
        network = parts.networks[group_network(number, CHANNEL_CONTEXT)]
        taken = sum(groups[other].channels for other in group.takes)
        if network.channels[0] != taken or network.scale != (1, 1):
            return f"its channel context takes {network.channels[0]} channels, not {taken}, or changes sizes"
        known += network.channels[1]
    if group.context != NO_CONTEXT:
        network = parts.network(group_network(number, CONTEXT_PREDICTION))
        problem = prediction_problem(network, ORDERS[group.context])
        if problem:
            return problem
        if network.channels[0] != group.channels:
            return f"its context prediction takes {network.channels[0]} channels, not {group.channels}"
        known += network.channels[1]
    parameters = parts.networks.get(group_network(number, ENTROPY_PARAMETERS))
    if parameters is not None:
        if parameters.channels[0] != known or parameters.scale != (1, 1):
            return f"its entropy parameters take {parameters.channels[0]} channels, not {known}, or change sizes"
        if group.context != NO_CONTEXT and not _is_pointwise(parameters):
            return "its entropy parameters look beyond a single place, where its context is known place by place"
        known = parameters.channels[1]
    if known != len(group.chunks) * group.channels:
        return f"{known} entropy parameters, not {len(group.chunks)} for each of {group.channels} channels"
    return None


def _is_pointwise(network: Network | LiveNetwork) -> bool:
    return network.is_pointwise() if isinstance(network, LiveNetwork) else network.is_pointwise
