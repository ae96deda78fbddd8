"""`robuststream demo`: its options. What it does is in `demonstration`, which imports all it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robuststream.cli.ownfolder import check_folder
from robuststream.cli.places import check_input

#: What it leaves in its folder, the first to look at.
FILES = (
    "demo.png",
    "photo.robs",
    "damaged.robs",
    "robuststream.png",
    "robuststream-mask.png",
    "compressai.bin",
    "compressai-damaged.bin",
    "compressai-intact.png",
    "compressai.png",
)


def demo(
    photo: Annotated[Path | None, typer.Argument(help="Your own photograph; a sample without it.")] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for the pictures and streams; only those of an earlier demo are replaced.")
    ] = Path("demo"),
) -> None:
    """Encode a photograph, damage the stream, decode it, and leave pictures to look at."""
    if photo is not None:
        check_input(photo)
    check_folder(out, FILES)

    from robuststream.cli.demonstration import demonstrate

    demonstrate(photo, out)
