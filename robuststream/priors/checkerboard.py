"""Checkerboard context: cheng2020-anchor-checkerboard, and inside ELIC's groups (spec/format.md, section 15.3).

Anchors first, without context; then the others, from the anchors around them:

    ◌ □ ◌ □      ■ ◌ ■ ◌      □  not decoded yet
    □ ◌ □ ◌      ◌ ■ ◌ ■      ◌  decoded in this step
    ◌ □ ◌ □      ■ ◌ ■ ◌      ■  decoded before

The top left place of each tile is an anchor; of CHECKERBOARD_ODD it is not.

D. He, Y. Zheng, B. Sun, Y. Wang, H. Qin, arXiv:2103.15306.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from robuststream.priors.context import Order, Places


def _checkerboard(anchor_parity: int) -> Order:
    def steps(height: int, width: int, reach: int) -> Sequence[Places]:
        parity = (torch.arange(height, device="cpu")[:, None] + torch.arange(width, device="cpu")) % 2
        halves = [(parity == wanted).nonzero().unbind(1) for wanted in (anchor_parity, 1 - anchor_parity)]
        return [(rows, columns) for rows, columns in halves if len(rows)]

    return Order(
        steps=steps, sees=lambda down, across: (down + across) % 2 == 1, first_is_blind=True, context_first=True
    )


CHECKERBOARD, CHECKERBOARD_ODD = _checkerboard(0), _checkerboard(1)
