"""Hyperpriors: z first, then y with entropy parameters from z (spec/format.md, section 15.2).

                       rows and medians, from the model
                                      │
                                      ▼
              ┌───┐  z   ┌───┐        │     z_hat ┌───┐
         ┌─►──┤h_a├──►───┤ Q ├──►───····──────►───┤h_s├──►─┐
         │    └───┘      └───┘      rANS          └───┘    │
         │                                                 │
         │          ┌──────────────────◄───────────────────┘
         │          │   side parameters
         │     ┌────┴────┐
    y ───┴──►──┤ latent  ├──►── y_hat        how y is coded: Parallel, SpatialContext or ChannelGroups
               └─────────┘

J. Ballé et al., arXiv:1802.01436 (scales: bmshj2018-hyperprior); D. Minnen, J. Ballé, G. Toderici, arXiv:1809.02736
(scales and means: mbt2018-mean). Where y is predicted from more than z, that is in context.py and channel_groups.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from robuststream.networks.fixedpoint import ONE
from robuststream.networks.floating import FloatingNetwork
from robuststream.priors.factorized import channel_rows
from robuststream.priors.gaussian import Gaussian
from robuststream.priors.quantiser import Uniform
from robuststream.priors.walk import Runner, Select, Walk, everything, integers


class LatentCoder(Protocol):
    """Codes y, or the channels of it that `part` picks, in one step or many."""

    def code(self, walk: Walk, side: Tensor, part: Select) -> Tensor:
        """Return y_hat, float64 integers (T, C, h, w) at 2^-12, given side parameters (T, P, h, w)."""

    def steps(self, height: int, width: int) -> int:
        """How many steps that takes."""


class Parallel:
    """All elements in one step.

               side parameters
                      │
                 ┌────┴───┐
                 │Gaussian│
                 └────┬───┘
                      │ rows, means
                      ▼
           ┌───┐      │
    y ──►──┤ Q ├──►──····──►── y_hat
           └───┘     rANS
    """

    def __init__(self, gaussian: Gaussian) -> None:
        self._gaussian = gaussian

    def code(self, walk: Walk, side: Tensor, part: Select) -> Tensor:
        return self._gaussian(side).code(walk, part)

    def steps(self, height: int, width: int) -> int:
        return 1


class Hyperprior:
    """z by the entropy bottleneck, then y. A checkpoint stands between them in a tile: z is of use without y.

    Args:
        hyper_analysis: h_a, used by encoders only.
        hyper_synthesis: h_s: z_hat to the side parameters of y.
        medians: int32 (N,) at 2^-12, of z.
        first_row: of the entropy bottleneck among the CDF rows.
        factor: y pixels per z pixel.
        latent: codes y.
        z_step: quantisation step of z, in units of 2^-12.
    """

    has_z = True

    def __init__(
        self,
        hyper_analysis: FloatingNetwork,
        hyper_synthesis: Runner,
        medians: Tensor,
        first_row: int,
        factor: int,
        latent: LatentCoder,
        z_step: int = ONE,
    ) -> None:
        self._hyper_analysis = hyper_analysis
        self._hyper_synthesis = hyper_synthesis
        self._medians = medians
        self._first_row = first_row
        self._latent = latent
        self._quantiser = Uniform(z_step)
        self.hyper_factor = factor

    def analyse(self, y: Tensor) -> Mapping[str, Tensor]:
        return {"y": y.cpu(), "z": self._hyper_analysis(y).cpu()}

    def walk(self, walk: Walk, height: int, width: int) -> Tensor:
        factor = self.hyper_factor
        rows, medians = channel_rows(self._medians, self._first_row, walk.tiles, height // factor, width // factor)
        z_hat = walk.code("z", everything, rows, medians, quantiser=self._quantiser)
        walk.checkpoint()
        side = self._hyper_synthesis(z_hat)
        return integers(self._latent.code(walk, side, everything))

    def steps(self, height: int, width: int) -> int:
        return self._latent.steps(height, width)
