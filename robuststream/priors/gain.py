"""Variable rate: one model, a gain for each quality index (spec/format.md, section 15.5).

                   scales
                      │
             gain ──►─×──►──┬─────────────────┐
                            │ thresholds  ┌───┴───┐
                            ▼             │offset │─◄─ gain
                       rows │             │network│
                            │             └───┬───┘
           ┌───┐  symbols   ▼         symbols ▼ moved towards 0 by offsets
    y ──►──┤ Q ├─────►────····──────────►─────┴───►───×───►── + mean ──►── y_hat
           └─┬─┘           rANS                       │
             ▲                                        ▲
            gain                                  1 / gain

Q rounds (y - mean) * gain: a larger gain is a smaller quantisation step, hence a higher rate.

F. Kamisli, F. Racapé, H. Choi, "Variable-rate learned image compression with multi-objective optimization and
quantization-reconstruction offsets", arXiv:2402.18930: CompressAI's -vbr models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robuststream.networks.fixedpoint import LIMIT, ONE
from robuststream.priors.quantiser import Gained, scaled
from robuststream.priors.walk import Runner

MAX_QUALITIES = 64
MAX_GAIN = 1 << 24
TENSORS = ("gains", "inverse_gains", "z_steps", "context_bias")


@dataclass(frozen=True, eq=False)
class Gains:
    """All quality indexes of a model, as data (spec/model.md, section 4).

    Attributes:
        gains, inverse_gains: int32 (Q,) at 2^-16: 1 / quantisation step of y, and that step.
        z_steps: int32 (Q,) at 2^-12: quantisation step of z.
        context_bias: int32 (Q, C) at 2^-12, added to the context; C is 0 in models without context.
        bound: smaller scales are given to the offset network as this one, at 2^-12.
        z_tables: whether the entropy bottleneck has CDF rows of its own for each quality index.
    """

    gains: Tensor
    inverse_gains: Tensor
    z_steps: Tensor
    context_bias: Tensor
    bound: int
    z_tables: bool

    def __len__(self) -> int:
        return len(self.gains)

    def tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in TENSORS}

    def description(self) -> dict[str, Any]:
        return {"bound": self.bound, "z_tables": self.z_tables}

    def problem(self) -> str | None:
        """Why these are no gains, or None."""
        if any(tensor.dtype != torch.int32 for tensor in self.tensors().values()):
            return "gains are not int32"
        shape = self.gains.shape
        if len(shape) != 1 or not 0 < shape[0] <= MAX_QUALITIES or self.context_bias.ndim != 2:
            return f"gains are not a list of 1 to {MAX_QUALITIES}"
        if self.inverse_gains.shape != shape or self.z_steps.shape != shape or len(self.context_bias) != shape[0]:
            return "gains, inverse gains, z steps and context biases are not equally many"
        for values in (self.gains, self.inverse_gains, self.z_steps):
            if int(values.min()) < 1 or int(values.max()) > MAX_GAIN:
                return "a gain or step is not from 1 to 2^24"
        if self.context_bias.numel() and int(self.context_bias.long().abs().max()) > LIMIT:
            return "a context bias is beyond 2^24"
        if type(self.bound) is not int or not 0 <= self.bound <= LIMIT or type(self.z_tables) is not bool:
            return "the bound of scales or z_tables is not valid"
        return None


@dataclass(frozen=True)
class Gain:
    """One quality index, ready to code with: what Gains has of it, and the offset network."""

    gain: int
    inverse: int
    z_step: int
    context_bias: Tensor
    bound: int
    offset: Runner | None
    exact: bool

    @classmethod
    def of(cls, gains: Gains, quality: int, offset: Runner | None, exact: bool) -> Gain:
        gain, inverse, z_step = (int(values[quality]) for values in (gains.gains, gains.inverse_gains, gains.z_steps))
        return cls(gain, inverse, z_step, gains.context_bias[quality].double(), gains.bound, offset, exact)

    def scales(self, scales: Tensor) -> Tensor:
        """Scales of the latents times the gain."""
        return scaled(scales, self.gain, self.exact)

    def quantiser(self, gained_scales: Tensor) -> Gained:
        """For elements with these scales, in the order in which they lie in memory."""
        offsets = torch.zeros_like(gained_scales)
        if self.offset is not None:
            flat = gained_scales.clamp(min=self.bound).reshape(1, 1, 1, -1)
            gain = torch.full_like(flat, round(self.gain * ONE / (1 << 16)))
            offsets = self.offset(torch.cat((flat, gain), dim=1)).reshape(gained_scales.shape)
        return Gained(self.gain, self.inverse, offsets, self.exact)
