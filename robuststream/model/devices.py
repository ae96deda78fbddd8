"""The device a caller names, tried before anything is put on it."""

from __future__ import annotations

import torch

from robuststream.errors import DeviceNotFound, first_line


def find_device(device: torch.device | str) -> torch.device:
    """The device of this name.

    Raises:
        DeviceNotFound: torch knows none of this name, or cannot compute there.
    """
    try:
        named = torch.device(device)
        # What is not there shows when it is used; `meta` lets everything happen, and gives nothing back.
        torch.zeros(1, dtype=torch.float32, device=named).cpu()
    except MemoryError:
        raise
    except Exception as error:  # each backend raises what it likes
        there = _there()
        if str(device) in there:
            raise DeviceNotFound(f"device {device} cannot be used now ({first_line(error)})") from error
        raise DeviceNotFound(f"there is no device {str(device)!r} here: torch has {', '.join(there)}") from error
    return named


def _there() -> list[str]:
    cuda = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *(["cuda", *cuda] if cuda else []), *mps]
