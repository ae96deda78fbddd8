"""Arrays and tensors of every layout, and those that are nearly right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robuststream.container.packets import Colour
from robuststream.errors import ImageError
from robuststream.picture.io import read_picture
from tests.picture.files import channels, noise


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (1, 5, 7), (1, 7), (1, 1), (1, 1, 1), (1, 7, 1), (5, 1, 1)])
def test_grey_arrays(shape: tuple[int, ...]) -> None:
    array = noise(*shape)
    picture = read_picture(array)
    assert picture.colour == Colour.GREY
    plane = array[:, :, 0] if shape[-1] == 1 and len(shape) == 3 else array.reshape(shape[-2:])
    np.testing.assert_array_equal(channels(picture), np.dstack([plane] * 3))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (1, 7), (1, 1, 1)])
def test_grey_tensors(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = torch.from_numpy(noise(*shape)).to(dtype) / (1 if dtype == torch.uint8 else 255)
    picture = read_picture(tensor.to(dtype))
    assert picture.colour == Colour.GREY
    assert picture.pixels.dtype == dtype
    assert picture.pixels.is_contiguous()
    for plane in picture.pixels:
        assert torch.equal(plane, tensor.to(dtype).reshape(shape[-2:]))


def test_one_row_in_colour_is_in_colour() -> None:
    for shape in ((1, 7, 3), (5, 1, 3), (3, 3, 3)):
        assert read_picture(noise(*shape)).colour == Colour.RGB


@pytest.mark.parametrize(
    "view",
    [
        lambda array: array[::-1, ::-1],
        lambda array: array[::2, 1::3],
        lambda array: array[:, :, ::-1],
        lambda array: np.asfortranarray(array),
        lambda array: np.frombuffer(array.tobytes(), np.uint8).reshape(array.shape),
        lambda array: np.broadcast_to(array[:1], array.shape),
        lambda array: array.astype(">u1"),
        lambda array: np.ma.MaskedArray(array),
    ],
)
def test_layouts(view: object) -> None:
    array = view(noise(12, 9, 3))  # type: ignore[operator]
    np.testing.assert_array_equal(channels(read_picture(array)), array)
    grey = view(noise(12, 9, 3))[:, :, 0]  # type: ignore[operator]
    np.testing.assert_array_equal(channels(read_picture(grey))[:, :, 2], grey)


def test_masked_pixels_are_refused() -> None:
    masked = np.ma.MaskedArray(noise(4, 4, 3), mask=np.eye(4, dtype=bool)[:, :, None].repeat(3, 2))
    with pytest.raises(ImageError, match=r"array\.filled"):
        read_picture(masked)
    read_picture(masked.filled(0))


@pytest.mark.parametrize(("dtype", "beside"), [(torch.float32, 1e-6), (torch.float64, 1e-6), (torch.bfloat16, 2**-7)])
def test_rounding_is_no_fault(dtype: torch.dtype, beside: float) -> None:
    tensor = torch.full((3, 4, 5), 0.5, dtype=dtype)
    tensor[0, 0, 0], tensor[1, 1, 1] = 1 + beside, -beside
    pixels = read_picture(tensor).pixels
    assert (float(pixels.min()), float(pixels.max())) == (0, 1)
    assert float(tensor.max()) > 1
    within = tensor.clamp(0, 1)
    assert torch.equal(pixels, within.float())


def test_values_outside_are_counted_and_told_apart_from_1() -> None:
    tensor = torch.full((3, 4, 5), 0.5)
    tensor[0, 0, :3] = 1.00001
    tensor[1, 0, 0] = -2
    with pytest.raises(ImageError, match=r"of 60, 4 lie outside, from -2 to 1\.00001") as caught:
        read_picture(tensor)
    assert "tensor.clamp(0, 1)" in str(caught.value)
    tensor[2, 2, 2] = float("nan")
    with pytest.raises(ImageError, match=r"of 60, 1 are no numbers \(.*\) and 4 lie outside"):
        read_picture(tensor)
    with pytest.raises(ImageError, match=r"from 0\.5 to inf"):
        read_picture(torch.full((3, 1, 2), 0.5).index_fill(2, torch.tensor([1]), float("inf")))


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        (noise(3, 5, 7), "array.transpose(1, 2, 0)"),
        (torch.from_numpy(noise(5, 7, 3)), "tensor.permute(2, 0, 1)"),
        (noise(5, 7, 2), "array[..., :1]"),
        (noise(5, 7, 4), "array[..., :3]"),
        (torch.from_numpy(noise(4, 5, 7)), "tensor[:3]"),
    ],
)
def test_the_advice_on_shapes_works(source: object, advice: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_picture(source)
    assert advice in str(caught.value)
    assert read_picture(eval(advice, {"array": source, "tensor": source})).pixels.shape[0] == 3


@pytest.mark.parametrize(
    "source",
    [
        torch.zeros(2, 3, 4, 4),
        torch.zeros(3, 4, 4, device="meta"),
        torch.zeros(3, 4, 4).to_sparse(),
        torch.zeros(3, 4, 4, dtype=torch.complex64),
        noise(2, 5, 7, 3),
        noise(7),
        np.array(None),
        np.zeros((4, 4, 3), object),
        np.zeros((4, 4), "datetime64[s]"),
    ],
)
def test_one_clear_line(source: object) -> None:
    with pytest.raises(ImageError) as caught:
        read_picture(source)
    assert "\n" not in str(caught.value)
