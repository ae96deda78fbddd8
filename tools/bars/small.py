"""Small models of each architecture: trained for minutes where a checkpoint is there, else random and spread out.

    python tools/bars/small.py PHOTOS WORK [NAME...]

trains, and writes WORK/NAME.pth; bars look for them under .training/small, and keep the random ones there too. (With
torch 2.14 on two cores, oneDNN's backward corrupts the heap for cheng2020-anchor-checkerboard; the others train.)
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compressai import models
from PIL import Image

import robuststream as rs
from robuststream.model.anatomy import ARCHITECTURES, dissect

#: What each class is made with.
SIZES: dict[str, dict[str, Any]] = {
    "mbt2018-mean": {"N": 32, "M": 48},
    "mbt2018": {"N": 32, "M": 48},
    "cheng2020-anchor": {"N": 32},
    "cheng2020-attn": {"N": 32},
    "cheng2020-anchor-checkerboard": {"N": 32},
    "elic2022-official": {"N": 32, "M": 64, "groups": [4, 4, 8, 16, 32]},
    "elic2022-chandelier": {"N": 32, "M": 64, "groups": [4, 4, 8, 16, 32]},
}
LAMBDA = 0.013
CROP, BATCH, RATE, SECONDS = 128, 8, 1e-3, 150


def build(name: str) -> Any:
    torch.manual_seed(1)
    return getattr(models, ARCHITECTURES[name][0])(**SIZES[name])


def load(name: str, folder: Path) -> tuple[Any, rs.Model]:
    """The net with its tables, and the frozen model."""
    trained, random = folder / f"{name}.pth", folder / f"{name}.random.pth"
    net = build(name).eval()
    if not trained.exists() and not random.exists():
        spread(net)
        # Kept: another machine builds other CDF tables of the same weights.
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(net.state_dict(), random)
    net.load_state_dict(torch.load(trained if trained.exists() else random, weights_only=True))
    return net, rs.freeze(net)


@torch.no_grad()
def spread(net: Any) -> None:
    """Scale random weights so that latents have energy and CDF rows spread over the tables, and build the tables."""
    anatomy = dissect(net)
    _last(net.g_a).weight *= 30
    if anatomy.hyper is not None:
        _last(anatomy.hyper[0]).weight *= 20
        _last(anatomy.hyper[1]).weight *= 10
        for name, module in anatomy.networks.items():
            parameters = name.endswith("entropy_parameters")
            _last(module).weight *= 12 if parameters else 4
            if parameters:
                _last(module).bias += 2 * torch.rand(len(_last(module).bias))
    if hasattr(net, "Gain"):
        net.QuantABCD[-1].weight *= 0.5
        net.QuantABCD[-1].bias += 0.1
        if hasattr(net, "gayn2zqstep"):
            net.gayn2zqstep[-2].bias += 1
    medians = anatomy.bottleneck.quantiles
    medians += torch.rand(medians.shape[0], 1, 1) - 0.5
    net.update()


def _last(module: Any) -> Any:
    return [layer for layer in module.modules() if isinstance(layer, (torch.nn.Conv2d, torch.nn.ConvTranspose2d))][-1]


def train(name: str, pictures: list[np.ndarray], seconds: float) -> Any:
    """Additive noise for rate and distortion, as CompressAI's `forward` has it."""
    net = build(name).train()
    quantiles = [p for n, p in net.named_parameters() if n.endswith(".quantiles")]
    others = [p for n, p in net.named_parameters() if not n.endswith(".quantiles")]
    optimizer, auxiliary = torch.optim.Adam(others, lr=RATE), torch.optim.Adam(quantiles, lr=1e-3)
    random, begin, step, loss = np.random.default_rng(1), time.monotonic(), 0, torch.zeros(())
    while (spent := (time.monotonic() - begin) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 if spent < 0.7 else 0.1)
        x = _crops(pictures, random)
        out = net(x)
        bits = -sum(torch.log2(likelihood).sum() for likelihood in out["likelihoods"].values())
        loss = LAMBDA * 255**2 * torch.mean((x - out["x_hat"]) ** 2) + bits / (len(x) * CROP * CROP)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        optimizer.step()
        auxiliary.zero_grad(set_to_none=True)
        net.aux_loss().backward()
        auxiliary.step()
        step += 1
    print(f"{name}: {step} steps, loss {loss.item():.3f}", flush=True)
    net.eval()
    net.update(force=True)
    return net


def _crops(pictures: list[np.ndarray], random: np.random.Generator) -> torch.Tensor:
    batch = []
    for _ in range(BATCH):
        picture = pictures[random.integers(len(pictures))]
        top = random.integers(picture.shape[0] - CROP + 1)
        left = random.integers(picture.shape[1] - CROP + 1)
        batch.append(picture[top : top + CROP, left : left + CROP])
    return torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float() / 255


def main() -> None:
    photos, work, *names = sys.argv[1:]
    Path(work).mkdir(parents=True, exist_ok=True)
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(Path(photos).glob("*.png"))]
    pictures = [picture for picture in pictures if min(picture.shape[:2]) >= CROP]
    for name in names or SIZES:
        net = train(name, pictures, SECONDS)
        torch.save(net.state_dict(), Path(work) / f"{name}.pth")


if __name__ == "__main__":
    main()
