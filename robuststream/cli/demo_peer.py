"""The demo's other side: the same weights in CompressAI's own container, as its `examples/codec.py` writes it.

Run as a child process, because a damaged string can crash it:

    python -m robuststream.cli.demo_peer encode PHOTO FILE
    python -m robuststream.cli.demo_peer decode FILE PICTURE
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from robuststream.compressai import thaw
from robuststream.container.packets import Colour, Metadata
from robuststream.model.store import load_model
from robuststream.picture.io import read_picture, to_image, write_picture
from robuststream.picture.transforms import to_bytes


def pack(strings: list[list[bytes]], shape: tuple[int, int], height: int, width: int) -> bytes:
    """Model and quality, picture size, shape of z, then each string behind its length: no magic, no checksum."""
    head = struct.pack(">BB2I2IB", 6, 1, height, width, *shape, len(strings))
    return head + b"".join(struct.pack(">I", len(string)) + string for (string,) in strings)


def unpack(data: bytes) -> tuple[list[list[bytes]], tuple[int, int], int, int]:
    head = struct.Struct(">BB2I2IB")
    _, _, height, width, rows, columns, count = head.unpack_from(data)
    at = head.size
    strings = []
    for _ in range(count):
        (length,) = struct.unpack_from(">I", data, at)
        strings.append([data[at + 4 : at + 4 + length]])
        at += 4 + length
    return strings, (rows, columns), height, width


@torch.no_grad()
def encode(photo: Path, file: Path) -> None:
    net: Any = thaw(load_model())
    pixels = read_picture(photo).pixels
    height, width = pixels.shape[1:]
    factor = load_model().factor
    x = F.pad(pixels[None].float() / 255, (0, -width % factor, 0, -height % factor), mode="replicate")
    out = net.compress(x)
    file.write_bytes(pack(out["strings"], tuple(out["shape"]), height, width))


@torch.no_grad()
def decode(file: Path, picture: Path) -> None:
    strings, shape, height, width = unpack(file.read_bytes())
    net: Any = thaw(load_model())
    tensor = net.decompress(strings, shape)["x_hat"][0, :, :height, :width]
    write_picture(to_image(to_bytes(tensor.nan_to_num(0).clamp(0, 1)), Colour.RGB, Metadata()), picture)


if __name__ == "__main__":
    {"encode": encode, "decode": decode}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
