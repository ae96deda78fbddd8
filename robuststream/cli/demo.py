"""`robuststream demo`: its options. What it does is in `demonstration`, which imports all it needs."""

from __future__ import annotations

from pathlib import Path

import click

from robuststream.cli.common import FINE
from robuststream.cli.ownfolder import FILES, check_folder
from robuststream.cli.parameters import FILE, argument, command
from robuststream.cli.places import check_input


@command("demo")
@argument("photo", metavar="[PHOTO]", required=False, type=FILE, what="Your own photograph; a sample without it.")
@click.option(
    "--out",
    type=FILE,
    default=Path("demo"),
    help="Folder for the pictures and streams; only those of an earlier demo are replaced.",
)
def demo(photo: Path | None, out: Path) -> int:
    """Encode a photograph, damage the stream, decode it, and leave pictures to look at."""
    if photo is not None:
        check_input(photo)
    check_folder(out, FILES)

    from robuststream.cli.demonstration import demonstrate

    demonstrate(photo, out)
    return FINE
