"""Devices by name: what is not there is said plainly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import robuststream as rs
from robuststream.model.devices import find_device
from robuststream.model.frozen import Model
from tests.small import model, net

NOWHERE = ["meta", "nonsense", "", "cuda:77", "cuda:-1", "CPU", "vulkan", None, 1.5]


@pytest.mark.parametrize("device", NOWHERE)
def test_devices_that_are_not_there(device: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model().save(path)
    calls = [
        lambda: find_device(device),
        lambda: rs.load_model(path, device),
        lambda: Model.load(path, device),
        lambda: Model.from_bytes(path.read_bytes(), device),
        lambda: rs.freeze(net("mbt2018-mean"), device=device),
    ]
    for call in calls:
        with pytest.raises(rs.DeviceNotFound, match=r"there is no device .* here: torch has cpu") as error:
            call()
        assert "\n" not in str(error.value)
        assert error.value.exit_code == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps", torch.device("cuda")])
def test_without_a_gpu(device: Any) -> None:
    with pytest.raises(rs.DeviceNotFound, match=rf"there is no device '{device}' here: torch has cpu"):
        rs.load_model(device=device)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "cpu:0"])
def test_devices_that_are(device: Any) -> None:
    assert find_device(device) == torch.device(device)


def test_one_that_is_there_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise RuntimeError("CUDA error: out of memory\nmore")

    monkeypatch.setattr(torch, "zeros", full)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(rs.DeviceNotFound, match=r"device cuda:0 cannot be used now \(CUDA error: out of memory\)$"):
        find_device("cuda:0")
