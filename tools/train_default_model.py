"""Train the bundled mbt2018-mean model, resume after an interruption, freeze the result.

    python tools/train_default_model.py PHOTOS --work DIR               # the whole recipe, from random weights
    python tools/train_default_model.py PHOTOS --work DIR --start CKPT  # only its last phase, from a checkpoint
    python tools/train_default_model.py --work DIR --freeze OUT.safetensors

PHOTOS is a folder of PNG pictures. Charts and logos among them are left out: they dominate a batch's squared error.
A checkpoint is written to DIR every few minutes, by rename; the same command goes on from it.

The recipe is measured to work on two cores: small crops first (large ones from the start learn several times slower),
straight-through rounding for the synthesis transform and additive noise for the rate, bfloat16 for the convolutions of
the two big transforms only, the last tenth of the steps all in float32.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from compressai.layers import GDN
from compressai.models import MeanScaleHyperprior
from PIL import Image

import robuststream as rs

CHANNELS = {"N": 64, "M": 96}
LAMBDA = 0.013
LICENCE = "CC BY-SA 4.0"
ATTRIBUTION = (
    "Trained by the robuststream authors on photographs of the Cloudinary Image Dataset '22 (CID22, Cloudinary, "
    "CC BY-SA 4.0) and on wallpapers by Unsplash and Pexels photographers (CC0)."
)
SAVE_SECONDS = 180
FLOAT32_TAIL = 0.1


@dataclass(frozen=True)
class Phase:
    """Steps at one crop size; the learning rate goes from `rate` to `end` along half a cosine."""

    steps: int
    crop: int
    batch: int
    rate: float
    end: float


FROM_SCRATCH = (
    Phase(16000, 64, 16, 2e-3, 2e-3),
    Phase(14000, 128, 8, 1e-3, 1e-3),
    Phase(14000, 192, 6, 5e-4, 1e-4),
)
# The streams are cut into tiles of 256 pixels, so the last phase sees just such pieces.
LAST = Phase(20000, 256, 4, 3e-4, 1e-6)


def main() -> None:
    arguments = parse_arguments()
    checkpoint = arguments.work / "checkpoint.pt"
    if arguments.freeze:
        freeze(checkpoint, arguments.freeze)
    else:
        arguments.work.mkdir(parents=True, exist_ok=True)
        train(arguments, checkpoint)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?", help="a folder of PNG pictures")
    parser.add_argument("--work", type=Path, required=True, help="where the checkpoint lies")
    parser.add_argument("--start", type=Path, help="begin the last phase from this checkpoint")
    parser.add_argument("--steps", type=int, help="length of the last phase, instead of the recipe's")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--freeze", type=Path, metavar="OUT", help="do not train: freeze the checkpoint into OUT")
    arguments = parser.parse_args()
    if not arguments.freeze and arguments.photos is None:
        parser.error("PHOTOS is missing")
    return arguments


def train(arguments: argparse.Namespace, checkpoint: Path) -> None:
    last = LAST if arguments.steps is None else replace(LAST, steps=arguments.steps)
    phases = (last,) if arguments.start else (*FROM_SCRATCH, last)
    total = sum(phase.steps for phase in phases)
    net = MeanScaleHyperprior(**CHANNELS)
    main_parameters = [p for n, p in net.named_parameters() if not n.endswith(".quantiles")]
    optimizer = torch.optim.Adam(main_parameters, lr=1e-3)
    auxiliary = torch.optim.Adam([net.entropy_bottleneck.quantiles], lr=1e-3)
    step, seen = 0, 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(saved["state_dict"])
        optimizer.load_state_dict(saved["optimizer"])
        auxiliary.load_state_dict(saved["auxiliary"])
        step, seen = saved["step"], saved["steps"]
    elif arguments.start:
        saved = torch.load(arguments.start, weights_only=True)
        net.load_state_dict(saved["state_dict"])
        seen = saved["steps"]
    pictures = load_photographs(arguments.photos)
    print(f"{len(pictures)} photographs, {total} steps, going on from step {step}", flush=True)

    net.train()
    saved_at = reported_at = time.monotonic()
    average: dict[str, float] = {}
    while step < total:
        phase, rate = schedule(phases, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        # Seeded by the step, so that an interrupted run sees the crops it would have seen.
        random = np.random.default_rng((arguments.seed, step))
        torch.manual_seed(arguments.seed * 1_000_003 + step)
        batch = crops(pictures, phase, random)
        figures = train_step(net, optimizer, auxiliary, batch, bfloat16=step < total * (1 - FLOAT32_TAIL))
        step += 1
        for name, value in figures.items():
            average[name] = value if name not in average else 0.99 * average[name] + 0.01 * value
        now = time.monotonic()
        if now - reported_at > 30:
            reported_at = now
            print(f"step {step}/{total} crop {phase.crop} rate {rate:.2e} " + describe(average), flush=True)
        if now - saved_at > SAVE_SECONDS or step == total:
            saved_at = now
            save(checkpoint, net, optimizer, auxiliary, step, seen + step)


def schedule(phases: tuple[Phase, ...], step: int) -> tuple[Phase, float]:
    for phase in phases:
        if step < phase.steps:
            turn = 0.5 * (1 + math.cos(math.pi * step / phase.steps))
            return phase, phase.end + (phase.rate - phase.end) * turn
        step -= phase.steps
    raise ValueError("the step lies behind the last phase")


def train_step(
    net: MeanScaleHyperprior,
    optimizer: torch.optim.Optimizer,
    auxiliary: torch.optim.Optimizer,
    x: torch.Tensor,
    bfloat16: bool,
) -> dict[str, float]:
    y = transform(net.g_a, x, bfloat16)
    z = net.h_a(y)
    _, z_likelihoods = net.entropy_bottleneck(z)
    medians = net.entropy_bottleneck._get_medians().detach()[:, :, 0][None, :, :, None]
    z_hat = straight_through_round(z - medians) + medians
    scales, means = net.h_s(z_hat).chunk(2, 1)
    _, y_likelihoods = net.gaussian_conditional(y, scales, means=means)
    y_hat = straight_through_round(y - means) + means
    x_hat = transform(net.g_s, y_hat, bfloat16)

    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    bits = -(torch.log2(y_likelihoods).sum() + torch.log2(z_likelihoods).sum())
    error = torch.mean((x - x_hat) ** 2)
    loss = LAMBDA * 255**2 * error + bits / pixels
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 1.0)
    optimizer.step()
    auxiliary.zero_grad(set_to_none=True)
    net.aux_loss().backward()
    auxiliary.step()
    return {"loss": loss.item(), "mse": error.item(), "bpp": bits.item() / pixels}


def transform(layers: torch.nn.Sequential, x: torch.Tensor, bfloat16: bool) -> torch.Tensor:
    """Analysis or synthesis transform; GDN stays in float32, its divisions do not survive bfloat16."""
    for layer in layers:
        cast = bfloat16 and not isinstance(layer, GDN)
        context = torch.autocast("cpu", dtype=torch.bfloat16) if cast else contextlib.nullcontext()
        with context:
            x = layer(x if cast else x.float())
    return x.float()


def straight_through_round(x: torch.Tensor) -> torch.Tensor:
    return x + (torch.round(x) - x).detach()


def load_photographs(folder: Path) -> list[np.ndarray]:
    """All pictures of `folder` that are photographs, as uint8 (H, W, 3)."""
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))]
    # A photograph has few exactly equal neighbours.
    photographs = [p for p in pictures if (p[:, 1:] == p[:, :-1]).all(-1).mean() < 0.3]
    if not photographs:
        raise SystemExit(f"{folder}: no photographs (*.png) found")
    return photographs


def crops(pictures: list[np.ndarray], phase: Phase, random: np.random.Generator) -> torch.Tensor:
    """`phase.batch` random crops, flipped and turned at random: float32 (B, 3, crop, crop) in [0, 1]."""
    batch = []
    while len(batch) < phase.batch:
        picture = pictures[random.integers(len(pictures))]
        height, width, _ = picture.shape
        if min(height, width) < phase.crop:
            continue
        top = random.integers(height - phase.crop + 1)
        left = random.integers(width - phase.crop + 1)
        piece = picture[top : top + phase.crop, left : left + phase.crop]
        piece = np.rot90(piece, random.integers(2))
        batch.append(piece[:, :: random.choice((-1, 1))])
    stack = np.ascontiguousarray(np.stack(batch).transpose(0, 3, 1, 2))
    return torch.from_numpy(stack).float() / 255


def freeze(checkpoint: Path, out: Path) -> None:
    """Freeze the checkpoint, with its tables built once and its card inside."""
    saved = torch.load(checkpoint, weights_only=True)
    net = MeanScaleHyperprior.from_state_dict(saved["state_dict"])
    net.update(force=True)
    model = rs.freeze(net, name=out.stem, licence=LICENCE, attribution=ATTRIBUTION)
    model.save(out)
    print(f"{out}: {saved['steps']} steps, parameters {model.parameters_digest.hex()}")


def describe(average: dict[str, float]) -> str:
    psnr = -10 * math.log10(average["mse"])
    return f"loss {average['loss']:.4f} psnr {psnr:.2f} dB {average['bpp']:.4f} bpp"


def save(
    checkpoint: Path,
    net: MeanScaleHyperprior,
    optimizer: torch.optim.Optimizer,
    auxiliary: torch.optim.Optimizer,
    step: int,
    steps: int,
) -> None:
    temporary = checkpoint.with_suffix(".new")
    state = {
        **CHANNELS,
        "step": step,
        "steps": steps,
        "state_dict": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "auxiliary": auxiliary.state_dict(),
    }
    torch.save(state, temporary)
    os.replace(temporary, checkpoint)


if __name__ == "__main__":
    main()
