"""`robuststream demo`: its options. What it does is in `demonstration`, which imports all it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    photo: Annotated[Path | None, typer.Argument(help="Your own photograph; a sample without it.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and streams.")] = Path("demo"),
) -> None:
    """Encode a photograph, damage the stream, decode it, and leave pictures to look at."""
    from robuststream.cli.demonstration import demonstrate

    demonstrate(photo, out)
