"""Small valid streams of each kind, made by the package: what the targets begin with."""

from __future__ import annotations

from random import Random
from typing import Any

from robuststream.container.layout import build_packet
from robuststream.container.packets import Colour, Header, Kind, Metadata, Mode, Tile
from robuststream.container.writer import write_stream

METADATA = Metadata(icc=b"profile", exif=b"II*\0", xmp=b"")


def stream(parity: int = 0, metadata: Metadata | None = None, seed: int = 1, **changes: Any) -> bytes:
    """A stream of 2 tiles of few random words, if nothing else is said."""
    random = Random(seed)
    header = Header(**{
        "width": 16, "height": 8, "tile": 8, "parameters_digest": bytes(16), "synthesis_digest": bytes(16),
        "parity": parity, **changes,
    })  # fmt: skip
    seam = 3 if header.z_checkpoint else None
    earlier = (1, 2) if header.mode == Mode.NATIVE else ()
    tiles = [Tile(index, random.randbytes(20), random.getrandbits(32), seam, earlier) for index in range(header.tiles)]
    return write_stream(header, tiles, metadata)


def streams() -> list[bytes]:
    """Without parity, which needs a package of its own."""
    hyperprior = stream()
    return [
        hyperprior,
        stream(z_checkpoint=False, seed=2),
        stream(mode=Mode.NATIVE, seed=3, checkpoints=2),
        stream(colour=Colour.GREY, width=8, seed=4, model_name="toy"),
        stream(metadata=METADATA, width=24, height=16, seed=5),
        hyperprior + stream(seed=6),
        b"disk" * 5 + hyperprior[40:],
        hyperprior + build_packet(Kind.UNIT, hyperprior[4:8], 0, b"unit"),
        b"",
    ]


def with_parity() -> list[bytes]:
    return [
        stream(parity=300),
        stream(parity=1000, metadata=METADATA, seed=2, checkpoints=3),
        stream(parity=50, z_checkpoint=False, seed=3, width=40),
        stream(parity=4000, mode=Mode.NATIVE, seed=4, width=8),
    ]
