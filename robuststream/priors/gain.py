"""Variable rate: one model, a gain for each quality index (spec/format.md, section 15.5).

                   scales
                      │
             gain ──►─×
                      │ thresholds
                      ▼                  ┌───────┐
                 rows ├──────────────►───┤offsets│
                      │                  └───┬───┘
           ┌───┐      ▼ symbols      symbols ▼ moved by offsets
    y ──►──┤ Q ├──►──····──────────►─────────┴────►───×───►── + mean ──►── y_hat
           └─┬─┘     rANS                             │
             ▲                                        ▲
            gain                                  1 / gain

Q rounds (y - mean) * gain: a larger gain is a smaller quantisation step, hence a higher rate. Offsets bring a symbol's
value from the middle of its step to where latents of that scale lie on average, mostly nearer to 0.

F. Kamisli, F. Racapé, H. Choi, "Variable-rate learned image compression with multi-objective optimization and
quantization-reconstruction offsets", arXiv:2402.18930: CompressAI's -vbr models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robuststream.networks.fixedpoint import LIMIT
from robuststream.priors.quantiser import Gained, scaled

MAX_QUALITIES = 64
MAX_GAIN = 1 << 24
TENSORS = ("gains", "inverse_gains", "z_steps", "context_bias", "offsets")


@dataclass(frozen=True, eq=False)
class Gains:
    """All quality indexes of a model, as data (spec/model.md, section 4).

    Attributes:
        gains, inverse_gains: int32 (Q,) at 2^-16: 1 / quantisation step of y, and that step.
        z_steps: int32 (Q,) at 2^-12: quantisation step of z.
        context_bias: int32 (Q, C) at 2^-12, added to the context; C is 0 in models without context.
        offsets: int32 (Q, L) at 2^-12, of the L Gaussian rows: how far symbols that are not 0 are moved away from 0.
        z_tables: whether the entropy bottleneck has CDF rows of its own for each quality index.
    """

    gains: Tensor
    inverse_gains: Tensor
    z_steps: Tensor
    context_bias: Tensor
    offsets: Tensor
    z_tables: bool

    def __len__(self) -> int:
        return len(self.gains)

    def tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in TENSORS}

    def description(self) -> dict[str, Any]:
        return {"z_tables": self.z_tables}

    def problem(self) -> str | None:
        """Why these are no gains, or None."""
        if any(tensor.dtype != torch.int32 for tensor in self.tensors().values()):
            return "gains are not int32"
        shape = self.gains.shape
        if len(shape) != 1 or not 0 < shape[0] <= MAX_QUALITIES or self.context_bias.ndim != 2:
            return f"gains are not a list of 1 to {MAX_QUALITIES}"
        if self.inverse_gains.shape != shape or self.z_steps.shape != shape or len(self.context_bias) != shape[0]:
            return "gains, inverse gains, z steps and context biases are not equally many"
        if self.offsets.ndim != 2 or len(self.offsets) != shape[0]:
            return "offsets are not a list for each gain"
        for values in (self.gains, self.inverse_gains, self.z_steps):
            if int(values.min()) < 1 or int(values.max()) > MAX_GAIN:
                return "a gain or step is not from 1 to 2^24"
        for name, values in (("a context bias", self.context_bias), ("an offset", self.offsets)):
            if values.numel() and int(values.long().abs().max()) > LIMIT:
                return f"{name} is beyond 2^24"
        if type(self.z_tables) is not bool:
            return "z_tables is neither true nor false"
        return None


@dataclass(frozen=True)
class Gain:
    """One quality index, ready to code with.

    Attributes:
        z_step: of z, at 2^-12.
        context_bias: float64 (C,) at 2^-12.
        quantiser: of y.
    """

    z_step: int
    context_bias: Tensor
    quantiser: Gained

    @classmethod
    def of(cls, gains: Gains, quality: int, exact: bool) -> Gain:
        gain, inverse, z_step = (int(values[quality]) for values in (gains.gains, gains.inverse_gains, gains.z_steps))
        offsets = gains.offsets[quality].double().numpy()
        return cls(z_step, gains.context_bias[quality].double(), Gained(gain, inverse, offsets, exact))

    def scales(self, scales: Tensor) -> Tensor:
        """Scales of the latents times the gain."""
        return scaled(scales, self.quantiser.gain, self.quantiser.exact)
