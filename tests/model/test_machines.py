"""One checkpoint freezes to the same model on every machine: in child processes that are "other machines"."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compressai.entropy_models import EntropyBottleneck

import robuststream as rs
from robuststream.model.anatomy import dissect
from robuststream.networks.trace import trace
from tests.model.test_freeze import copied, without_tables

ROOT = Path(__file__).parent.parent.parent
#: Kernels of other CPUs, and other numbers of threads.
MACHINES = {
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"},
    "SSE4.1": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OMP_NUM_THREADS": "2"},
}
#: GDN, masks, groups of channels; and of variable rate, tables and biases for each quality index.
ARCHITECTURES = ("bmshj2018-factorized", "mbt2018", "elic2022-official", "mbt2018-mean-vbr", "mbt2018-vbr")


def main(folder: Path) -> None:
    """What this machine makes of the nets there, as JSON."""
    found = {}
    for name in ARCHITECTURES:
        same = without_tables(copied(name))
        same.load_state_dict(torch.load(folder / f"{name}.pth"))
        model = rs.freeze(same)
        whole = hashlib.sha256(model.to_bytes()).hexdigest()
        found[name] = [model.parameters_digest.hex(), model.synthesis_digest.hex(), whole]
    density = EntropyBottleneck(64)
    density.load_state_dict(torch.load(folder / "density.pth"))
    density.update(force=True)
    print(json.dumps({**found, "CompressAI": density._quantized_cdf.tolist()}))


def shaken(bottleneck: Any) -> Any:
    """Densities of many shapes, as training gives."""
    with torch.no_grad():
        for name, parameter in bottleneck.named_parameters():
            if name != "quantiles":
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return bottleneck


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By machine. Only one makes the weights: random numbers differ between them as well."""
    folder = tmp_path_factory.mktemp("nets")
    torch.manual_seed(1)
    for name in ARCHITECTURES:
        changed = without_tables(copied(name))
        shaken(dissect(changed).bottleneck)
        torch.save(changed.state_dict(), folder / f"{name}.pth")
    density = shaken(EntropyBottleneck(64))
    density._update_quantiles()
    torch.save(density.state_dict(), folder / "density.pth")
    command = "import sys, pathlib, tests.model.test_machines as t; t.main(pathlib.Path(sys.argv[1]))"
    answers = {}
    for machine, more in MACHINES.items():
        environment = {**os.environ, **more}
        arguments = [sys.executable, "-W", "ignore", "-c", command, str(folder)]
        done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        answers[machine] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_same_model(name: str, found: dict[str, dict[str, Any]]) -> None:
    first, second = (found[machine][name] for machine in MACHINES)
    assert first == second


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere these are no other machines")
def test_the_check_can_fail(found: dict[str, dict[str, Any]]) -> None:
    """CompressAI's own tables of one density differ between these machines."""
    first, second = (found[machine]["CompressAI"] for machine in MACHINES)
    assert first != second


def test_a_gdns_reparametrisation_is_rounded_as_ieee_754_says() -> None:
    """A maximum, a product and a difference of float32: as NumPy, one by one, so as everywhere."""
    module = copied("bmshj2018-factorized").g_a[1]
    with torch.no_grad():
        for parameter in (module.beta, module.gamma):
            parameter.add_(0.1 * torch.randn(parameter.shape))
    layer = trace("g_a", torch.nn.Sequential(module), 8).layers[0]
    for name, reparam in (("beta", module.beta_reparam), ("gamma", module.gamma_reparam)):
        bounded = np.maximum(getattr(module, name).detach().numpy(), reparam.lower_bound.bound.numpy())
        assert layer.tensors[name].numpy().tolist() == (bounded * bounded - reparam.pedestal.numpy()).tolist()
