"""Frozen models: what they hold, what loading refuses, what the digests depend on."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from compressai import models
from compressai.models import MeanScaleHyperprior
from compressai.models.video import ScaleSpaceFlow

import robuststream as rs
from robuststream.compressai import thaw
from robuststream.model import store as modelstore
from robuststream.model.anatomy import ARCHITECTURES
from robuststream.model.file import METADATA_KEY
from robuststream.model.freeze import freeze_checkpoint
from robuststream.model.frozen import Model
from robuststream.networks import fixedpoint
from robuststream.networks.checks import check
from robuststream.networks.graph import Layer, Network
from robuststream.networks.narrowing import INSIDE
from robuststream.priors.walk import Runner
from tests.small import model, net, picture


def reworked(data: bytes, change: Any) -> bytes:
    """The model file with `change(description, tensors)` applied."""
    size = struct.unpack("<Q", data[:8])[0]
    description = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][METADATA_KEY])
    tensors = safetensors.torch.load(data)
    change(description, tensors)
    return safetensors.torch.save(tensors, {METADATA_KEY: json.dumps(description)})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_save_and_load(architecture: str, tmp_path: Path) -> None:
    small = model(architecture)
    small.save(tmp_path / "m.safetensors")
    again = rs.load_model(tmp_path / "m.safetensors")
    assert again.parameters_digest == small.parameters_digest
    assert again.synthesis_digest == small.synthesis_digest
    assert again.to_bytes() == small.to_bytes()
    data = rs.encode(picture(70, 90), small, tile=64)
    assert torch.equal(rs.decode(data, again).latents, rs.decode(data, small).latents)
    assert all(bound.bits < 53 for bounds in small.bounds.values() for bound in bounds)


@pytest.mark.parametrize(
    "architecture", [name for name in ARCHITECTURES if not model(name).parts.groups and not model(name).parts.gains]
)
def test_compressai_and_back(architecture: str) -> None:
    """thaw() gives a module that codes as the original one does."""
    original, thawed = net(architecture), thaw(model(architecture))
    x = torch.from_numpy(picture(128, 128)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        theirs, ours = original.compress(x), thawed.compress(x)
        a = original.decompress(theirs["strings"], theirs["shape"])["x_hat"]
        b = thawed.decompress(ours["strings"], ours["shape"])["x_hat"]
    # Medians are rounded to 2^-12: pictures agree to that.
    assert (a - b).abs().max() < 5e-3
    assert [len(s[0]) for s in ours["strings"]] == pytest.approx(
        [len(s[0]) for s in theirs["strings"]], rel=0.01, abs=8
    )


@pytest.mark.parametrize("scales", [[0.2, 1.0, 5.0], [0.02, 0.05, 0.3, 2.0, 300.0, 400.0], [0.01, 0.02], [0.5]])
def test_thawing_keeps_scales_of_ones_own(scales: list[float]) -> None:
    """Whatever lies below the bound of 0.11, or above CompressAI's 256."""
    changed = copy.deepcopy(net("mbt2018-mean"))
    changed.update(scales, force=True)
    frozen = rs.freeze(changed)
    thawed: Any = thaw(frozen)
    assert rs.freeze(thawed).parameters_digest == frozen.parameters_digest
    # On the grid of 2^-12 that scales have in a frozen model.
    several = torch.arange(1, 2 << 20, 37)[None] / 4096
    expected = copy.deepcopy(changed.gaussian_conditional)
    expected.scale_table = torch.floor(expected.scale_table * 4096 + 0.5) / 4096
    assert thawed.gaussian_conditional.build_indexes(several).equal(expected.build_indexes(several))


