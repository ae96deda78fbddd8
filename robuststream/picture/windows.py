"""Runs a transform on a picture of any size in windows, so that memory stays flat.

A window is computed with the halo its receptive field needs, which is then dropped: every value is the sum of the same
products as without windows. Only the last bits of float32 may differ, where a kernel adds in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from robuststream.networks.graph import Network
from robuststream.networks.reach import needed
from robuststream.picture.grid import Box

#: Side of a window in latents: 1,024 pixels at the usual stride of 16.
WINDOW = 64


def windows(latents: Box) -> Iterator[Box]:
    """Boxes of at most WINDOW x WINDOW latents that cover `latents`."""
    for top in range(0, latents.bottom, WINDOW):
        for left in range(0, latents.right, WINDOW):
            yield Box(top, left, top + WINDOW, left + WINDOW).clipped(latents)


def analysis_halo(network: Network) -> int:
    """Latents to add on each side of a window, so that an analysis transform sees all the pixels it needs."""
    stride = network.scale[1]
    first, last = needed(network, 0, 0)
    return max(-(first // stride), last // stride)


def synthesis_halo(network: Network) -> int:
    """Latents to add on each side of a window, so that a synthesis transform sees all the latents it needs."""
    stride = network.scale[0]
    return max(-needed(network, 0, 0)[0], needed(network, stride - 1, stride - 1)[1])


def synthesis_reach(network: Network) -> tuple[int, int]:
    """How many pixels before and after its own pixels a latent still changes."""
    stride = network.scale[0]
    before = _first(lambda pixels: needed(network, -pixels - 1, -pixels - 1)[1] < 0)
    after = _first(lambda pixels: needed(network, stride + pixels, stride + pixels)[0] > 0)
    return before, after


def latents_below(network: Network, pixels: Box, within: Box) -> Box:
    """The latents that a synthesis transform makes `pixels` of; `within` are those that there are."""
    top, bottom = needed(network, pixels.top, pixels.bottom - 1)
    left, right = needed(network, pixels.left, pixels.right - 1)
    return Box(top, left, bottom + 1, right + 1).clipped(within)


def _first(holds: Callable[[int], bool]) -> int:
    """The least number for which `holds`, which then holds for all larger ones."""
    high = 1
    while not holds(high - 1):
        high *= 2
    low = 0
    while low < high - 1:
        middle = (low + high - 1) // 2
        low, high = (low, middle + 1) if holds(middle) else (middle + 1, high)
    return low
