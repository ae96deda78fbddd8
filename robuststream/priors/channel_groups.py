"""Groups of channels, each predicted from the groups before it as well: elic2022 (spec/format.md, section 15.4).

                     side
                   ┌──┴──┐
    y[0] ────►─────┤ c0  ├──────►─────┬─────────────┬───►── y_hat[0]
                   └─────┘            ▼             │
                     side           ┌─┴─┐           │
                      ├───────◄─────┤cc1│           │
                   ┌──┴──┐          └───┘           │
    y[1] ────►─────┤ c1  ├──────►─────┬─────────────│───►── y_hat[1]
                   └─────┘            ▼             ▼
                     side           ┌─┴─────────────┴─┐
                      ├───────◄─────┤       cc2       │
                   ┌──┴──┐          └─────────────────┘
    y[2] ────►─────┤ c2  ├──────►───────────────────────►── y_hat[2]
                   └─────┘

side: parameters from the hyperprior. c: a group's own coder, parallel or with spatial context. cc: its channel context,
from the groups it takes. mbt2018-mean and the models of context.py are a single group of all channels.

D. Minnen, S. Singh, arXiv:2007.08739; D. He, Z. Yang, W. Peng, R. Ma, H. Qin, Y. Wang, arXiv:2203.10886.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robuststream.priors.autoregressive import RASTER_SCAN
from robuststream.priors.checkerboard import CHECKERBOARD, CHECKERBOARD_ODD
from robuststream.priors.context import Order
from robuststream.priors.gaussian import CHUNKS
from robuststream.priors.hyperprior import LatentCoder
from robuststream.priors.walk import Runner, Select, Walk

NO_CONTEXT = "none"
ORDERS: dict[str, Order] = {
    "raster-scan": RASTER_SCAN,
    "checkerboard": CHECKERBOARD,
    "checkerboard-odd": CHECKERBOARD_ODD,
}
MAX_GROUPS = 64


@dataclass(frozen=True)
class Group:
    """How a group of y's channels is coded, as a model file says it (spec/model.md, section 4).

    Attributes:
        channels: how many it has.
        chunks: in which order its network gives scales and means, one of gaussian.CHUNKS.
        context: of places, NO_CONTEXT or a key of ORDERS.
        takes: the groups before it from which its channel context predicts, by number, in order.
    """

    channels: int
    chunks: tuple[str, ...] = CHUNKS[0]
    context: str = NO_CONTEXT
    takes: tuple[int, ...] = ()

    def description(self) -> dict[str, Any]:
        return {
            "channels": self.channels,
            "chunks": list(self.chunks),
            "context": self.context,
            "takes": list(self.takes),
        }


def groups_from_description(items: Any) -> tuple[Group, ...]:
    """Read groups from untrusted data. Raises ValueError, KeyError, TypeError."""
    if not isinstance(items, list) or not 0 < len(items) <= MAX_GROUPS:
        raise ValueError(f"groups are not a list of 1 to {MAX_GROUPS}")
    groups = []
    for number, item in enumerate(items):
        if not isinstance(item["chunks"], list) or not isinstance(item["takes"], list):
            raise ValueError(f"group {number}: chunks and takes are not lists")
        group = Group(item["channels"], tuple(item["chunks"]), item["context"], tuple(item["takes"]))
        problem = _problem(group, number)
        if problem:
            raise ValueError(f"group {number}: {problem}")
        groups.append(group)
    return tuple(groups)


def _problem(group: Group, number: int) -> str | None:
    if type(group.channels) is not int or not 0 < group.channels < 1 << 16:
        return f"{group.channels!r} channels"
    if group.chunks not in CHUNKS:
        return f"chunks {group.chunks!r}"
    if not isinstance(group.context, str) or group.context not in (NO_CONTEXT, *ORDERS):
        return f"context {group.context!r}"
    whole = all(type(other) is int and 0 <= other < number for other in group.takes)
    if not whole or sorted(set(group.takes)) != list(group.takes):
        return f"takes {group.takes!r}, which are not groups before it in rising order"
    return None


class ChannelGroups:
    """Codes one group after the other.

    Args:
        groups: what each is.
        coders: one for each group.
        channel_contexts: one for each group that takes others; None for the rest.
    """

    def __init__(
        self, groups: Sequence[Group], coders: Sequence[LatentCoder], channel_contexts: Sequence[Runner | None]
    ) -> None:
        self._groups = groups
        self._coders = coders
        self._channel_contexts = channel_contexts

    def code(self, walk: Walk, side: Tensor, part: Select) -> Tensor:
        decoded: list[Tensor] = []
        first = 0
        for group, coder, channel_context in zip(self._groups, self._coders, self._channel_contexts, strict=True):
            known = side
            if channel_context is not None:
                before = torch.cat([decoded[other] for other in group.takes], dim=1)
                known = torch.cat((channel_context(before), side), dim=1)
            channels = slice(first, first + group.channels)

            def select(latent: Tensor, channels: slice = channels) -> Tensor:
                return part(latent)[:, channels]

            decoded.append(coder.code(walk, known, select))
            first += group.channels
        return torch.cat(decoded, dim=1)

    def steps(self, height: int, width: int) -> int:
        return sum(coder.steps(height, width) for coder in self._coders)