def test_context_models_are_not_thawed() -> None:
    with pytest.raises(
        rs.UnsupportedModel, match="mbt2018-8-12: models with context or variable rate cannot be thawed"
    ):
        thaw(model("mbt2018"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, t: d.update(format=2), "model format 2"),
        (lambda d, t: d.update(prior="magic"), "prior 'magic'"),
        (lambda d, t: d["networks"].pop("h_a"), "networks of mean-scale-hyperprior"),
        (lambda d, t: d["networks"]["g_s"][0].update(operation="eval"), "layer 0: operation 'eval'"),
        (lambda d, t: d["networks"]["g_s"][0]["attributes"].update(stride=0), "stride 0"),
        (lambda d, t: d["networks"]["g_s"][0]["attributes"].update(stride=2.0), "stride 2.0"),
        (lambda d, t: d["networks"]["g_s"][0]["attributes"].update(padding=1), "does not scale sizes"),
        (lambda d, t: d["networks"]["g_a"][0]["attributes"].update(padding=1), "does not scale sizes"),
        (lambda d, t: d["networks"]["h_s"][0]["attributes"].update(fraction=52), "fraction 52"),
        (lambda d, t: d["networks"]["h_s"][0]["attributes"].update(fraction=True), "fraction True"),
        (lambda d, t: d["networks"]["h_s"][0]["attributes"].update(bits=24.0), "bits 24.0 is not one of 16, 24"),
        (lambda d, t: d["networks"]["g_s"][0].update(inputs=[-1000]), "layer 0: takes an input that is not before it"),
        (lambda d, t: d["networks"]["h_s"][1].update(inputs=[-1000]), "layer 1: takes an input that is not before it"),
        (lambda d, t: d["networks"]["h_s"][0]["attributes"].update(bits=25), "bits 25 is not one of 16, 24"),
        (lambda d, t: d["networks"]["h_s"][0]["attributes"].update(bits="24"), "bits '24' is not one of 16, 24"),
        (lambda d, t: d["networks"]["g_s"][0].update(operation="round", attributes={}), "no form in real numbers"),
        (lambda d, t: t.pop("h_s.1.weight"), "tensor 'h_s.1.weight' is missing"),
        (lambda d, t: t.pop("h_s.1.shift"), "tensor 'h_s.1.shift' is missing"),
        (lambda d, t: t["h_s.1.weight"].fill_(2**15 - 1), "beyond 8127"),
        (lambda d, t: t["h_s.1.bias"].fill_(-(2**63)), "not exact"),
        (lambda d, t: t["h_s.1.shift"].fill_(0), "shifts are not"),
        (lambda d, t: t["medians"].fill_(-(2**31)), "medians are missing or beyond"),
        (lambda d, t: t["thresholds"].fill_(-(2**31)), "thresholds do not rise, or are beyond"),
        (lambda d, t: d["networks"]["g_a"][1].update(operation="leaky_relu", attributes={"slope": "1_0e-2"}), "slope"),
        (lambda d, t: t["h_s.1.bias"].add_(1), "do not have the digest"),
        (lambda d, t: t["g_s.0.weight"].add_(1), "synthesis transform does not have the digest"),
        (lambda d, t: t["g_s.0.weight"].fill_(float("nan")), "not finite"),
        (lambda d, t: t["g_a.1.beta"].neg_(), "beta must be positive"),
        (lambda d, t: t.update(medians=t["medians"][:-1]), "medians"),
        (lambda d, t: t.update(thresholds=t["thresholds"].flip(0)), "thresholds do not rise"),
        (lambda d, t: t["tables.cdf"].zero_(), "CDF tables are not valid"),
        (lambda d, t: t["tables.lengths"].fill_(2**30), "CDF tables are not valid"),
        (lambda d, t: d.update(known_answer="0" * 32), "known-answer test fails"),
        (lambda d, t: d["texts"].update(name="x" * 5000), "longer than"),
        (lambda d, t: d["texts"].update(name="\ud800"), "not printable"),
        (lambda d, t: d.pop("known_answer"), "not a valid model file"),
        (lambda d, t: d.pop("parameters_digest"), "not a valid model file"),
    ],
)
def test_bad_models_are_refused_by_name(change: Any, message: str) -> None:
    with pytest.raises(rs.UnsupportedModel, match=message) as raised:
        Model.from_bytes(reworked(model().to_bytes(), change), source="m.safetensors")
    assert str(raised.value).startswith("m.safetensors: ")
    assert "\n" not in str(raised.value)


