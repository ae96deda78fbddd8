"""Checkpoints as people have them, and what people take for one."""

from __future__ import annotations

import argparse
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import robuststream as rs
from robuststream.model.anatomy import ARCHITECTURES
from robuststream.model.checkpoints import read_state
from robuststream.model.freeze import freeze_checkpoint
from tests.model.test_filekinds import FOREIGN, saved, zipped
from tests.model.test_freeze import Wrapped, copied
from tests.small import model, net

State = dict[str, Tensor]
NAME = "mbt2018-mean"


def state_of(architecture: str = NAME) -> State:
    return dict(net(architecture).state_dict())


def frozen(content: Any, folder: Path, architecture: str = NAME, **more: Any) -> rs.Model:
    torch.save(content, folder / "c.pth")
    return freeze_checkpoint(architecture, folder / "c.pth", **more)


def behind(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def renamed(state: State, change: Callable[[str], str]) -> State:
    return {change(key): value for key, value in state.items()}


class TestPlaces:
    @pytest.mark.parametrize("key", ["state_dict", "network", "model_state_dict", "model", "net", "generator", "ema"])
    def test_under_a_key(self, key: str, tmp_path: Path) -> None:
        content = {"epoch": 3, "optimizer": {"state": {0: {"step": torch.zeros(1)}}}, "loss": 0.5, key: state_of()}
        assert frozen(content, tmp_path).parameters_digest == model().parameters_digest

    def test_deeper(self, tmp_path: Path) -> None:
        content = {"checkpoint": {"model": {"state_dict": OrderedDict(state_of())}}}
        assert frozen(content, tmp_path).parameters_digest == model().parameters_digest

    def test_the_likelier_of_several(self, tmp_path: Path) -> None:
        other = {key: torch.zeros_like(value) for key, value in state_of().items()}
        content = {"ema": other, "state_dict": state_of()}
        assert frozen(content, tmp_path).parameters_digest == model().parameters_digest

    @pytest.mark.parametrize(
        "prefix",
        ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.module.", "a.b."],
    )
    def test_behind_a_prefix(self, prefix: str, tmp_path: Path) -> None:
        content = {"state_dict": behind(prefix, state_of()) | {"criterion.weight": torch.zeros(3)}}
        assert frozen(content, tmp_path).parameters_digest == model().parameters_digest

    @pytest.mark.parametrize("wrap", [nn.DataParallel, Wrapped, torch.compile, AveragedModel])
    def test_as_wrappers_write_it(self, wrap: Callable[[Any], Any], tmp_path: Path) -> None:
        assert frozen(wrap(copied()).state_dict(), tmp_path).parameters_digest == model().parameters_digest

    def test_parts_that_were_compiled(self, tmp_path: Path) -> None:
        changed = copied("elic2022-chandelier")
        changed.g_a = torch.compile(changed.g_a)
        changed.latent_codec.hyper.h_s[2] = torch.compile(changed.latent_codec.hyper.h_s[2])
        keys = changed.state_dict()
        assert any("_orig_mod" in key for key in keys)
        torch.save(keys, tmp_path / "c.pth")
        read = read_state(tmp_path / "c.pth")
        for key, value in net("elic2022-chandelier").state_dict().items():
            assert ".entropy_bottleneck." in key or torch.equal(read[key], value)

    def test_safetensors(self, tmp_path: Path) -> None:
        safetensors.torch.save_file(behind("module.", state_of()), tmp_path / "c.safetensors")
        again = freeze_checkpoint(NAME, tmp_path / "c.safetensors")
        assert again.parameters_digest == model().parameters_digest

    @pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
    def test_both_forms_of_torch(self, options: dict[str, Any], tmp_path: Path) -> None:
        torch.save(state_of(), tmp_path / "c.pth", **options)
        assert freeze_checkpoint(NAME, tmp_path / "c.pth").parameters_digest == model().parameters_digest

    def test_several_models(self, tmp_path: Path) -> None:
        content = behind("student.", state_of()) | behind("teacher.", state_of())
        with pytest.raises(rs.UnsupportedModel, match=r"holds several models \(student.g_a, teacher.g_a\)"):
            frozen(content, tmp_path)
        with pytest.raises(rs.UnsupportedModel, match="holds two tensors of one name"):
            frozen(state_of() | {"g_a._orig_mod.0.weight": torch.zeros(3)}, tmp_path)


class TestNames:
    """CompressAI's releases before 1.2 call some tensors otherwise."""

    @pytest.mark.parametrize("form", ["{}{}", "{}s.{}"])
    @pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if not name.startswith("elic")])
    def test_bottlenecks(self, architecture: str, form: str, tmp_path: Path) -> None:
        """Single parameters (`_matrix0`), and lists before them (`_matrices.0`)."""
        kinds = {"matrices.": "_matrix", "biases.": "_bias", "factors.": "_factor"}
        plurals = {"_matrixs": "_matrices", "_biass": "_biases"}

        def older(key: str) -> str:
            if "entropy_bottleneck." not in key:
                return key
            for kind, single in kinds.items():
                head, found, number = key.rpartition(kind)
                if not found:
                    head, found, number = key.rpartition(single)
                if found:
                    name = form.format(single, number)
                    return head + next((name.replace(a, b) for a, b in plurals.items() if a in name), name)
            return key

        state = renamed(state_of(architecture), older)
        assert any(key.endswith("_matrices.0" if "." in form else "_matrix0") for key in state)
        again = frozen(behind("module.", state), tmp_path, architecture)
        assert again.parameters_digest == model(architecture).parameters_digest
        # The density counts where tables are built of it.
        for key in state:
            if key.endswith(("_quantized_cdf", "_cdf_length", "_offset")):
                state[key] = torch.zeros(0, dtype=torch.int32)
        built = rs.freeze(net(architecture), update_tables=True)
        assert frozen(state, tmp_path, architecture).parameters_digest == built.parameters_digest

    def test_shortcuts_of_residual_blocks(self, tmp_path: Path) -> None:
        state = renamed(state_of("cheng2020-anchor"), lambda key: key.replace(".skip.", ".downsample."))
        assert any(".downsample." in key for key in state)
        again = frozen(state, tmp_path, "cheng2020-anchor")
        assert again.to_bytes() == model("cheng2020-anchor").to_bytes()

    def test_variable_rate_with_tables(self, tmp_path: Path) -> None:
        """CompressAI's own class does not load them."""
        state = state_of("mbt2018-mean-vbr") | {"QuantOffset": torch.zeros(1)}
        assert state["entropy_bottleneck._quantized_cdf"].numel()
        again = frozen(state, tmp_path, "mbt2018-mean-vbr")
        assert again.parameters_digest == model("mbt2018-mean-vbr").parameters_digest

    def test_a_factory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a_factory.py").write_text(
            "import torch\nfrom compressai.models import MeanScaleHyperprior\n"
            "def make():\n    return torch.nn.DataParallel(MeanScaleHyperprior(8, 12))\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        for content in (state_of(), behind("module.", state_of()), {"net": behind("_orig_mod.", state_of())}):
            again = frozen(content, tmp_path, "a_factory:make")
            assert again.parameters_digest == model().parameters_digest


