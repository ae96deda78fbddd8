"""Small models of each architecture: trained for minutes where a checkpoint is there, else random and spread out.

    python tools/bars/small.py PHOTOS [--work DIR] [NAME...]

trains each for so many steps, by the same crops in every run, and writes DIR/NAME.pth; bars look for them under
.training/small, and keep the random ones there too. (With torch 2.14 on two cores, oneDNN's backward corrupts the heap
for cheng2020-anchor-checkerboard; the others train.)
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
CROP, BATCH, RATE, STEPS = 128, 8, 1e-3, 600
#: Where bars look for them.
FOLDER = Path(__file__).resolve().parents[2] / ".training" / "small"


def build(name: str) -> Any:
    from compressai import models  # slow, and not wanted by all who import this module

    torch.manual_seed(1)
    return getattr(models, ARCHITECTURES[name][0])(**SIZES[name])


def load(name: str, folder: Path) -> tuple[Any, rs.Model]:
    """The net with its tables, and the frozen model."""
    made = net(name, folder)
    return made, rs.freeze(made)


def net(name: str, folder: Path) -> Any:
    """With its tables: trained, where that was done, else random and spread out."""
    trained, random = folder / f"{name}.pth", folder / f"{name}.random.pth"
    made = build(name).eval()
    if not trained.exists() and not random.exists():
        spread(made)
        # Kept: another machine builds other CDF tables of the same weights.
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(made.state_dict(), random)
    made.load_state_dict(torch.load(trained if trained.exists() else random, weights_only=True))
    return made


def is_table(key: str) -> bool:
    """Whether a tensor of a checkpoint is one of its CDF tables."""
    return key.rsplit(".", 1)[-1] in ("_offset", "_quantized_cdf", "_cdf_length", "scale_table")


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


def train(name: str, pictures: list[np.ndarray], steps: int = STEPS) -> Any:
    """Additive noise for rate and distortion, as CompressAI's `forward` has it."""
    net = build(name).train()
    quantiles = [p for n, p in net.named_parameters() if n.endswith(".quantiles")]
    others = [p for n, p in net.named_parameters() if not n.endswith(".quantiles")]
    optimizer, auxiliary = torch.optim.Adam(others, lr=RATE), torch.optim.Adam(quantiles, lr=1e-3)
    random, begin, loss = np.random.default_rng(1), time.monotonic(), torch.zeros(())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 if step < 0.7 * steps else 0.1)
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
    print(f"{name}: {steps} steps in {time.monotonic() - begin:.0f} s, loss {loss.item():.3f}", flush=True)
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of PNG or JPEG pictures")
    parser.add_argument("names", nargs="*", default=list(SIZES), metavar="NAME", help=", ".join(SIZES))
    parser.add_argument("--work", type=Path, default=FOLDER)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_intermixed_args()
    paths = sorted(path for path in arguments.photos.glob("*") if path.suffix in (".png", ".jpg"))
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    pictures = [picture for picture in pictures if min(picture.shape[:2]) >= CROP]
    if not pictures:
        sys.exit(
            f"{arguments.photos} has no pictures of {CROP} pixels or more: nothing is trained, bars take random weights"
        )
    arguments.work.mkdir(parents=True, exist_ok=True)
    for name in arguments.names:
        net = train(name, pictures, arguments.steps)
        torch.save(net.state_dict(), arguments.work / f"{name}.pth")


if __name__ == "__main__":
    main()
