"""Where the time of an encode or a decode goes, without a line in the product: by whose functions run.

Python tells of each call in the thread that watches. A function that begins a stage is known by the folder and the name
it has; what it calls belongs to its stage, unless that begins another. So the stages sum to the time that passed, and
work that other threads do meanwhile is counted where this thread waits for it. On a GPU, the stages end when it does.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn

import robuststream
from robuststream.model.anatomy import dissect

PACKAGE = str(Path(robuststream.__file__).parent) + "/"
ANALYSIS, HYPER, EXACT, INDEXES, RANS = "analysis", "hyper analysis", "exact networks", "indexes, digests", "rANS"
SYNTHESIS, PICTURE, CONTAINER, COPIES, REST = "synthesis", "picture", "container", "copies", "rest"
STAGES = (ANALYSIS, HYPER, EXACT, INDEXES, RANS, SYNTHESIS, PICTURE, CONTAINER, COPIES, REST)
#: What begins a stage: folder of the package, name of the function (any where there is none). The first that fits.
BEGINNINGS = (
    ("picture/", "analyse", ANALYSIS),
    ("picture/", "synthesise", SYNTHESIS),
    ("priors/", "analyse", HYPER),
    ("networks/", "", EXACT),
    ("priors/", "", INDEXES),
    ("entropy/", "", RANS),
    ("picture/", "", PICTURE),
    ("container/", "", CONTAINER),
    ("files/", "", CONTAINER),
)
#: Networks, which are one stage whatever their layers are made of.
WHOLE = (ANALYSIS, HYPER, EXACT, SYNTHESIS)
#: Methods by which tensors go from a device to another.
MOVING = {"cpu", "cuda", "to", "copy_", "pin_memory"}


class Clock:
    """Seconds by stage: what passes belongs to the stage that began last, until that ends.

    Args:
        device: of the model. On a GPU each change of stage waits for it.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.on_gpu = torch.device(device).type == "cuda"
        self.seconds: Counter[str] = Counter()
        #: What will end the stages that are open (a frame, a function, a module), and which they are.
        self._open: list[tuple[Any, str]] = [(None, REST)]
        self._last = self._now()

    def _now(self) -> float:
        if self.on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def count(self) -> None:
        now = self._now()
        self.seconds[self._open[-1][1]] += now - self._last
        self._last = now

    def begin(self, what: Any, stage: str) -> None:
        inside = self._open[-1][1]
        if stage != inside and (inside not in WHOLE or stage == COPIES):
            self.count()
            self._open.append((what, stage))

    def end(self, what: Any) -> None:
        # A builtin method is another object at each of its events, but an equal one.
        if len(self._open) > 1 and self._open[-1][0] == what:
            self.count()
            self._open.pop()


class Watch(Clock):
    """A clock of this package's stages, in this thread, from entering to leaving it as a context."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        super().__init__(device)
        self._known: dict[CodeType, str] = {}

    def __enter__(self) -> Watch:
        sys.setprofile(self._event)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)
        self.count()

    def _event(self, frame: FrameType, event: str, function: Any) -> None:
        if event == "call":
            stage = self._known.get(frame.f_code)
            if stage is None:
                stage = self._known[frame.f_code] = _stage(frame.f_code)
            if stage:
                self.begin(frame, stage)
        elif event == "return":
            self.end(frame)
        elif self.on_gpu and getattr(function, "__name__", "") in MOVING:
            if event == "c_call":
                self.begin(function, COPIES)
            else:
                self.end(function)


def _stage(code: CodeType) -> str:
    """The stage that a function begins; empty where it goes on with its caller's."""
    if not code.co_filename.startswith(PACKAGE):
        return ""
    path = code.co_filename[len(PACKAGE) :]
    return next((stage for room, name, stage in BEGINNINGS if path.startswith(room) and name in ("", code.co_name)), "")


def watched(runs: int, action: Callable[[], object], device: torch.device | str = "cpu") -> dict[str, float]:
    """Median seconds of each stage of the action, after a warm-up."""
    rounds = []
    for _ in range(runs + 1):
        with Watch(device) as watch:
            action()
        rounds.append(watch.seconds)
    return _medians(rounds[1:])


def watched_net(
    runs: int, net: Any, action: Callable[[], object], device: torch.device | str = "cpu"
) -> dict[str, float]:
    """As `watched`, of a CompressAI net: its networks by our stages' names, and everything else as the rest."""
    stages, hooks, rounds = networks(net), [], []
    for module, stage in stages.items():
        hooks.append(module.register_forward_pre_hook(lambda module, *_, stage=stage: clock.begin(module, stage)))
        hooks.append(module.register_forward_hook(lambda module, *_: clock.end(module)))
    for _ in range(runs + 1):
        clock = Clock(device)
        action()
        clock.count()
        rounds.append(clock.seconds)
    for hook in hooks:
        hook.remove()
    return _medians(rounds[1:])


def networks(net: Any) -> dict[nn.Module, str]:
    """Of a CompressAI net: each of its networks, and the stage that ours has for it."""
    anatomy = dissect(net)
    found: dict[nn.Module, str] = {
        net.g_a: ANALYSIS,
        net.g_s: SYNTHESIS,
        **dict.fromkeys(anatomy.networks.values(), EXACT),
    }
    return found if anatomy.hyper is None else {**found, anatomy.hyper[0]: HYPER, anatomy.hyper[1]: EXACT}


def _medians(rounds: list[Counter[str]]) -> dict[str, float]:
    return {stage: median(seconds[stage] for seconds in rounds) for stage in STAGES}
