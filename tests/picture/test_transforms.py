"""Pixels to bytes, against torch's own arithmetic."""

from __future__ import annotations

import pytest
import torch

from robuststream import workers
from robuststream.picture import transforms
from robuststream.picture.transforms import to_bytes


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_bytes_are_rounded_as_torch_rounds(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "threads", lambda: threads)
    monkeypatch.setattr(transforms, "LEAST", 1)
    # All bytes, all that lies half-way between two, and the numbers beside.
    halves = torch.arange(511) / 510
    beside = [torch.nextafter(halves, torch.tensor(way)) for way in (0.0, 1.0)]
    values = torch.cat([halves, *beside, torch.rand(9 * 3 * 57, generator=torch.Generator().manual_seed(1))])
    tensor = values[: len(values) // 27 * 27].reshape(3, 9, -1)
    for given in (tensor, tensor[:, 2:5, 1:9], tensor.transpose(1, 2), tensor[:, :1, :1], tensor.double()):
        expected = (given.float() * 255).round().to(torch.uint8).permute(1, 2, 0)
        assert torch.equal(torch.from_numpy(to_bytes(given)), expected)
