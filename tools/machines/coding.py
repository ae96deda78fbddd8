"""What one machine does: encode pictures into a folder, decode them from it, freeze nets."""

from __future__ import annotations

import copy
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from bars import small
from torch import nn

import robuststream as rs
from robuststream.container.report import Outcome
from robuststream.errors import UnsupportedModel
from robuststream.latents import BATCH, DecodedLatents, decode_latents
from robuststream.model.anatomy import dissect
from robuststream.picture.grid import Grid
from robuststream.picture.io import read_picture
from robuststream.transfers.reading import read_stream

#: A picture counts as broken below this PSNR against the encoder's own reconstruction; intact ones reach 90 dB.
BROKEN_DB = 45.0


class Codec:
    """A model, and CompressAI's net of it.

    Args:
        model: ours, on the device.
        trained: name and folder of one of tools/bars/small.py, for the net.
    """

    def __init__(self, model: rs.Model, trained: Sequence[str] | None = None) -> None:
        self.model = model
        self._trained = trained

    @classmethod
    def load(cls, model: str | None, trained: Sequence[str] | None, device: str = "cpu") -> Codec:
        """Of a model file; where none is named, the one that is trained, frozen here, or the bundled one."""
        if trained is None or model is not None:
            return cls(rs.load_model(model, device=device), trained)
        frozen = rs.freeze(small.net(trained[0], Path(trained[1])))
        return cls(frozen, trained).on(device)

    def on(self, device: str) -> Codec:
        """The same model elsewhere: not one frozen anew."""
        return Codec(rs.Model.from_bytes(self.model.to_bytes(), device), self._trained)

    @cached_property
    def net(self) -> Any:
        """None where it cannot be had from the model. Not every machine needs it, and compressai is slow to import."""
        if self._trained is None:
            from robuststream.compressai import thaw

            try:
                return thaw(self.model).to(self.model.device)
            except UnsupportedModel:
                return None
        return small.net(self._trained[0], Path(self._trained[1])).to(self.model.device)


