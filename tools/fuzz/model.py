"""Model files: whatever they say they are refused, or load again as what they are, and code a picture."""

from __future__ import annotations

import json
import struct
import warnings
from random import Random
from typing import Any

import atheris
import safetensors.torch
from vectors.models import MODELS, make

import robuststream as rs
from fuzz.harness import Broken
from fuzz.models import picture
from robuststream.model.file import METADATA_KEY, read_description
from robuststream.model.frozen import Model
from robuststream.model.parts import parts_from_description

LARGEST = 1 << 15
ERRORS = (rs.UnsupportedModel,)
NUMBERS = [-1, 0, 1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 32, 63, 64, 65, 255, 1000, 1001, 65535, 65536, 65537]
NUMBERS += [1 << 20, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 53, 1 << 63, 1 << 64, 10**30]
VALUES: list[Any] = [*NUMBERS, None, True, False, 1.5, -0.0, 1e300, float("nan"), "", "x", "0.5", "1e-999", [], {}]
VALUES += ["relu", "leaky_relu", "abs", "gdn", "cat", "add", "mul", "slice", "pixel_shuffle", "conv2d"]
VALUES += ["none", "raster-scan", "checkerboard", "context-model", "factorized", "F32", "I32", "I64", "F16", "BOOL"]
FLOATS = [float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1e38, 1e-45]
#: Of a picture that is coded with what loads; larger factors would make it slow.
SIDE, FACTOR = 16, 64

warnings.simplefilter("ignore", rs.DamageWarning)


def seeds() -> list[bytes]:
    return [make(name).to_bytes() for name in MODELS]


def check(data: bytes) -> None:
    try:
        model = Model.from_bytes(data)
    except rs.UnsupportedModel as error:
        if "digest it names" not in str(error) and "known-answer" not in str(error):
            raise
        # All but the digests holds: with those put right it is a model.
        parts = parts_from_description(read_description(data), safetensors.torch.load(data))
        model = Model.from_bytes(Model(parts).to_bytes())
    again = Model.from_bytes(model.to_bytes())
    if (again.parameters_digest, again.synthesis_digest) != (model.parameters_digest, model.synthesis_digest):
        raise Broken("another model comes back")
    if model.factor <= FACTOR:
        _codes(model)


def _codes(model: Model) -> None:
    """A picture can be coded, or is refused; and what is coded comes back exact."""
    try:
        stream = rs.encode(picture(SIDE, SIDE), model, tile=model.factor)
    except rs.ImageError:
        return
    if not rs.decode(stream, model).report.exact:
        raise Broken("what it encodes is not decoded exactly")


# --- Changes -------------------------------------------------------------------------------------------------------


def mutate(data: bytes, limit: int, random: Random) -> bytes:
    """Header, description and tensors are changed each as what they are, and joined again."""
    try:
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + size])
        description = json.loads(header["__metadata__"][METADATA_KEY])
        tensors = bytearray(data[8 + size :])
    except (ValueError, KeyError, TypeError, struct.error, RecursionError):
        return random.choice(SEEDS)
    which = random.randrange(10)
    if which == 0:
        return bytes(atheris.Mutate(data, limit))
    if which <= 5:
        description = _changed(description, random)
    elif which == 6:
        header = _changed(header, random)
    elif which == 7:
        _resize(header, random)
    else:
        _overwrite(tensors, random)
    if isinstance(header, dict) and isinstance(header.get("__metadata__"), dict):
        header["__metadata__"][METADATA_KEY] = json.dumps(description)
    raw = json.dumps(header).encode()
    declared = len(raw) if random.random() < 0.97 else random.choice(NUMBERS) % (1 << 64)
    return struct.pack("<Q", declared) + raw + bytes(tensors)


def _changed(value: Any, random: Random) -> Any:
    """One place in a tree of JSON with another value, doubled, or left out."""
    places = list(_places(value))
    if not places:
        return random.choice(VALUES)
    parent, key = random.choice(places)
    which = random.randrange(4)
    if which == 0:
        del parent[key]
    elif which == 1:
        other, its = random.choice(places)
        parent[key] = json.loads(json.dumps(other[its])) if its in other or isinstance(other, list) else None
    elif which == 2 and isinstance(parent, list):
        parent.insert(key, json.loads(json.dumps(parent[key])))
    elif isinstance(parent[key], int) and random.random() < 0.5:
        parent[key] += random.choice((-1, 1))
    else:
        parent[key] = random.choice(VALUES)
    return value


def _places(value: Any) -> Any:
    """Every container in the tree, with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _places(item)


def _resize(header: Any, random: Random) -> None:
    """Another shape for a tensor of the same number of values."""
    named = [key for key in header if key != "__metadata__" and isinstance(header[key], dict)]
    tensor = header[random.choice(named)] if named else {}
    shape = tensor.get("shape")
    if isinstance(shape, list):
        random.shuffle(shape)
        if random.random() < 0.5:
            shape.insert(0, random.choice((0, 1, 1, 2)))


def _overwrite(tensors: bytearray, random: Random) -> None:
    """Values of a tensor as they should not be."""
    if len(tensors) < 4:
        return
    at = random.randrange(len(tensors) // 4) * 4
    if random.random() < 0.5:
        tensors[at : at + 4] = struct.pack("<f", random.choice(FLOATS))
    else:
        tensors[at : at + 4] = struct.pack("<I", random.choice(NUMBERS) % (1 << 32))


SEEDS = seeds()
