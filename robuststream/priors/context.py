"""Spatial context: what was decoded before, near a place, helps to predict it (spec/format.md, section 15.3).

             side parameters
                    │   context  ┌────┐
                    │   ┌───◄────┤ CP ├─◄─┐     CP: context prediction, one convolution
                 ┌──┴───┴─┐      └────┘   │
                 │Gaussian│               │
                 └────┬───┘               │
                      │ rows, means       │
                      ▼                   │
           ┌───┐      │                   │
    y ──►──┤ Q ├──►──····──►──────────────┴──►── y_hat       again for each step
           └───┘     rANS

An order (autoregressive.py, checkerboard.py) says which places are coded in which step; here the steps are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robuststream.networks.fixedpoint import saturate
from robuststream.networks.graph import Network
from robuststream.priors.gaussian import Gaussian
from robuststream.priors.walk import Runner, Select, Walk

#: Values gathered at once: 64 MB.
GATHERED = 1 << 23
#: The largest kernel of a context prediction.
MAX_SIDE = 15
#: Rows and columns, int64 (P,) each, of the places a step codes, in element order.
Places = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Order:
    """In which order places are coded.

    Attributes:
        steps: the places of each step, for a tile of (height, width) and a kernel that reaches so far.
        sees: whether a place's prediction may use the one (rows, columns) away.
        first_is_blind: in the first step the context is zeros; else it is what CP makes of zeros, which is its bias.
        context_first: in the input of the entropy parameters' network the context's channels come before the side
            parameters; else behind them.
    """

    steps: Callable[[int, int, int], Sequence[Places]]
    sees: Callable[[int, int], bool]
    first_is_blind: bool
    context_first: bool


class SpatialContext:
    """Steps through an order's places, all tiles in lock-step.

    Args:
        gaussian: entropy parameters from context and side parameters, place by place.
        prediction: the context prediction, as `gathered` makes it.
        taps: the places that `prediction` takes, in rows and columns away from the one that is predicted.
        channels, context_channels: of the latent, and of its context.
        reach: how many rows and columns the kernel reaches to each side.
        order: which places are coded in which step.
        bias: float64 (C,) at 2^-12, added to the context; None for nothing.
    """

    def __init__(
        self,
        gaussian: Gaussian,
        prediction: Runner,
        taps: Places,
        channels: int,
        context_channels: int,
        reach: int,
        order: Order,
        bias: Tensor | None = None,
    ) -> None:
        self._gaussian = gaussian
        self._prediction = prediction
        self._taps = taps
        self._channels = channels
        self._context_channels = context_channels
        self._reach = reach
        self._order = order
        self._bias = bias

    def code(self, walk: Walk, side: Tensor, part: Select) -> Tensor:
        tiles, _, height, width = side.shape
        reach = self._reach
        # Channels first, then tiles: places of all tiles so make one matrix for the pointwise networks.
        side = side.transpose(0, 1)
        device = side.device
        known = _zeros(self._channels, tiles, height + 2 * reach, width + 2 * reach, device=device)
        for number, (rows, columns) in enumerate(self._order.steps(height, width, reach)):
            # A step's places where the networks run; an encoder's latents are on the CPU.
            down, across = rows.to(device), columns.to(device)
            if number == 0 and self._order.first_is_blind:
                context = _zeros(self._context_channels, tiles, len(rows), device=device)
            else:
                context = self._context(known, down, across)
            inputs = [side[:, :, down, across], context]
            inputs = inputs[::-1] if self._order.context_first else inputs
            parameters = self._gaussian(torch.cat(inputs).unsqueeze(0)).rearranged(_tiles_first)

            def select(latent: Tensor, rows: Tensor = rows, columns: Tensor = columns) -> Tensor:
                return part(latent)[:, :, rows, columns]

            decoded = parameters.code(walk, select)
            known[:, :, down + reach, across + reach] = decoded.transpose(0, 1)
        return known[:, :, reach : reach + height, reach : reach + width].transpose(0, 1)

    def steps(self, height: int, width: int) -> int:
        return len(self._order.steps(height, width, self._reach))

    def _context(self, known: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """The prediction at these places: (channels, T, P)."""
        down, across = (taps.to(known.device) for taps in self._taps)
        together = max(1, GATHERED // (self._channels * len(down) * known.shape[1]))
        if len(rows) > together:
            pieces = zip(torch.split(rows, together), torch.split(columns, together), strict=True)
            return torch.cat([self._context(known, *piece) for piece in pieces], dim=2)
        near = known[:, :, self._reach + rows + down[:, None], self._reach + columns + across[:, None]]
        gathered = near.transpose(1, 2).reshape(-1, near.shape[1], near.shape[3])
        context = self._prediction(gathered.unsqueeze(0))[0]
        return context if self._bias is None else saturate(context + self._bias.to(context.device)[:, None, None])


def _zeros(*shape: int, device: torch.device) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64, device=device)


def _tiles_first(x: Tensor) -> Tensor:
    """(1, C, T, P) to (T, C, P)."""
    return x[0].transpose(0, 1)


def gathered(prediction: Network, order: Order) -> tuple[Network, Places]:
    """A context prediction, one convolution, as one of 1 x 1 over values gathered from the places that an order sees.

    So it is computed only where a step needs it, and not over the whole tile.

    Returns:
        A 1 x 1 convolution that takes, for each channel, the value at each tap; and the taps.
    """
    *before, layer = prediction.layers
    weight = layer.tensors["weight"]
    height, width = weight.shape[2:]
    seen = [
        (row, column)
        for row in range(height)
        for column in range(width)
        if order.sees(row - height // 2, column - width // 2)
    ]
    rows, columns = torch.tensor(seen, device="cpu").unbind(1)
    flat = weight[:, :, rows, columns].reshape(len(weight), -1, 1, 1)
    attributes = {**layer.attributes, "padding": 0}
    pointwise = replace(layer, attributes=attributes, tensors={**layer.tensors, "weight": flat})
    return Network(prediction.name, [*before, pointwise]), (rows - height // 2, columns - width // 2)


def prediction_problem(prediction: Network, order: Order) -> str | None:
    """Why a network is no context prediction for an order, or None."""
    layer = prediction.layers[-1]
    operations = [layer.operation for layer in prediction.layers]
    if operations != ["round", "conv2d"] or layer.integer("stride") != 1:
        return f"{prediction.name} is not a single convolution of stride 1 behind a rounding"
    height, width = layer.tensors["weight"].shape[2:]
    if height != width or height % 2 == 0 or not 3 <= height <= MAX_SIDE:
        return f"{prediction.name} has a kernel of {height} x {width}, not a square of odd side from 3 to {MAX_SIDE}"
    for row in range(height):
        for column in range(width):
            hidden = not order.sees(row - height // 2, column - width // 2)
            if hidden and layer.tensors["weight"][:, :, row, column].any():
                return f"{prediction.name} has weights where its mask is 0: places not decoded yet"
    return None
