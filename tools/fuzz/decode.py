"""The whole decode, strict and resilient, of packets that are forged with every checksum right."""

from __future__ import annotations

import json
import warnings
from random import Random

import numpy as np
import torch

import robuststream as rs
from fuzz import packets
from fuzz.harness import Broken
from fuzz.models import coded, models

LARGEST = 2048
ERRORS = (rs.NotARobustStream, rs.DamagedStream, rs.UnsupportedVersion, rs.ModelMismatch, rs.ImageError)
#: Of an input: the model.
HEAD = 1
#: A header may declare what it likes: more is refused.
PIXELS = 1 << 12

warnings.simplefilter("ignore", rs.DamageWarning)


def seeds() -> list[bytes]:
    return [bytes([number]) + data for number, data in coded() if len(data) < LARGEST]


def mutate(data: bytes, limit: int, random: Random) -> bytes:
    head = random.randbytes(HEAD) if random.random() < 0.02 else data[:HEAD].ljust(HEAD, b"\0")
    return head + packets.mutate(data[HEAD:], limit - HEAD, random, POOL)


def check(data: bytes) -> None:
    model = models()[data[0] % len(models())] if data else models()[0]
    data = data[HEAD:]
    out = rs.decode(data, model, max_pixels=PIXELS)
    header = out.report.header
    json.dumps(out.report.to_json(), allow_nan=False)
    if out.mask.shape != (header.height, header.width) or out.image.size != (header.width, header.height):
        raise Broken("a picture of another size than the header's")
    if out.mask.max() > 5 or not torch.isfinite(out.tensor).all():
        raise Broken("a mask value that does not exist, or pixels that are no numbers")
    if out.report.exact and out.mask.any():
        raise Broken("exact, with a mask that says otherwise")
    report = rs.verify(data, model, max_pixels=PIXELS)
    if report != out.report:
        raise Broken("verify and decode report different things")
    whole = out.report.intact and out.report.verified
    try:
        strict = rs.decode(data, model, strict=True, max_pixels=PIXELS)
    except (rs.DamagedStream, rs.ContextDesync):
        if whole:
            raise Broken("strict refuses what is intact and verified") from None
        return
    if not whole or not np.array_equal(strict.latents, out.latents):
        raise Broken("strict takes what is damaged, or decodes it otherwise")


POOL = [raw for _, data in coded() for raw in packets.split(data)]
