"""What a picture says beside its pixels, on its way into a stream."""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import dataclass, field

from robuststream.errors import PictureWarning
from robuststream.picture.profiles import Encoding

log = logging.getLogger(__name__)


@dataclass
class Said:
    """What a reader of one format found.

    Attributes:
        icc, exif, xmp: the blocks that a stream carries; EXIF without the prefix of JPEG.
        icc_read: what Pillow takes for the profile does not count; it joins parts that do not fit, and drops others.
        encoding: what colours mean where no profile says it; None for sRGB, which is what all take them for.
        resolution: pixels across and down for each unit, and EXIF's number of the unit: 1 none, 2 inch, 3 centimetre.
        bits: a channel, in the file.
        notes: what was done to the picture, each a clause.
        lost: what a stream does not carry, each a noun.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    icc_read: bool = False
    encoding: Encoding | None = None
    resolution: tuple[float, float, int] | None = None
    bits: int = 8
    notes: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def tell(message: str) -> None:
    """One log record, and one warning at the line that called the package."""
    log.warning("%s", message)
    level, frame = 2, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(("robuststream.", "PIL.")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, PictureWarning, stacklevel=level)
