"""Latents are the same under every kernel."""

from __future__ import annotations

import sys
from pathlib import Path

from machines import tables

from bars.common import Figure, photo_paths


def exactness(photos: Path) -> list[Figure]:
    paths = photo_paths(photos)
    rows = tables.matrix(paths)
    print(tables.table(rows), file=sys.stderr)
    worst = min(row["identical"] for row in rows)
    control = max(row.get("control_differs", 0) for row in rows)
    broken = max(row.get("compressai_broken", 0) for row in rows)
    return [
        Figure(
            f"latents identical, worst of {len(rows)} pairs", f"{worst} of {len(paths)}", "all", worst == len(paths)
        ),
        Figure("control (float64 unrounded) differs, most", f"{control} of {len(paths)}", ">= 1", control >= 1),
        Figure("CompressAI pictures broken, most", f"{broken} of {len(paths)}"),
    ]
