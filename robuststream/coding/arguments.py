"""Numbers that callers give: whole ones of any library's type, and shares. Imports no torch."""

from __future__ import annotations

import contextlib
import math
import operator
from typing import Any


def whole_number(name: str, value: Any) -> int:
    """`value`, from any type that counts (int, numpy.int64, ...). Raises ValueError for others, truth values too."""
    if not _is_truth(value):
        with contextlib.suppress(TypeError):
            return operator.index(value)
    raise ValueError(f"{name} {value!r} is not a whole number")


def thousandths(name: str, value: Any, most: int) -> int:
    """A share from 0 to `most`, as the least whole number of thousandths that is not less.

    A share that no binary fraction gives, such as 0.07 or numpy.float32(0.1), counts as the decimal one it stands for.

    Raises:
        ValueError: it is no number, or not in this range.
    """
    problem = f"{name} {value!r} is not a number from 0 to {most}"
    if isinstance(value, (str, bytes)) or _is_truth(value):
        raise ValueError(problem)
    try:
        share = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(problem) from None
    if not 0 <= share <= most:
        raise ValueError(problem)
    # A float32 of this size is wrong by less than 2.4e-4 thousandths.
    return max(math.ceil(1000 * share - 1e-3), 1 if share else 0)


def _is_truth(value: Any) -> bool:
    """Truth values of most libraries count as numbers."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).removeprefix("torch.") == "bool"
