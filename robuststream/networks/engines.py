"""What exact networks multiply matrices with: several ways to the same integers (spec/format.md, section 14).

    Int8       int8 limbs, int32 sums: tensor cores, VNNI, AMX, by torch._int_mm
    Float64    float64: every partial sum is an integer below 2^53
    Float32    limbs of 8 x 7 bits, at most 2,048 products in a sum: below 2^24, for devices that have nothing else
    Int64      the definition

Which of them a device runs is decided in choice.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from robuststream.networks.fixedpoint import weight_limbs

#: Rows of a product are made up to one of these, and more rows go in several products: so the shapes an engine meets
#: are few, and each can be tried before it is trusted.
BANDS = (32, 64, 128, 256, 512, 1024, 2048)
#: Bytes of a band's columns and sums: where it would have more, it has fewer rows.
MOST = 1 << 25
#: Products of limbs (128 x 64) that a float32 sum may have: it stays at or below 2^24.
FLOAT32_PRODUCTS = 2048


class Engine(Protocol):
    """One way to multiply."""

    name: str

    def prepare(self, weight: Tensor, device: torch.device) -> Any:
        """A weight matrix, int16 (K, O), as this engine takes it."""

    def sums(self, columns: Tensor, prepared: Any) -> Tensor:
        """int32 columns (P, K), below 2^23 in size, times a prepared matrix: int64 (P, O)."""


class Float64:
    name = "float64"

    def prepare(self, weight: Tensor, device: torch.device) -> Tensor:
        return weight.to(device, torch.float64)

    def sums(self, columns: Tensor, prepared: Tensor) -> Tensor:
        return (columns.to(torch.float64) @ prepared).to(torch.int64)


class Int64:
    name = "int64"

    def prepare(self, weight: Tensor, device: torch.device) -> Tensor:
        return weight.to(device, torch.int64)

    def sums(self, columns: Tensor, prepared: Tensor) -> Tensor:
        return columns.to(torch.int64) @ prepared


class Float32:
    name = "float32"

    def prepare(self, weight: Tensor, device: torch.device) -> list[Tensor]:
        limbs = torch.cat(weight_limbs(weight), dim=1).to(device, torch.float32)
        return list(torch.split(limbs, FLOAT32_PRODUCTS))

    def sums(self, columns: Tensor, prepared: list[Tensor]) -> Tensor:
        total = torch.zeros((), dtype=torch.int64, device=columns.device)
        for columns_piece, weight in zip(torch.split(columns, FLOAT32_PRODUCTS, dim=1), prepared, strict=True):
            for place, limb in value_limbs(columns_piece):
                total = total + (_joined_limbs((limb.to(torch.float32) @ weight).to(torch.int64)) << place)
        return total


class Int8:
    name = "int8"

    def prepare(self, weight: Tensor, device: torch.device) -> Tensor:
        """int8 (K', 2 O'): high limbs, then low ones; sizes made up to what CUDA's kernels take."""
        high, low = (_to_multiples(limb, 8) for limb in weight_limbs(weight))
        # Column by column in memory: what CUDA's int8 kernels ask of their second operand.
        return torch.cat((high, low), dim=1).to(device).t().contiguous().t()

    def sums(self, columns: Tensor, prepared: Tensor) -> Tensor:
        inner, outputs = prepared.shape[0], prepared.shape[1]
        most = bands_of(inner, outputs // 2)[-1]
        total = torch.zeros((), dtype=torch.int64, device=columns.device)
        for place, limb in value_limbs(columns):
            matrix = torch.zeros((banded(len(limb), most), inner), dtype=torch.int8, device=columns.device)
            matrix[: len(limb), : limb.shape[1]] = limb
            product = torch.cat([torch._int_mm(band, prepared) for band in torch.split(matrix, most)])
            total = total + (_joined_limbs(product[: len(limb)].reshape(-1, outputs).to(torch.int64)) << place)
        return total


def bands_of(inner: int, outputs: int) -> list[int]:
    """The bands of products with so many columns and outputs."""
    return [band for band in BANDS if band * (inner + 8 * outputs) <= MOST] or [BANDS[0]]


def banded(rows: int, most: int) -> int:
    """How many rows products have, of `most` at most, that are to have so many together at least."""
    whole, rest = divmod(rows, most)
    return whole * most + (next(band for band in BANDS if band >= rest) if rest else 0)


def value_limbs(x: Tensor) -> Iterator[tuple[int, Tensor]]:
    """int8 limbs of int32 values, the lowest first, each with the place (in bits) where it belongs.

    Few values are large: a limb that is all zeros is left out.
    """
    for place in (0, 8, 16):
        low = ((x + 128) & 255) - 128
        yield place, low.to(torch.int8)
        x = (x - low) >> 8
        if not x.any():
            return


def _joined_limbs(product: Tensor) -> Tensor:
    """int64 (P, 2 O), with the weights' high limbs and with their low ones, to (P, O)."""
    high, low = product.chunk(2, dim=1)
    return (high << 7) + low


def _to_multiples(x: Tensor, of: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, -x.shape[1] % of, 0, -x.shape[0] % of))


ENGINES: dict[str, Engine] = {engine.name: engine for engine in (Int8(), Float64(), Float32(), Int64())}
