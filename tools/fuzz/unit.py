"""Packed units: any bytes give a tree of strings, which packs to the same bytes again, or an error."""

from __future__ import annotations

import hashlib
from random import Random
from typing import Any

import atheris
import torch
from torch import nn

from fuzz import packets, streams
from fuzz.harness import Broken
from robuststream.compressai import packing
from robuststream.container.packets import Kind
from robuststream.errors import DamagedStream, NotARobustStream, UnsupportedVersion

LARGEST = 512
ERRORS = (NotARobustStream, DamagedStream, UnsupportedVersion)


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(2))


OUT: list[dict[str, Any]] = [
    {"strings": [[b"\1\2", b"3"], [b""]], "shape": torch.Size((4, 300))},
    {"strings": {"y": [b"abc"], "z": (b"d",)}, "shape": {"y": [torch.Size((1, 2))], "z": (3, [4])}},
    {"strings": [], "shape": []},
]


def seeds() -> list[bytes]:
    return [packing.pack(out, Toy()) for out in OUT]


def mutate(data: bytes, limit: int, random: Random) -> bytes:
    if random.random() < 0.3:
        return packets.mutate(data, limit, random, POOL)
    content = b"".join(parts.payload for raw in packets.split(data) if (parts := packets.parse(raw)) is not None)
    changed = bytes(atheris.Mutate(content[: -packing.DIGEST_BYTES] or b"\1", limit - 40))
    return sealed(changed)


def sealed(content: bytes) -> bytes:
    """The unit of any content, its hash put right."""
    digest = hashlib.sha256(content).digest()[: packing.DIGEST_BYTES]
    return packets.Parts(Kind.UNIT, digest[:4], 0, content + digest).sealed()


def check(data: bytes) -> None:
    out = packing.unpack(data)
    built = packing._build(out["shape"], packing._SHAPE) + packing._build(out["strings"], packing._STRINGS)
    content = b"".join(parts.payload for raw in packets.split(data) if (parts := packets.parse(raw)) is not None)
    if not content[: -packing.DIGEST_BYTES].endswith(built):
        raise Broken("the tree has another form than the one that was read")


POOL = [raw for data in [*seeds(), *streams.streams()[:2]] for raw in packets.split(data)]
