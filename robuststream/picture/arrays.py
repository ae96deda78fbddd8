"""Pictures that come as tensors or arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robuststream.errors import ImageError
from robuststream.picture.opening import refuse_empty

#: So far outside [0, 1] a value is taken for rounding: what resizing or a colour transform leaves in float32.
ROUNDING = 1e-6
#: By kind of dtype: what is white, and how to bring it to bytes.
_TO_BYTES = {
    "b": "where True is white, such as array.astype(numpy.uint8) * 255",
    "f": "where 1.0 is white, such as (array * 255).round().clip(0, 255).astype(numpy.uint8)",
    "u": "from 16 bits, such as (array / 257).round().astype(numpy.uint8)",
    "i": "where 255 is white, such as array.clip(0, 255).astype(numpy.uint8)",
}


def from_tensor(tensor: Tensor) -> tuple[Tensor, bool]:
    """(3, H, W) on the CPU, uint8 or float32 in [0, 1], and whether it is grey.

    Values outside [0, 1] by no more than rounding (1e-6, or one step of a narrower type) are clamped.
    """
    what = f"a tensor of shape {tuple(tensor.shape)}, {tensor.dtype}".replace("torch.", "")
    if tensor.is_meta or tensor.layout != torch.strided:
        raise ImageError(f"{what}: it holds no pixels of its own: give a dense tensor on a CPU or a GPU")
    grey = tensor.ndim == 2 or (tensor.ndim == 3 and tensor.shape[0] == 1)
    if not grey and (tensor.ndim != 3 or tensor.shape[0] != 3):
        raise ImageError(f"{what}: (3, H, W), or (1, H, W) for grey, is needed: {_advice_on_shape(tensor)}")
    refuse_empty(int(tensor.shape[-1]), int(tensor.shape[-2]), what)
    if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
        to_bytes = "tensor.byte() * 255" if tensor.dtype == torch.bool else "tensor.clamp(0, 255).byte()"
        raise ImageError(f"{what}: uint8, or float in [0, 1], is needed, such as {to_bytes}")
    pixels = tensor.detach().cpu()
    if pixels.is_floating_point():
        pixels = _in_range(pixels.float(), max(ROUNDING, torch.finfo(tensor.dtype).eps), what)
    if grey:
        pixels = pixels.reshape(1, *pixels.shape[-2:]).expand(3, -1, -1)
    return pixels.contiguous(), grey


def _in_range(pixels: Tensor, rounding: float, what: str) -> Tensor:
    low, high = (float(value) for value in torch.aminmax(pixels))
    # NaN compares false with everything, so it fails here as well.
    if not (low >= -rounding and high <= 1 + rounding):
        nans = int(pixels.isnan().sum())
        outside = int(((pixels < 0) | (pixels > 1)).sum())
        low, high = (float(value) for value in torch.aminmax(pixels.nan_to_num(0.5, float("inf"), -float("inf"))))
        found = [f"{nans} are no numbers (replace them, such as tensor.nan_to_num())"] if nans else []
        if outside:
            found.append(
                f"{outside} lie outside, from {low:.9g} to {high:.9g} "
                "(scale them first, such as tensor / 255, or clamp them, such as tensor.clamp(0, 1))"
            )
        raise ImageError(f"{what}: values in [0, 1] are needed; of {pixels.numel()}, {' and '.join(found)}")
    return pixels if low >= 0 and high <= 1 else pixels.clamp(0, 1)


def _advice_on_shape(tensor: Tensor) -> str:
    if tensor.ndim == 3 and tensor.shape[2] == 3:
        return "turn it with tensor.permute(2, 0, 1)"
    if tensor.ndim == 3 and tensor.shape[0] in (2, 4):
        return "alpha is not coded: flatten it first, or drop it, such as tensor[:3]"
    return "take pictures out of a batch one by one"


def from_array(array: npt.NDArray[Any]) -> tuple[Tensor, bool]:
    """uint8 (3, H, W), and whether it is grey. Of (1, W, 1) the last 1 is taken for the channel."""
    what = f"an array of shape {array.shape}, {array.dtype}"
    if array.ndim == 3 and array.shape[2] in (2, 4):
        colours = array.shape[2] - 1
        raise ImageError(f"{what}: alpha is not coded: flatten it first, or drop it with array[..., :{colours}]")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    elif array.ndim == 3 and array.shape[0] == 1 and array.shape[2] != 3:
        array = array[0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        turn = ": turn it with array.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] == 3 else ""
        raise ImageError(f"{what}: (H, W, 3), or (H, W) for grey, is needed{turn}")
    if array.dtype != np.uint8:
        advice = _TO_BYTES.get(array.dtype.kind)
        raise ImageError(f"{what}: uint8 is needed" + (f": {advice}" if advice else ""))
    if isinstance(array, np.ma.MaskedArray) and np.any(array.mask):
        raise ImageError(f"{what}: some of its pixels are masked: fill them first, such as array.filled(0)")
    refuse_empty(array.shape[1], array.shape[0], what)
    grey = array.ndim == 2
    planes = np.stack([array] * 3) if grey else array.transpose(2, 0, 1)
    # A copy: a Picture does not change when its source does.
    return torch.from_numpy(np.array(planes, order="C")), grey
