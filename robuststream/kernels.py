"""Python functions as machine code, by numba."""

from __future__ import annotations

import logging
from typing import Any

from numba import njit

log = logging.getLogger(__name__)


def kernel(function: Any) -> Any:
    """Compile when first called, and keep the machine code on disk; without it where no folder can be written."""
    compiled: Any = njit(nogil=True)(function)
    try:
        from robuststream.kernelcache import KernelCache

        compiled._cache = KernelCache(function)  # type: ignore[no-untyped-call]
    except Exception as error:  # no folder, no source file, a numba that is built otherwise: only time is lost
        log.debug("%s is compiled in each process: %s", function.__qualname__, error)
    return compiled