class TestNumbers:
    @pytest.mark.parametrize(
        ("key", "change", "message"),
        [
            ("g_a.0.weight", lambda t: t.to(torch.int8), "g_a.0.weight is torch.int8, where floating-point numbers"),
            ("g_a.0.weight", lambda t: t.to(torch.complex64), "g_a.0.weight is torch.complex64, where floating-point"),
            ("entropy_bottleneck._offset", lambda t: t.float(), "_offset is torch.float32, where whole numbers"),
            ("entropy_bottleneck._offset", lambda t: t.long() + 2**32, "_offset holds numbers beyond 32 bits"),
            ("g_a.0.weight", lambda t: t * float("nan"), "g_a.0.weight: 600 of 600 values are not finite"),
            ("g_a.0.weight", lambda t: t[:, :2], "does not hold a mbt2018-mean .*size mismatch for g_a.0.weight"),
            ("h_s.0.bias", None, "does not hold a mbt2018-mean .*h_s.0.bias"),
        ],
    )
    def test_of_other_kinds(
        self, key: str, change: Callable[[Tensor], Tensor] | None, message: str, tmp_path: Path
    ) -> None:
        state = state_of()
        value = state.pop(key)
        if change:
            state[key] = change(value)
        with pytest.raises(rs.UnsupportedModel, match=message) as error:
            frozen(state, tmp_path)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
    def test_other_precisions_are_taken(self, dtype: torch.dtype, tmp_path: Path) -> None:
        state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state_of().items()}
        again = frozen(state, tmp_path).parts.network("g_s").layers[0].tensors["weight"]
        assert torch.equal(again, net(NAME).g_s[0].weight.detach().to(dtype).float())

    def test_stale_tables(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        changed = copied()
        with torch.no_grad():
            changed.entropy_bottleneck.matrices[0].add_(0.5)
        assert frozen(changed.state_dict(), tmp_path).parameters_digest == model().parameters_digest
        assert "CDF tables are stale" in caplog.text
        rebuilt = frozen(changed.state_dict(), tmp_path, update_tables=True)
        assert rebuilt.parameters_digest == rs.freeze(changed, update_tables=True).parameters_digest
        assert rebuilt.parameters_digest != model().parameters_digest


class Code:
    """What a pickle may run."""

    def __reduce__(self) -> Any:
        return print, ("code ran",)


def torchscript() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", b"")
        archive.writestr("model/code/__torch__.py", b"")
    return file.getvalue()


class TestNoCheckpoints:
    """One line that says what the file is and what to do; that code be run is never advised."""

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            *((data, f"not a checkpoint but {what}") for data, what in FOREIGN),
            (zipped(), "not a checkpoint but a zip archive of other files: unpack it first"),
            (torchscript(), "not a checkpoint but a TorchScript module, which is code: net.state_dict"),
            (saved(state_of())[:5000], "not a checkpoint but the beginning of one: the file is cut off or damaged"),
            (saved(state_of())[:-100], "not a checkpoint but the beginning of one"),
            (saved(None), r"holds nothing \(None\): net.state_dict\(\) is what is needed"),
            (saved([1, 2]), "holds a list: net.state_dict"),
            (saved(torch.zeros(3)), "holds a Tensor: net.state_dict"),
            (saved({}), "holds no weights of an image model, such as g_a.0.weight, but an empty dict"),
            (saved({"epoch": 3}), "holds no weights of an image model, .* but epoch: net.state_dict"),
            (saved(nn.Linear(1, 1).state_dict()), "such as g_a.0.weight, but weight, bias"),
            (saved({str(n): n for n in range(9)}), "but 0, 1, 2, 3, ..."),
            (
                saved({"args": argparse.Namespace(a=1), "state_dict": {}}),
                r"code would have to run .*argparse.Namespace\)",
            ),
            (saved({"loss": np.float64(1)}), r"code would have to run .*multiarray.scalar\).* save net.state_dict"),
            (saved(nn.Linear(1, 1)), r"code would have to run .*\(torch.nn.modules.linear.Linear\)"),
            (saved({"a": Code()}), r"code would have to run .*print\)"),
            (pickle.dumps({"a": Code()}, protocol=2), r"code would have to run .*print\)"),
            (b"words and more words", "not a checkpoint that torch.save wrote, or damaged: get a whole copy of it"),
            (b"\x80\x02garbage", "not a checkpoint that torch.save wrote, or damaged"),
            (bytes(100), "not a checkpoint that torch.save wrote, or damaged"),
            (model().to_bytes(), "a frozen model already: use it as it is"),
            (safetensors.torch.save({"a": torch.zeros(3)})[:-1], "a damaged safetensors file"),
            (safetensors.torch.save({"a": torch.zeros(3)}), "holds no weights of an image model, .* but a: "),
        ],
    )
    def test_files(self, data: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "c.pth"
        path.write_bytes(data)
        with pytest.raises(rs.UnsupportedModel, match=message) as error:
            freeze_checkpoint(NAME, path)
        text = str(error.value)
        assert text.startswith(f"{path}: ")
        assert "\n" not in text
        assert "\033" not in text
        assert "weights_only" not in text
        assert "code ran" not in capsys.readouterr().out

    def test_paths(self, tmp_path: Path) -> None:
        with pytest.raises(rs.ModelNotFound, match="a folder: name the checkpoint file in it"):
            freeze_checkpoint(NAME, tmp_path)
        with pytest.raises(rs.ModelNotFound, match=r"the checkpoint cannot be read \(No such file"):
            freeze_checkpoint(NAME, tmp_path / "none.pth")

    def test_every_cut(self, tmp_path: Path) -> None:
        data = saved({"state_dict": state_of()})
        for length in range(0, len(data), len(data) // 40):
            (tmp_path / "c.pth").write_bytes(data[:length])
            with pytest.raises(rs.UnsupportedModel):
                freeze_checkpoint(NAME, tmp_path / "c.pth")
