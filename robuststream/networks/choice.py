"""Which engine a device multiplies with: one that is seen to be exact there, and of those the fastest.

All give the same integers, so the choice is of time alone; but a library's kernel is not believed, it is asked. Each
shape of product a network has is tried with the largest limbs there are, which is where a kernel that adds in too few
bits is wrong. What was found is kept on disk for this machine, torch and its settings.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import platformdirs
import torch

from robuststream.errors import UnsupportedModel
from robuststream.files.writing import write_file
from robuststream.networks.engines import ENGINES, Engine, bands_of
from robuststream.networks.fixedpoint import LIMITS, SUM_BITS, WEIGHT_LIMIT
from robuststream.networks.graph import Layer
from robuststream.networks.integers import convolution
from robuststream.networks.phases import phases_of

log = logging.getLogger(__name__)

#: Forces an engine, for tests and measurements.
VARIABLE = "ROBUSTSTREAM_EXACT"
#: Columns and outputs of a product of matrices.
Shape = tuple[int, int]
#: So many processes time the engines.
ENOUGH_ROUNDS = 8
#: Terms of full size that a sum below 2^52 may have.
LARGEST_SUM = (1 << SUM_BITS) // (WEIGHT_LIMIT * 128 * 65793)
#: Of a device without float64.
SINGLE_PRECISION = ("mps",)


def engine_for(device: torch.device, shapes: Iterable[Shape]) -> Engine:
    """The engine for a network with products of these shapes on a device.

    Raises:
        UnsupportedModel: no engine is exact there.
    """
    forced = os.environ.get(VARIABLE)
    if forced:
        if forced not in ENGINES:
            raise UnsupportedModel(f"{VARIABLE}={forced}: the engines are {', '.join(ENGINES)}")
        return ENGINES[forced]
    verdict = _Verdict(device)
    for name in verdict.ranking:
        if all(verdict.is_exact(name, shape) for shape in sorted(set(shapes))):
            verdict.keep()
            return ENGINES[name]
        log.warning("the engine %s is not exact on %s: another is used", name, device)
    raise UnsupportedModel(f"no engine computes exactly on {device}: use device='cpu'")


class _Verdict:
    """What is known of a device: how long each engine takes, and for which shapes it was exact.

    A machine may be busy when engines are timed. So each of the first processes times them again, and what counts is
    the least that any of them saw.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._path = _path(device)
        known = _read(self._path)
        self._changed = known is None or known["rounds"] < ENOUGH_ROUNDS
        self._known: dict[str, Any] = known or {"rounds": 0, "seconds": {}, "exact": {}}
        if self._changed:
            self._known["rounds"] += 1
            seconds = self._known["seconds"]
            for name, taken in _times(device).items():
                seconds[name] = min(taken, seconds.get(name, taken))

    @property
    def ranking(self) -> list[str]:
        """The fastest first."""
        seconds: dict[str, float] = self._known["seconds"]
        return sorted(seconds, key=lambda name: seconds[name])

    def is_exact(self, name: str, shape: Shape) -> bool:
        key, exact = f"{name} {shape[0]}x{shape[1]}", self._known["exact"]
        if key not in exact:
            exact[key] = _known_answer(ENGINES[name], shape, self._device)
            self._changed = True
        return bool(exact[key])

    def keep(self) -> None:
        if not self._changed or self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_file(self._path, json.dumps(self._known, sort_keys=True).encode())
        except OSError as error:
            log.debug("%s cannot be kept: %s", self._path, error)


def _path(device: torch.device) -> Path | None:
    """Named by all that may change what a kernel does."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~")
    if not os.path.isabs(home):
        return None
    settings = [os.environ.get(name) for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_CBWR")]
    where = [device.type, platform.node(), platform.machine(), torch.backends.cpu.get_cpu_capability()]
    if device.type == "cuda":
        where += [torch.cuda.get_device_name(device), str(torch.version.cuda)]
    key = [torch.__version__, torch.get_num_threads(), torch.backends.mkldnn.enabled, settings, where]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    return platformdirs.user_cache_path("robuststream") / "engines" / f"{digest}.json"


def _read(path: Path | None) -> dict[str, Any] | None:
    """None where there is nothing that makes sense: it is found out anew."""
    try:
        known = json.loads(path.read_bytes()) if path else {}
        rounds, seconds, exact = known["rounds"], known["seconds"], known["exact"]
        times = all(name in ENGINES and type(taken) is float for name, taken in seconds.items())
        if type(rounds) is int and seconds and times and all(type(value) is bool for value in exact.values()):
            return {"rounds": rounds, "seconds": seconds, "exact": exact}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return None


def _times(device: torch.device) -> dict[str, float]:
    """Seconds that each engine takes which the device has."""
    names = ["float32"] if device.type in SINGLE_PRECISION else ["int8", "float64"]
    times = {name: _time(ENGINES[name], device) for name in names}
    return {name: taken for name, taken in times.items() if taken is not None}


def _time(engine: Engine, device: torch.device) -> float | None:
    """Seconds of a typical convolution, the least of a few; None where the device cannot do it."""
    weight = torch.arange(128 * 128 * 9, dtype=torch.int32, device="cpu") % 16001 - 8000
    tensors = {
        "weight": weight.to(torch.int16).reshape(128, 128, 3, 3),
        "bias": torch.zeros(128, dtype=torch.int64, device="cpu"),
        "shift": torch.full((128,), 13, dtype=torch.int32, device="cpu"),
    }
    layer = Layer("conv2d", {"stride": 1, "padding": 1}, tensors)
    # Most values need two limbs.
    values = torch.arange(32 * 16 * 128, dtype=torch.int32, device="cpu") % 60001 - 30000
    try:
        run = convolution(layer, phases_of(layer), LIMITS[24], 0, engine, device)
        x = values.reshape(1, 32, 16, 128).to(device)
        return min(_seconds(lambda: run(x), device) for _ in range(5))
    except RuntimeError as error:
        log.debug("%s has no %s: %s", device, engine.name, error)
        return None


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _known_answer(engine: Engine, shape: Shape, device: torch.device) -> bool:
    """Whether products of the largest limbs, which all add up, are right in every band."""
    inner, outputs = shape
    limbs = torch.tensor([-64, 63, -1], dtype=torch.int64, device="cpu").repeat(outputs)[:outputs]
    # Both limbs of each weight are extreme: 128 high + low. So many of them that the sum is the largest there may be.
    weights, terms = limbs * 128 + limbs, min(inner, LARGEST_SUM)
    matrix = torch.zeros((inner, outputs), dtype=torch.int16, device="cpu")
    matrix[:terms] = weights.to(torch.int16)
    prepared = engine.prepare(matrix, device)
    for rows in bands_of(inner, outputs):
        for value in (-128 * 65793, 127 * 65793):  # the same limb three times: 65793 = 2^16 + 2^8 + 1
            columns = torch.full((rows, inner), value, dtype=torch.int32, device=device)
            sums = engine.sums(columns, prepared)[:, :outputs].cpu()
            if not torch.equal(sums, (weights * value * terms).expand(rows, outputs)):
                return False
    return True
