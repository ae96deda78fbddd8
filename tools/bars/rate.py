"""Bytes and decibels: exact against float parameters, the cost of robustness, the bundled model against JPEG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import robuststream as rs
from bars.common import Figure, photo_paths, pixels_of, psnr
from robuststream.compressai import thaw
from robuststream.entropy.coder import TileEncoder
from robuststream.latents import BATCH, encode_latents
from robuststream.networks.fixedpoint import ONE
from robuststream.picture.grid import Grid, by_shape
from robuststream.picture.transforms import analyse
from robuststream.transfers.reading import read_stream

#: CompressAI's published mbt2018-mean on Kodak: bpp, dB.
PUBLISHED = ((0.124, 27.70), (0.198, 29.36), (0.307, 31.13), (0.461, 32.95))


def _grid(pixels: np.ndarray, model: rs.Model, tile: int = 256) -> Grid:
    return Grid(pixels.shape[1], pixels.shape[0], tile, model.latent_stride, model.factor)


def _tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


@torch.no_grad()
def exact_rate(photos: Path) -> list[Figure]:
    """rANS bytes with the exact networks against the same networks in float32, same latents, same tiles."""
    model = rs.load_model()
    net: Any = thaw(model)
    exact = floating = 0
    for path in photo_paths(photos):
        pixels = pixels_of(path)
        grid = _grid(pixels, model)
        y = analyse(_tensor(pixels), model, grid)
        exact += sum(len(tile.words) for tile in encode_latents(y, model, grid))
        floating += _float_bytes(y, model, net, grid)
    excess = 100 * (exact / floating - 1)
    return [Figure("exact against float32 bytes", f"{excess:+.4f} %", "<= +0.05 %", excess <= 0.05)]


def _float_bytes(y: torch.Tensor, model: rs.Model, net: Any, grid: Grid) -> int:
    total = 0
    gaussian_rows = len(model.parts.thresholds) + 1
    boxes = {index: grid.latent_box(index) for index in range(grid.tiles)}
    for _, group in by_shape(boxes, BATCH):
        pieces = torch.stack([y[(slice(None), *grid.latent_box(index).slices())] for index in group])
        z = model.prior.analyse(pieces)["z"]
        medians = (model.parts.medians.float() / ONE)[None, :, None, None]
        z_symbols = torch.round(z - medians)
        scales, means = net.h_s(z_symbols + medians).chunk(2, 1)
        rows = net.gaussian_conditional.build_indexes(scales)
        z_rows = gaussian_rows + torch.arange(z.shape[1])[None, :, None, None].expand(z.shape)
        encoder = TileEncoder(model.tables, len(group))
        for step_rows, symbols in ((z_rows, z_symbols), (rows, torch.round(pieces - means))):
            encoder.code(
                step_rows.reshape(len(group), -1).to(torch.int32).numpy().astype(np.uint16),
                symbols.reshape(len(group), -1).to(torch.int32).numpy(),
            )
        total += sum(len(tile.words) for tile in encoder.finish())
    return total


def overhead(photos: Path) -> list[Figure]:
    """What framing costs (file minus rANS words), and apart from it what cutting into tiles costs."""
    model = rs.load_model()
    most_tile = most_stream = 0.0
    framing = words = whole_words = 0
    for path in photo_paths(photos):
        pixels = pixels_of(path)
        data = rs.encode(path, model)
        stream = read_stream(data)
        tiles = [tile.size - len(stream.tiles[tile.index].words) for tile in stream.report.tiles if tile.size]
        most_tile = max(most_tile, *tiles)
        most_stream = max(most_stream, len(data) - stream.report.entropy_bytes - sum(tiles))
        framing += len(data) - stream.report.entropy_bytes
        words += stream.report.entropy_bytes
        grid = _grid(pixels, model, tile=1024)
        whole_words += sum(len(t.words) for t in encode_latents(analyse(_tensor(pixels), model, grid), model, grid))
    return [
        Figure("bytes beside rANS words in a tile packet, most", f"{most_tile:.0f}", "<= 28", most_tile <= 28),
        Figure("bytes of all headers and index in a stream, most", f"{most_stream:.0f}", "<= 320", most_stream <= 320),
        Figure("framing, share of the file", f"{100 * framing / (framing + words):.2f} %"),
        Figure("tile independence at 256, against one tile a picture", f"{100 * (words / whole_words - 1):+.2f} %"),
    ]


def rate_distortion(photos: Path) -> list[Figure]:
    """The bundled model beside JPEG at each picture's own rate, and the published mbt2018-mean at the mean rate."""
    model = rs.load_model()
    rates, ours, jpegs = [], [], []
    for path in photo_paths(photos):
        pixels = pixels_of(path)
        data = rs.encode(path, model)
        rates.append(8 * len(data) / (pixels.shape[0] * pixels.shape[1]))
        ours.append(psnr(np.asarray(rs.decode(data, model).image.convert("RGB")), pixels))
        jpegs.append(_jpeg_at(pixels, len(data)))
    bpp, db, jpeg = (float(np.mean(values)) for values in (rates, ours, jpegs))
    published = float(np.interp(bpp, *zip(*PUBLISHED, strict=True)))
    return [
        Figure("bundled model, whole file", f"{bpp:.3f} bpp, {db:.2f} dB"),
        Figure("JPEG 4:2:0 optimised at the same bytes, picture by picture", f"{jpeg:.2f} dB"),
        Figure("above JPEG", f"{db - jpeg:+.2f} dB", ">= +1 dB", db - jpeg >= 1),
        Figure("published mbt2018-mean, interpolated at that rate", f"{published:.2f} dB ({db - published:+.2f})"),
    ]


def _jpeg_at(pixels: np.ndarray, size: int) -> float:
    """PSNR of JPEG at `size` bytes, interpolated between the two neighbouring qualities."""
    sizes, values = [], []
    for quality in range(1, 96):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")
        sizes.append(len(buffer.getvalue()))
        values.append(psnr(np.asarray(Image.open(buffer)), pixels))
        if sizes[-1] > size:
            break
    return float(np.interp(size, sizes, values))