@torch.no_grad()
def encode(folder: Path, photos: Sequence[Path], codec: Codec, device: str = "cpu", beside: int | None = None) -> None:
    """Streams, and hashes of what their latents are here; of the first `beside` pictures (all where there is no
    number) also native streams and CompressAI's strings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, photo in enumerate(photos):
        path = folder / f"{photo.stem}.exact.robs"
        path.write_bytes(rs.encode(photo, codec.model))
        (folder / f"{photo.stem}.sha256").write_text(digest(_decoded(path, codec.model).latents))
        if beside is not None and number >= beside:
            continue
        path = folder / f"{photo.stem}.native.robs"
        path.write_bytes(rs.encode(photo, codec.model, mode="native"))
        torch.save(_decoded(path, codec.model).latents, folder / f"{photo.stem}.native.pt")
        if codec.net is not None:
            x = _padded(read_picture(photo).pixels, codec.model.factor).to(device)
            out = codec.net.compress(x)
            x_hat = codec.net.decompress(out["strings"], out["shape"])["x_hat"].cpu()
            torch.save({"strings": out["strings"], "shape": out["shape"], "x_hat": x_hat}, folder / f"{photo.stem}.pt")


def _padded(pixels: torch.Tensor, factor: int) -> torch.Tensor:
    height, width = pixels.shape[1:]
    return F.pad(pixels[None].float() / 255, (0, -width % factor, 0, -height % factor), mode="replicate")


@torch.no_grad()
def decode(folder: Path, kind: str, codec: Codec, one_by_one: bool = False) -> Iterator[dict[str, Any]]:
    """For each picture that was coded so: {"photo", "codec", "same", ...}."""
    suffix = {"native": ".native.robs", "compressai": ".pt"}.get(kind, ".exact.robs")
    paths = [path for path in sorted(folder.glob(f"*{suffix}")) if kind != "compressai" or path.suffixes == [".pt"]]
    for path in paths:
        stem = path.name.removesuffix(suffix)
        yield {"photo": stem, "codec": kind, **DECODERS[kind](folder / stem, codec, one_by_one)}


def _decoded(path: Path, model: rs.Model, batch: int = BATCH) -> DecodedLatents:
    stream = read_stream(path.read_bytes())
    return decode_latents(stream, model, Grid.of(stream.header, model.latent_stride, model.factor), batch=batch)


def _robuststream(stem: Path, codec: Codec, one_by_one: bool) -> dict[str, Any]:
    """`engines`: what the exact networks ran on, where the library tells."""
    decoded = _decoded(stem.with_name(f"{stem.name}.exact.robs"), codec.model, 1 if one_by_one else BATCH)
    same = digest(decoded.latents) == stem.with_name(f"{stem.name}.sha256").read_text() and decoded.report.exact
    told = getattr(codec.model, "engines", None)
    more = {} if told is None else {"engines": str(told() if callable(told) else told)}
    return {"same": bool(same), **more}


def _native(stem: Path, codec: Codec, one_by_one: bool) -> dict[str, Any]:
    """`drifted`: tiles whose parameters differed, found by their digests. `silent`: other latents, no word of it."""
    decoded = _decoded(stem.with_name(f"{stem.name}.native.robs"), codec.model)
    expected = torch.load(stem.with_name(f"{stem.name}.native.pt"), weights_only=True)
    outcomes = [tile.outcome for tile in decoded.report.tiles]
    # Means are float32: they may differ in the last of twelve bits where every symbol is the encoder's.
    same = bool((decoded.latents - expected).abs().max() <= 8)
    verified = bool(decoded.report.verified)
    drifted = sum(outcome != Outcome.VERIFIED for outcome in outcomes)
    repaired = sum(outcome == Outcome.REPAIRED for outcome in outcomes)
    return {"same": same and verified, "silent": verified and not same, "drifted": drifted, "repaired": repaired}


def _compressai(stem: Path, codec: Codec, one_by_one: bool) -> dict[str, Any]:
    saved = torch.load(stem.with_name(f"{stem.name}.pt"), weights_only=False)
    try:
        x_hat = codec.net.decompress(saved["strings"], saved["shape"])["x_hat"].cpu()
    except (RuntimeError, ValueError, IndexError) as error:
        return {"same": False, "psnr": 0.0, "error": str(error)}
    error = torch.mean((x_hat - saved["x_hat"]) ** 2).item()
    psnr = 99.0 if error == 0 else min(99.0, -10 * torch.log10(torch.tensor(error)).item())
    return {"same": psnr >= BROKEN_DB, "psnr": psnr}


def _control(stem: Path, codec: Codec, one_by_one: bool) -> dict[str, Any]:
    """CompressAI's entropy networks in float64, nothing rounded to integers: does even that differ? A hash, compared by
    the parent, of what they make of inputs drawn by the picture's name.
    """
    outputs = []
    for name, network in _entropy_networks(codec.net):
        network = copy.deepcopy(network).double().cpu()
        for parameter in network.parameters():
            parameter /= 3  # thawed weights are sums of few powers of two, and would be added up exactly
        channels = next(layer for layer in network.modules() if hasattr(layer, "in_channels")).in_channels
        random = np.random.default_rng(zlib.crc32(f"{stem.name} {name}".encode()))
        x = torch.from_numpy(random.integers(-32768, 32768, (4, channels, 8, 8)) / 4096)
        outputs += [network(piece).flatten() for piece in x.split(1 if one_by_one else 4)]
    return {"hash": digest(torch.cat(outputs))}


def _entropy_networks(net: Any) -> Iterator[tuple[str, nn.Module]]:
    anatomy = dissect(net)
    if anatomy.hyper is not None:
        yield "h_s", anatomy.hyper[1]
    yield from anatomy.networks.items()


DECODERS = {"robuststream": _robuststream, "native": _native, "compressai": _compressai, "control": _control}


def unfrozen(folder: Path, names: Iterable[str]) -> None:
    """Write random nets, each with the tables that this machine makes, and without any."""
    for name in names:
        net = small.build(name).eval()
        small.spread(net)
        torch.save(net.state_dict(), folder / f"{name}, its tables.pth")
        without = {key: tensor for key, tensor in net.state_dict().items() if not small.is_table(key)}
        torch.save(without, folder / f"{name}, no tables.pth")


def freeze(folder: Path) -> dict[str, str]:
    """Freeze what `unfrozen` wrote: the digests of each, as JSON has them."""
    digests = {}
    for path in sorted(folder.glob("*.pth")):
        net, state = small.build(path.stem.split(",")[0]).eval(), torch.load(path, weights_only=True)
        if path.stem.endswith("no tables"):
            nn.Module.load_state_dict(net, state, strict=False)
        else:
            net.load_state_dict(state)
        model = rs.freeze(net)
        digests[path.stem] = f"{model.parameters_digest.hex()} {model.synthesis_digest.hex()}"
    return digests


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().cpu().numpy().tobytes()).hexdigest()


def lines(text: str) -> list[dict[str, Any]]:
    """The lines of a child's output that are JSON objects."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
