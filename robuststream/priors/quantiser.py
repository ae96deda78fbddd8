"""From latents to symbols and back (spec/format.md, sections 15 and 15.5).

        encoder                                decoder
latent ──►── symbols() ──►── symbol ──►── values() ──►── latent_hat
                ▲                            ▲
              mean                         mean
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robuststream.networks.fixedpoint import LIMIT, ONE, saturate

#: Gains and their inverses are integers at this many fraction bits.
GAIN_BITS = 16
#: A decoder takes no more (entropy/rans.py).
MAX_SYMBOL = 1 << 13
#: With gains an encoder goes no further, though a decoder takes symbols up to 2^13.
MAX_GAINED_SYMBOL = 1 << 12


Rows = npt.NDArray[np.uint16]


class Quantiser(Protocol):
    def symbols(self, target: Tensor, means: Tensor) -> Tensor:
        """What an encoder codes for latents `target` (in units of 1), given means (2^-12): whole float64 numbers."""

    def values(self, symbols: Tensor, means: Tensor, rows: Rows) -> Tensor:
        """The latents that symbols stand for, float64 at 2^-12, given their CDF rows."""


@dataclass(frozen=True)
class Uniform:
    """sat(symbol * step + mean), the step in units of 2^-12."""

    step: int = ONE

    def symbols(self, target: Tensor, means: Tensor) -> Tensor:
        symbols = torch.round((target - means / ONE) * (ONE / self.step))
        # So limited, no latent saturates.
        symbols = torch.maximum(symbols, torch.ceil((-LIMIT - means) / self.step))
        symbols = torch.minimum(symbols, torch.floor((LIMIT - means) / self.step))
        # Only with steps below 1, or with means of native mode, which have no limit, can symbols be larger.
        return symbols.clamp(-MAX_SYMBOL, MAX_SYMBOL)

    def values(self, symbols: Tensor, means: Tensor, rows: Rows) -> Tensor:
        return saturate(symbols * self.step + means)


@dataclass(frozen=True)
class Gained:
    """A step of 1 / gain, and a symbol's value moved by an offset, that of its row.

    F. Kamisli, F. Racapé, H. Choi, arXiv:2402.18930.

    Attributes:
        gain, inverse: integers at 2^-16.
        offsets: float64 (L,), whole numbers at 2^-12, of each row: how far a symbol that is not 0 is moved away from 0.
        exact: computed in integers.
    """

    gain: int
    inverse: int
    offsets: npt.NDArray[np.float64]
    exact: bool

    def symbols(self, target: Tensor, means: Tensor) -> Tensor:
        symbols = torch.round((target - means / ONE) * (self.gain * 2.0**-GAIN_BITS))
        return symbols.clamp(-MAX_GAINED_SYMBOL, MAX_GAINED_SYMBOL)

    def values(self, symbols: Tensor, means: Tensor, rows: Rows) -> Tensor:
        moved = symbols * ONE + torch.sign(symbols) * torch.from_numpy(self.offsets[rows])
        return saturate(scaled(moved, self.inverse, self.exact) + means)


def scaled(x: Tensor, factor: int, exact: bool) -> Tensor:
    """x times factor * 2^-16; in exact mode floor(x * factor * 2^-16 + 1/2), saturated."""
    product = x * (factor * 2.0**-GAIN_BITS)
    return saturate(torch.floor(product + 0.5)) if exact else product
