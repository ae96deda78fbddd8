"""CompressAI's models at the zoo's sizes, with latents such as trained ones have: what speed is measured with.

    python tools/bars/zoo.py [--photos DIR]        # what each makes of a photograph: bits a pixel

Training models of this size takes days. Time hangs on the sizes, and on how the latents spread over the CDF tables. So
mbt2018-mean gets the weights of a checkpoint where that is at hand (its gain for one rate folded into the weights), and
the others get random ones that are settled on a photograph: each layer that ends a transform or a network of entropy
parameters is scaled and shifted, so that its outputs have the mean and spread that trained models show: few channels
carry most, and scales fit the latents they are for. Their pictures are noise; nothing here depends on them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from compressai import models
from compressai.layers import AttentionBlock
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bars import common, small
from robuststream.model.anatomy import ARCHITECTURES, Anatomy, dissect
from robuststream.model.parts import ENTROPY_PARAMETERS, group_network

SIZES: dict[str, dict[str, int]] = {
    "mbt2018-mean": {"N": 128, "M": 192},
    "elic2022-official": {"N": 192, "M": 320},
    "mbt2018": {"N": 192, "M": 192},
    "cheng2020-attn": {"N": 192},
}
#: Of variable rate; ROBUSTSTREAM_CHECKPOINT names another place.
CHECKPOINT = common.ROOT.parent / "shared" / "checkpoints" / "mbt2018-mean-vbr-128-192.pt"
LEVEL = 2
#: Spread of the latents: of the first channel, and by what factor each next one has less. About 0.7 bits a pixel.
SPREAD, DECAY = 6.0, 0.95
#: Spread of means and of scales, relative to the latents'.
MEANS, SCALES = 0.3, 0.3


def load(name: str, photo: npt.NDArray[np.uint8], sizes: dict[str, Any] | None = None) -> Any:
    """The net with its tables, on the CPU: the same in every run on one machine."""
    checkpoint = Path(os.environ.get("ROBUSTSTREAM_CHECKPOINT", CHECKPOINT))
    if name == "mbt2018-mean" and sizes is None and checkpoint.exists():
        net = folded(torch.load(checkpoint, weights_only=True), LEVEL)
    else:
        torch.manual_seed(1)
        net = getattr(models, ARCHITECTURES[name][0])(**(sizes or SIZES[name])).eval()
        settle(net, photo)
    net.update(force=True)
    return net


@torch.no_grad()
def folded(checkpoint: dict[str, Any], level: int) -> Any:
    """MeanScaleHyperprior that does what MeanScaleHyperpriorVbr does at one gain, but for its reconstruction offsets.

    The gain multiplies what is coded, and is undone before the synthesis: so it goes into the layers around.
    """
    weights, net = checkpoint["state_dict"], models.MeanScaleHyperprior(checkpoint["N"], checkpoint["M"]).eval()
    gain = weights["Gain"][level].abs()
    # Tables are built anew, by `update`; they and what belongs to variable rate are left out.
    own = {key: value for key, value in weights.items() if key in net.state_dict() and not small.is_table(key)}
    nn.Module.load_state_dict(net, own, strict=False)
    for layer in (net.g_a[-1], net.h_s[-1]):
        layer.weight *= gain
        layer.bias *= gain
    for layer in (net.h_a[0], net.g_s[0]):
        layer.weight /= gain
    return net


@torch.no_grad()
def settle(net: Any, photo: npt.NDArray[np.uint8]) -> None:
    """Scale and shift the last layers, each on what the layers before it, already settled, make of the photograph."""
    anatomy = dissect(net)
    assert anatomy.hyper is not None
    hyper_analysis, hyper_synthesis = anatomy.hyper
    ends: list[tuple[nn.Module, Callable[[int], tuple[Tensor, Tensor]]]] = [
        (net.g_a, lambda channels: (torch.zeros(channels), _spreads(0, channels))),
        (hyper_analysis, lambda channels: (torch.zeros(channels), _spreads(0, channels) / 2)),
    ]
    parameters = _parameters(anatomy)
    if parameters:
        ends += [(module, partial(_targets, first)) for module, first in parameters]
    else:
        ends.append((hyper_synthesis, partial(_targets, 0)))
    _shut(net.g_a)
    settled: set[nn.Module] = set()
    hooks = [_last(module).register_forward_hook(partial(_settle, wanted, settled)) for module, wanted in ends]
    top, left = ((side - 256) // 2 for side in photo.shape[:2])
    net(torch.from_numpy(photo[top : top + 256, left : left + 256].copy()).permute(2, 0, 1)[None].float() / 255)
    for hook in hooks:
        hook.remove()


def _shut(transform: nn.Module) -> None:
    """Attention blocks at its end add next to nothing, so that they do not undo what is settled before them."""
    for block in transform.children():
        if isinstance(block, AttentionBlock):
            block.conv_b[-1].weight *= 0.1
            block.conv_b[-1].bias.fill_(-6)


def _parameters(anatomy: Anatomy) -> list[tuple[nn.Module, int]]:
    """The networks of entropy parameters, and which channel of y each begins with."""
    found, first = [], 0
    for number, group in enumerate(anatomy.groups):
        found.append((anatomy.networks[group_network(number, ENTROPY_PARAMETERS)], first))
        first += group.channels
    return found


def _spreads(first: int, channels: int) -> Tensor:
    return SPREAD * DECAY ** torch.arange(first, first + channels, dtype=torch.float32)


def _targets(first: int, channels: int) -> tuple[Tensor, Tensor]:
    """Of scales, then means: their own mean and spread."""
    spreads = _spreads(first, channels // 2)
    return torch.cat((spreads, torch.zeros_like(spreads))), torch.cat((SCALES * spreads, MEANS * spreads))


def _settle(
    wanted: Callable[[int], tuple[Tensor, Tensor]], settled: set[nn.Module], layer: Any, inputs: Any, out: Tensor
) -> Tensor | None:
    """A forward hook: the layer's outputs get the wanted mean and spread, channel by channel, now and from now on."""
    if layer in settled:
        return None  # of a checkerboard, which takes two passes
    settled.add(layer)
    mean, spread = wanted(out.shape[1])
    factor = spread / out.std((0, 2, 3)).clamp(min=1e-6)
    shift = mean - out.mean((0, 2, 3)) * factor
    transposed = isinstance(layer, nn.ConvTranspose2d)
    layer.weight *= factor[None, :, None, None] if transposed else factor[:, None, None, None]
    layer.bias.copy_(layer.bias * factor + shift)
    return out * factor[None, :, None, None] + shift[None, :, None, None]


def _last(module: nn.Module) -> Any:
    """The last convolution in its row of layers: an attention block may stand behind it, see `_shut`."""
    return [layer for layer in module.children() if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))][-1]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=common.PHOTOS, help="a folder of PNG photographs")
    photo = common.photographs(parser.parse_args().photos, 1)[0]
    x = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    for name in SIZES:
        sizes = [sum(map(len, strings)) for strings in load(name, photo).compress(x)["strings"]]
        print(f"{name}: bits a pixel {', '.join(f'{8 * size / x[0, 0].numel():.3f}' for size in sizes)}", flush=True)


if __name__ == "__main__":
    main()
