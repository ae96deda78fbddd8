"""Picture files put together by hand, and what reading them says."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
from PIL import Image

from robuststream.errors import PictureWarning
from robuststream.picture.io import Picture, read_picture


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def saved(image: Image.Image, format: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **settings)
    return file.getvalue()


def read(source: object, **settings: Any) -> tuple[Picture, list[str]]:
    """The picture, and what was warned of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picture = read_picture(source, **settings)
    assert all(issubclass(warning.category, PictureWarning) for warning in caught), [str(w.message) for w in caught]
    return picture, [str(warning.message) for warning in caught]


def channels(picture: Picture) -> np.ndarray:
    return picture.pixels.permute(1, 2, 0).numpy()


# --- PNG ------------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels: np.ndarray, *chunks: bytes, after: tuple[bytes, ...] = ()) -> bytes:
    """uint8 or uint16 (H, W) or (H, W, 3), every row filtered by Sub, with chunks before and behind the pixels."""
    height, width = pixels.shape[:2]
    bits, colour = 8 * pixels.dtype.itemsize, 2 if pixels.ndim == 3 else 0
    step = pixels.dtype.itemsize * (3 if colour else 1)
    rows = np.frombuffer(pixels.astype(pixels.dtype.newbyteorder(">")).tobytes(), np.uint8).reshape(height, -1)
    filtered = rows.copy()
    filtered[:, step:] -= rows[:, :-step]
    body = b"".join(b"\1" + row.tobytes() for row in filtered)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    parts = [head, *chunks, chunk(b"IDAT", zlib.compress(body)), *after, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))


# --- JPEG -----------------------------------------------------------------------------------------------------------


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg(*segments: bytes, pixels: np.ndarray | None = None) -> bytes:
    plain = saved(Image.fromarray(noise(8, 8, 3) if pixels is None else pixels), "JPEG")
    return plain[:2] + b"".join(segments) + plain[2:]


# --- Boxes ----------------------------------------------------------------------------------------------------------


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + kind + body
