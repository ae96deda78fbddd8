"""What an encoder is asked for, checked against its model. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robuststream.coding.arguments import thousandths, whole_number
from robuststream.container.packets import (
    MAX_CHECKPOINTS,
    MAX_PARITY,
    MAX_TILE,
    Mode,
)
from robuststream.container.parity import require_raptorq

if TYPE_CHECKING:
    from robuststream.model.frozen import Model

#: By the names that callers give.
MODES = {member.name.lower(): member for member in Mode}
DEFAULT_MODE = Mode.EXACT.name.lower()
DEFAULT_PARITY = 0.0


@dataclass(frozen=True)
class Settings:
    """Of `robuststream.encode`, as its arguments say; `parity` in thousandths."""

    tile: int
    mode: Mode
    quality: int
    parity: int
    checkpoints: int
    max_pixels: int

    @classmethod
    def of(
        cls,
        model: Model,
        *,
        tile: Any,
        mode: Any,
        quality: Any,
        parity: Any,
        checkpoints: Any,
        max_pixels: Any,
    ) -> Settings:
        """Raises ValueError, UnsupportedModel and ImportError, as `robuststream.encode`."""
        if not isinstance(mode, str) or mode not in MODES:
            raise ValueError(f"mode {mode!r} is not known: use {' or '.join(map(repr, MODES))}")
        tile = whole_number("tile", tile)
        if not 0 < tile <= MAX_TILE or tile % model.factor:
            factor = f"{model.factor}, the model's downsampling factor"
            raise ValueError(f"tile {tile} is not a positive multiple of {factor}, up to {MAX_TILE}")
        quality = model.qualities // 2 if quality is None else whole_number("quality", quality)
        if not 0 <= quality < model.qualities:
            raise ValueError(f"quality {quality} is not one of the model's: 0 to {model.qualities - 1}")
        share = thousandths("parity", parity, MAX_PARITY)
        if share:
            require_raptorq()
        checkpoints = whole_number("checkpoints", checkpoints)
        if not 0 <= checkpoints <= MAX_CHECKPOINTS:
            raise ValueError(f"checkpoints {checkpoints} are not 0 to {MAX_CHECKPOINTS}")
        model.prior_for(MODES[mode])
        return cls(tile, MODES[mode], quality, share, checkpoints, whole_number("max_pixels", max_pixels))