def test_every_truncation_class_of_a_model_file(tmp_path: Path) -> None:
    data = model(n=2, m=3).to_bytes()
    for length in [*range(0, 200, 7), *range(200, len(data), 997)]:
        with pytest.raises(rs.UnsupportedModel):
            Model.from_bytes(data[:length])
    for header in (b"[]", b"[" * 100_000, b'{"__metadata__":{"robuststream.model":"[]"}}'):
        with pytest.raises(rs.UnsupportedModel):
            Model.from_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(rs.UnsupportedModel, match="without a robuststream model"):
        Model.from_bytes(safetensors.torch.save({"a": torch.zeros(1)}))
    with pytest.raises(rs.ModelNotFound, match="cannot be read"):
        rs.load_model(tmp_path / "none.safetensors")


def test_flipped_bits_in_a_model_file_never_decode_otherwise() -> None:
    """A damaged model is refused, or (a bit in a text, or in the analysis transform) decodes as it did."""
    small = model(n=2, m=3)
    data = small.to_bytes()
    stream = rs.encode(picture(64, 64), small, tile=64)
    wanted = rs.decode(stream, small)
    random = np.random.default_rng(3)
    for bit in random.choice(8 * len(data), 400, replace=False):
        hurt = bytearray(data)
        hurt[bit >> 3] ^= 1 << (bit & 7)
        try:
            loaded = Model.from_bytes(bytes(hurt))
        except rs.UnsupportedModel:
            continue
        out = rs.decode(stream, loaded)
        assert torch.equal(out.latents, wanted.latents)
        assert torch.equal(out.tensor, wanted.tensor)


def test_digests_depend_on_what_they_name() -> None:
    a = model()
    torch.manual_seed(5)
    changed = MeanScaleHyperprior.from_state_dict(dict(net("mbt2018-mean").state_dict())).eval()
    with torch.no_grad():
        changed.g_s[0].bias += 1
    b = rs.freeze(changed)
    assert a.parameters_digest == b.parameters_digest
    assert a.synthesis_digest != b.synthesis_digest
    with torch.no_grad():
        changed.h_s[0].bias += 1
    assert rs.freeze(changed).parameters_digest != a.parameters_digest


def test_freezing_changes_nothing_and_says_when_it_builds_tables(caplog: pytest.LogCaptureFixture) -> None:
    fresh = MeanScaleHyperprior(4, 6)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    with caplog.at_level(logging.WARNING):
        rs.freeze(fresh)
    assert "no CDF tables" in caplog.text
    assert all(torch.equal(before[name], value) for name, value in fresh.state_dict().items())


def test_networks_that_scale_without_limit_are_refused() -> None:
    """Small files must not make large tensors: the known answer alone would take gigabytes."""
    small = model()
    tall = Layer(
        "conv_transpose2d",
        {"stride": 16, "padding": 0, "output_padding": 0, **INSIDE},
        {
            "weight": torch.zeros((8, 8, 16, 16), dtype=torch.int16),
            "bias": torch.zeros(8, dtype=torch.int64),
            "shift": torch.ones(8, dtype=torch.int32),
        },
    )
    network = Network("h_s", [tall] * 3 + list(small.parts.networks["h_s"].layers))
    with pytest.raises(rs.UnsupportedModel, match="by more than 64"):
        check(network, exact=True)


def test_networks_of_too_much_work_are_refused() -> None:
    """A few kB of weights that meet millions of places each: the known answer alone would take minutes."""

    def layer(operation: str, kernel: int, **attributes: int) -> Layer:
        tensors = {
            "weight": torch.ones((1, 1, kernel, kernel), dtype=torch.int16),
            "bias": torch.zeros(1, dtype=torch.int64),
            "shift": torch.ones(1, dtype=torch.int32),
        }
        return Layer(operation, {**attributes, **INSIDE}, tensors)

    up = [layer("conv_transpose2d", size, stride=size, padding=0, output_padding=0) for size in (16, 4)]
    wide = layer("depthwise_conv2d", 31, stride=1, padding=15)
    check(Network("h_s", [Layer("round", INSIDE), *up, *[wide] * 30]), exact=True)
    with pytest.raises(rs.UnsupportedModel, match=r"makes 1\.6e\+08 products of each place, more than 134217728"):
        check(Network("h_s", [Layer("round", INSIDE), *up, *[wide] * 40]), exact=True)


