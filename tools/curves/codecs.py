"""robuststream and its peers: encoding at a size, decoding what is left of a file."""

from __future__ import annotations

import io
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFile, features

import robuststream as rs
from curves.child import Pixels
from robuststream.cli.demo_peer import pack, unpack
from robuststream.compressai import thaw
from robuststream.errors import RobustStreamError
from robuststream.picture.transforms import to_bytes

#: A peer's file is not smaller than ours by more than this, and else as close as its quality setting can come.
SMALLER = 0.02
OPENJPEG = ("opj_compress", "opj_decompress")


@dataclass(frozen=True)
class Codec:
    """A way to keep a picture.

    Attributes:
        encode: from the path of a photograph and the size of our stream of it, in bytes, which peers come close to.
        decode: as `child.Decoder`.
        restores: whether the decoder gets back every byte of the second argument from the first, damaged one; then it
            need not run.
        missing: what to install where it cannot run.
        prepare: loads what children are to inherit.
        everywhere: it is measured in all cells, not in those of the bars alone.
    """

    encode: Callable[[Path, int], bytes]
    decode: Callable[[bytes], tuple[Pixels, bool]]
    restores: Callable[[bytes, bytes], bool] = lambda damaged, data: False
    missing: str = ""
    prepare: Callable[[], object] = lambda: None
    everywhere: bool = True


def codecs() -> dict[str, Codec]:
    rows = {"restart_marker_rows": 1}
    return {
        "robuststream": ours(),
        "robuststream, parity 5 %": ours(parity=0.05),
        "robuststream, parity 20 %": ours(parity=0.2),
        "robuststream, tiles of 128": replace(ours(tile=128), everywhere=False),
        "CompressAI": Codec(encode_compressai, decode_compressai, prepare=network),
        "JPEG": jpeg(),
        "JPEG, restart markers": jpeg(**rows),
        "JPEG 2000": jpeg2000(),
        "JPEG 2000, tiles, SOP, EPH": jpeg2000("-t", "256,256", "-SOP", "-EPH"),
        "WebP": pillow("WEBP", method=6),
        "AVIF": pillow("AVIF", missing="" if features.check("avif") else "Pillow 11.3 or newer", speed=6),
    }


# --- robuststream ---------------------------------------------------------------------------------------------------


def ours(**settings: Any) -> Codec:
    return Codec(lambda photo, size: rs.encode(photo, **settings), decode_ours, restores, prepare=rs.load_model)


def decode_ours(data: bytes) -> tuple[Pixels, bool]:
    """Its complaint is a DamageWarning, of which `child` takes note as of any other; the log says the same."""
    logging.getLogger("robuststream").setLevel(logging.CRITICAL)
    return np.asarray(rs.decode(data, rs.load_model()).image.convert("RGB")), False


def restores(damaged: bytes, data: bytes) -> bool:
    try:
        return rs.repair(damaged).data == data
    except RobustStreamError:
        return False


# --- CompressAI -----------------------------------------------------------------------------------------------------


@cache
def network() -> Any:
    return thaw(rs.load_model())


@torch.no_grad()
def encode_compressai(photo: Path, size: int) -> bytes:
    """The same weights, so about the same size; nothing to search."""
    pixels = np.asarray(Image.open(photo).convert("RGB"))
    height, width = pixels.shape[:2]
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    factor = rs.load_model().factor
    coded = network().compress(F.pad(x, (0, -width % factor, 0, -height % factor), mode="replicate"))
    return pack(coded["strings"], tuple(coded["shape"]), height, width)


@torch.no_grad()
def decode_compressai(data: bytes) -> tuple[Pixels, bool]:
    strings, shape, height, width = unpack(data)
    tensor = network().decompress(strings, shape)["x_hat"][0, :, :height, :width]
    return to_bytes(tensor.nan_to_num(0).clamp(0, 1)), False


# --- Pillow's formats -----------------------------------------------------------------------------------------------


def pillow(name: str, missing: str = "", **settings: Any) -> Codec:
    return Codec(partial(at_size, name, settings), decode_pillow, missing=missing)


def at_size(name: str, settings: dict[str, Any], photo: Path, size: int) -> bytes:
    """The file whose size is nearest to `size`, of those that are not too small."""
    image = Image.open(photo).convert("RGB")

    @cache
    def file(quality: int) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, name, quality=quality, **settings)
        return buffer.getvalue()

    low, high = 1, 95
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(file(middle)) >= (1 - SMALLER) * size else (middle + 1, high)
    # A quality more can be nearer, where several share one size or sizes do not quite rise with quality.
    return min((file(low), file(low + 1)), key=lambda data: abs(len(data) - size))


def decode_pillow(data: bytes) -> tuple[Pixels, bool]:
    """What it can show of a file that is cut short, it shows."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), False


def jpeg(**settings: Any) -> Codec:
    encode = partial(at_size, "JPEG", {"optimize": True, "subsampling": "4:2:0", **settings})
    return Codec(encode, decode_jpeg)


def decode_jpeg(data: bytes) -> tuple[Pixels, bool]:
    """Pillow's picture, and whether libjpeg had warnings, which Pillow drops and OpenCV prints."""
    import cv2

    with printed() as lines:
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return decode_pillow(data)[0], bool(lines)


@contextmanager
def printed() -> Iterator[list[str]]:
    """The lines that C code writes to the error output."""
    lines: list[str] = []
    before = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            lines += file.read().decode(errors="replace").splitlines()


# --- JPEG 2000, by OpenJPEG's tools: Pillow offers neither SOP and EPH nor what its decoder warns of ----------------


def jpeg2000(*options: str) -> Codec:
    there = all(map(shutil.which, OPENJPEG))
    missing = "" if there else f"{' and '.join(OPENJPEG)} (Debian: libopenjp2-tools)"
    return Codec(partial(encode_jpeg2000, options), decode_jpeg2000, missing=missing)


def encode_jpeg2000(options: tuple[str, ...], photo: Path, size: int) -> bytes:
    """Rates lead to sizes that are near, not equal: a few steps of correction."""
    image = Image.open(photo).convert("RGB")
    ratio = 3 * image.width * image.height / size
    files = []
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "photo.ppm"), Path(folder, "photo.jp2")
        image.save(source)
        for _ in range(6):
            command = [OPENJPEG[0], "-i", str(source), "-o", str(target), "-r", f"{ratio:.4f}", "-I", *options]
            subprocess.run(command, check=True, capture_output=True)
            files.append(target.read_bytes())
            ratio *= len(files[-1]) / size
    fitting = [data for data in files if len(data) >= (1 - SMALLER) * size]
    return min(fitting or files, key=lambda data: abs(len(data) - size))


def decode_jpeg2000(data: bytes) -> tuple[Pixels, bool]:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "photo.jp2"), Path(folder, "photo.ppm")
        source.write_bytes(data)
        command = [OPENJPEG[1], "-allow-partial", "-i", str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60)
        if done.returncode < 0 or not target.exists():
            raise RuntimeError(done.stderr)
        pixels = np.asarray(Image.open(target).convert("RGB"))
    said = done.stdout + done.stderr
    return pixels, bool(done.returncode) or "WARNING" in said or "ERROR" in said