def test_other_architectures_are_named() -> None:
    with pytest.raises(rs.UnsupportedModel, match="ScaleSpaceFlow cannot be frozen"):
        rs.freeze(ScaleSpaceFlow())
    with pytest.raises(rs.UnsupportedModel, match="Linear cannot be frozen"):
        rs.freeze(torch.nn.Linear(1, 1))


def test_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    torch.save({"state_dict": net("mbt2018-mean").state_dict(), "step": 3}, path)
    frozen = freeze_checkpoint("mbt2018-mean", path, name="mine", licence="CC0-1.0", attribution="me")
    assert frozen.parameters_digest == model().parameters_digest
    assert frozen.parts.texts["licence"] == "CC0-1.0"
    with pytest.raises(rs.UnsupportedModel, match="does not hold a bmshj2018-hyperprior"):
        freeze_checkpoint("bmshj2018-hyperprior", path)
    with pytest.raises(rs.UnsupportedModel, match="is not one of"):
        freeze_checkpoint("vgg16", path)
    with pytest.raises(rs.ModelNotFound, match="cannot be read"):
        freeze_checkpoint("mbt2018-mean", tmp_path / "none.pth")
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(rs.UnsupportedModel, match="not a checkpoint"):
        freeze_checkpoint("mbt2018-mean", path)


def test_models_are_found_by_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(modelstore.FOLDER_VARIABLE, str(tmp_path))
    data = rs.encode(picture(64, 64), model(), tile=64)
    with pytest.raises(rs.ModelNotFound):
        rs.decode(data)
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    header = b'{"__metadata__":"robuststream.model"}'
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    model().save(tmp_path / "small.safetensors")
    assert rs.decode(data).report.exact


def test_the_bundled_models_say_whose_they_are() -> None:
    bundled = rs.load_model()
    assert bundled.name == modelstore.DEFAULT
    assert "CC BY-SA" in bundled.parts.texts["licence"]
    assert "CID22" in bundled.parts.texts["attribution"]
    assert bundled.parameters_digest.hex() in (modelstore.BUNDLED / "README.md").read_text()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sizes_of_the_zoo(architecture: str) -> None:
    torch.manual_seed(1)
    cls = getattr(models, ARCHITECTURES[architecture][0])
    made = cls(**({"N": 192} if architecture.startswith("cheng") else {"N": 192, "M": 320})).eval()
    made.update()
    frozen = rs.freeze(made)
    out = rs.decode(rs.encode(picture(64, 64), frozen), frozen, strict=True)
    assert out.report.exact
    assert all(bound.bits < 53 for bounds in frozen.bounds.values() for bound in bounds)


def weighted(loaded: Model) -> int:
    """How many layers there are to prove."""
    networks = [loaded.parts.network(name) for name in loaded.parts.exact_names]
    return sum("weight" in layer.tensors for network in networks for layer in network.layers)


@pytest.mark.parametrize("architecture", ["mbt2018-mean", "mbt2018", "mbt2018-mean-vbr", "elic2022-chandelier"])
def test_the_bound_of_each_layer_is_proven_once_a_load(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the known answer nor any mode or quality proves it again, nor a model read with changed networks."""
    small = model(architecture)
    data, pickled = small.to_bytes(), pickle.dumps(Model(small.parts, change=unchanged))
    proven: list[torch.Tensor] = []
    true = fixedpoint.output_bound

    def counting(layer: Layer, limit: int) -> int:
        proven.append(layer.tensors["weight"])
        return true(layer, limit)

    monkeypatch.setattr(fixedpoint, "output_bound", counting)
    loaded = Model.from_bytes(data)
    assert len(proven) == weighted(loaded) >= 3
    for mode in ("exact", "native"):
        for quality in range(min(loaded.qualities, 2)):
            rs.decode(rs.encode(picture(40, 40), loaded, tile=64, mode=mode, quality=quality), loaded)
    assert loaded.to_bytes() == data
    assert len(proven) == weighted(loaded)
    assert pickle.loads(pickled).to_bytes() == data
    assert len(proven) == 2 * weighted(loaded)


def unchanged(name: str, network: Runner) -> Runner:
    return network
