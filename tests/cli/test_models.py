"""`models list`, `show`, `install` and `export`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import compressai.zoo
import pytest
import safetensors.torch

import robuststream as rs
from robuststream.container.writer import write_stream
from robuststream.model import store as modelstore
from robuststream.model.file import METADATA_KEY
from robuststream.model.frozen import Model
from robuststream.transfers.reading import read_stream
from tests.cli.conftest import Files, Run
from tests.helpers import sample_stream
from tests.small import model, net

BUNDLED = modelstore.BUNDLED / (modelstore.DEFAULT + modelstore.SUFFIX)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model folder, not made yet."""
    monkeypatch.setenv(modelstore.FOLDER_VARIABLE, str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def installed(store: Path) -> Path:
    return modelstore.install(model(), model().to_bytes())[0]


def text_of(name: str) -> Model:
    parts = model().parts
    return Model(replace(parts, texts={**parts.texts, "name": name}))


class TestList:
    def test_a_person_reads_it(self, run: Run, installed: Path) -> None:
        done = run("models", "list")
        assert (done.code, done.err) == (0, "")
        rows = [line.split() for line in done.out.decode().splitlines()]
        small = model()
        digests = [small.parameters_digest.hex(), small.synthesis_digest.hex()]
        size = str(installed.stat().st_size)
        assert [small.name, "mean-scale-hyperprior", *digests, size, str(installed.parent)] in rows
        assert [[row[0], row[-1]] for row in rows if row[0] == modelstore.DEFAULT] == [[modelstore.DEFAULT, "bundled"]]

    def test_a_folder_that_is_not_there(self, run: Run, store: Path) -> None:
        done = run("models", "list")
        assert (done.code, done.err) == (0, "")
        assert f"model folder: {store}" in done.out.decode()
        assert not store.exists()

    def test_json(self, run: Run, installed: Path) -> None:
        (installed.parent / "zzz.safetensors").write_bytes(b"junk")
        done = run("models", "list", "--json")
        assert (done.code, done.err) == (0, "")
        bundled, small, junk = json.loads(done.out)
        assert (bundled["where"], bundled["path"]) == ("bundled", str(BUNDLED))
        assert small == {
            "name": model().name,
            "prior": "mean-scale-hyperprior",
            "parameters_digest": model().parameters_digest.hex(),
            "synthesis_digest": model().synthesis_digest.hex(),
            "bytes": installed.stat().st_size,
            "where": str(installed.parent),
            "path": str(installed),
            "problem": None,
        }
        assert junk["problem"]
        assert junk["bytes"] == 4
        assert {junk[key] for key in ("name", "prior", "parameters_digest", "synthesis_digest")} == {None}

    def test_files_that_are_no_models_take_a_line_each(self, run: Run, installed: Path) -> None:
        folder = installed.parent
        (folder / "x.safetensors").write_bytes(b"junk")
        (folder / "y\n.safetensors").write_bytes(installed.read_bytes()[:-1])
        (folder / "z.safetensors").mkdir()
        done = run("models", "list")
        assert (done.code, done.err) == (0, "")
        lines = [line for line in done.out.decode().splitlines() if "no valid model (" in line]
        assert [line.split(":")[0] for line in lines] == [f"{folder}/{name}.safetensors" for name in ("x", "y ", "z")]

    def test_names_in_files_are_not_obeyed(self, run: Run, store: Path) -> None:
        store.mkdir()
        size = int.from_bytes((data := model().to_bytes())[:8], "little")
        description = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][METADATA_KEY])
        description["texts"]["name"] = "\x1b[31m[bold]:smile:\n\ud800"
        tensors = safetensors.torch.load(data)
        (store / "a.safetensors").write_bytes(safetensors.torch.save(tensors, {METADATA_KEY: json.dumps(description)}))
        done = run("models", "list")
        assert done.code == 0
        assert b"\x1b" not in done.out
        assert b"?[31m[bold]:smile: ?" in done.out
        assert run("models", "list", "--json").code == 0

    def test_imports_nothing_heavy(self, installed: Path) -> None:
        heavy = {"torch", "numba", "PIL", "compressai", "rich.progress", "typer", "pydantic"}
        code = (
            "import sys; from robuststream.cli import main; code = main(['models', 'list']);"
            f"found = {heavy!r} & set(sys.modules); sys.exit(f'imported: {{found}}' if found else code)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


class TestShow:
    @pytest.mark.parametrize("architecture", ["mbt2018-mean", "bmshj2018-factorized", "elic2022-official"])
    def test_json(self, architecture: str, run: Run, store: Path) -> None:
        small = model(architecture)
        path, _ = modelstore.install(small, small.to_bytes())
        done = run("models", "show", small.parameters_digest.hex()[:6], "--json")
        assert (done.code, done.err) == (0, "")
        facts = json.loads(done.out)
        networks = facts.pop("networks")
        assert facts == {
            "path": str(path),
            "bytes": path.stat().st_size,
            "texts": small.parts.texts,
            "prior": small.parts.prior,
            "parameters_digest": small.parameters_digest.hex(),
            "synthesis_digest": small.synthesis_digest.hex(),
            "groups": [group.description() for group in small.parts.groups],
        }
        assert {name for name, network in networks.items() if network["bound_bits"] is not None} == set(small.bounds)
        for name, bounds in small.bounds.items():
            assert networks[name]["bound_bits"] == max(bound.bits for bound in bounds) < 53
        assert set(networks) == set(small.parts.networks)
        kernels = [module for module in net(architecture).g_s if hasattr(module, "weight")]
        assert networks["g_s"]["channels"] == [small.channels, 3]
        assert networks["g_s"]["scale"] == [16, 1]
        if architecture != "elic2022-official":
            assert networks["g_s"]["layers"] == len(net(architecture).g_s)
            gdn = [module for module in net(architecture).g_s if hasattr(module, "beta")]
            weights = sum(tensor.numel() for module in kernels for tensor in (module.weight, module.bias))
            assert networks["g_s"]["parameters"] == weights + sum(g.beta.numel() + g.gamma.numel() for g in gdn)

    def test_a_person_reads_it(self, run: Run, store: Path) -> None:
        small = model("elic2022-official")
        path, _ = modelstore.install(small, small.to_bytes())
        for text in (small.name, small.synthesis_digest.hex(), path):
            done = run("models", "show", text)
            assert (done.code, done.err) == (0, "")
            shown = done.out.decode()
            for words in (small.name, small.parameters_digest.hex(), small.synthesis_digest.hex(), str(path)):
                assert words in shown
            assert small.parts.texts["origin"] in shown
            rows = [line.split() for line in shown.splitlines()]
            assert ["3", "5", "scales,", "means", "checkerboard", "0,", "1,", "2"] in rows
            for name, bounds in small.bounds.items():
                (row,) = [row for row in rows if row and row[0] == name]
                assert row[-3:] == [f"2^{max(bound.bits for bound in bounds):.2f}", "of", "2^52"]

    def test_unknown_and_ambiguous(self, run: Run, installed: Path) -> None:
        done = run("models", "show", "nonsense")
        assert (done.code, done.out) == (1, b"")
        assert f"there are {modelstore.DEFAULT} (" in done.error
        assert model().name in done.error
        other = model("mbt2018-mean", 8, 16)
        named = Model(replace(other.parts, texts={"name": model().name}))
        modelstore.install(named, named.to_bytes())
        done = run("models", "show", model().name)
        assert (done.code, done.out) == (1, b"")
        assert "fits several models" in done.error
        assert named.parameters_digest.hex()[:12] in done.error

    @pytest.mark.parametrize("command", ["show", "install", "export"])
    @pytest.mark.parametrize("content", [b"", b"words", "photo", "cut", "hurt", "folder", None])
    def test_bad_files(
        self, command: str, content: bytes | str | None, run: Run, files: Files, store: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "a.safetensors"
        whole = files.model.read_bytes()
        made = {"photo": files.photo.read_bytes(), "cut": whole[:-1], "hurt": whole[:-1] + bytes([whole[-1] ^ 1])}
        if content == "folder":
            path.mkdir()
        elif content is not None:
            path.write_bytes(made[content] if isinstance(content, str) else content)
        done = run("models", command, path, *([tmp_path / "out"] if command == "export" else []))
        assert (done.code, done.out) == (1 if content in ("folder", None) else 2, b"")
        assert str(path) in done.error
        assert not (tmp_path / "out").exists()
        folder = modelstore.model_folder()
        assert folder is not None
        assert not folder.exists()


class TestInstall:
    def test_and_again(self, run: Run, files: Files, store: Path) -> None:
        path = store / modelstore.file_name(model())
        done = run("models", "install", files.model)
        assert (done.code, done.err) == (0, "")
        assert done.out.decode() == f"{files.model}: installed as {path}\n"
        assert path.read_bytes() == files.model.read_bytes()
        done = run("models", "install", files.model)
        assert (done.code, done.err) == (0, "")
        assert done.out.decode() == f"{files.model}: there already, as {path}\n"
        assert os.listdir(store) == [path.name]
        assert run("decode", files.stream, store.parent / "a.png").code == 0

    def test_each_for_itself(self, run: Run, files: Files, store: Path, tmp_path: Path) -> None:
        junk, other = tmp_path / "junk", tmp_path / "other"
        junk.write_bytes(b"junk")
        text_of("A b/c").save(other)
        done = run("models", "install", junk, files.model, tmp_path / "none", other)
        assert done.code == 2
        assert [line.split(": ")[0] for line in done.out.decode().splitlines()] == [str(files.model), str(other)]
        assert [line.split(": ")[2] for line in done.err.splitlines()] == [str(junk), str(tmp_path / "none")]
        assert sorted(name.split("-")[0] for name in os.listdir(store)) == ["A", "mbt2018"]

    def test_other_bytes_there(self, run: Run, files: Files, installed: Path) -> None:
        installed.write_bytes(b"precious")
        done = run("models", "install", files.model)
        assert (done.code, done.out) == (1, b"")
        assert f"{installed}: exists already" in done.error
        assert installed.read_bytes() == b"precious"
        assert run("models", "install", files.model, "--force").code == 0
        assert installed.read_bytes() == files.model.read_bytes()

    def test_a_folder_that_cannot_be(self, run: Run, files: Files, store: Path) -> None:
        store.write_bytes(b"a file")
        done = run("models", "install", files.model)
        assert (done.code, done.out) == (1, b"")
        assert "cannot be written there" in done.error

    @pytest.mark.parametrize(
        "options",
        [
            [],
            ["--quality", 3],
            ["--zoo", "mbt2018-mean"],
            ["a", "--quality", 3],
            ["a", "--zoo", "mbt2018-mean", "--quality", 3],
        ],
    )
    def test_usage(self, options: list[object], run: Run, store: Path) -> None:
        done = run("models", "install", *options)
        assert (done.code, done.out) == (1, b"")
        assert "give model files, or --zoo NAME and --quality N" in done.error

    def test_from_the_zoo(self, run: Run, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fetch(**asked: Any) -> Any:
            assert (asked["quality"], asked["metric"], asked["pretrained"]) == (3, "ms-ssim", True)
            print("Downloading")
            return net("mbt2018-mean")

        monkeypatch.setitem(compressai.zoo.image_models, "mbt2018-mean", fetch)
        command = ["models", "install", "--zoo", "mbt2018-mean", "--quality", 3, "--metric", "ms-ssim"]
        done = run(*command)
        assert (done.code, done.err) == (0, "")
        (path,) = store.iterdir()
        what = "mbt2018-mean, quality 3, ms-ssim"
        assert done.out.decode() == f"{what}: installed as {path}\n"
        assert path.name.startswith("mbt2018-mean-ms-ssim-q3-")
        monkeypatch.delitem(compressai.zoo.image_models, "mbt2018-mean")
        done = run(*command)
        assert (done.code, done.err) == (0, "")
        assert done.out.decode() == f"{what}: there already, as {path}\n"

    @pytest.mark.parametrize(
        ("name", "quality", "message"),
        [
            ("mbt2018-mean", 3, "mbt2018-mean, quality 3, mse: cannot be downloaded (no network here)"),
            ("mbt2018-mean", 99, "not to be had from CompressAI's zoo (Invalid quality"),
            ("nonsense", 3, "nonsense is no model of CompressAI's zoo"),
        ],
    )
    def test_the_real_zoo_without_a_network(
        self, name: str, quality: int, message: str, run: Run, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unreachable(*_: Any, **__: Any) -> Any:
            raise OSError("no network here")

        monkeypatch.setattr(socket, "getaddrinfo", unreachable)
        monkeypatch.setenv("TORCH_HOME", str(store.parent / "torch"))
        done = run("models", "install", "--zoo", name, "--quality", quality)
        assert (done.code, done.out) == (1, b"")
        assert message in done.error
        assert not store.exists()


class TestExport:
    def test_by_name_and_digest(self, run: Run, installed: Path, tmp_path: Path) -> None:
        for text in (model().name, model().parameters_digest.hex()[:8], model().synthesis_digest.hex()):
            out = tmp_path / f"{text}.safetensors"
            done = run("models", "export", text, out)
            assert (done.code, done.err) == (0, "")
            size = installed.stat().st_size
            assert done.out.decode() == f"{out}: {model().name}, {size} bytes\n"
            assert out.read_bytes() == installed.read_bytes()

    def test_into_a_folder(self, run: Run, store: Path, tmp_path: Path) -> None:
        assert run("models", "export", modelstore.DEFAULT, tmp_path).code == 0
        out = tmp_path / BUNDLED.name
        assert out.read_bytes() == BUNDLED.read_bytes()
        done = run("models", "export", modelstore.DEFAULT, tmp_path)
        assert (done.code, done.out) == (1, b"")
        assert f"{out}: exists already: use --force" in done.error
        out.write_bytes(b"")
        assert run("models", "export", modelstore.DEFAULT, tmp_path, "--force").code == 0
        assert out.read_bytes() == BUNDLED.read_bytes()

    def test_standard_output(self, run: Run, installed: Path) -> None:
        done = run("models", "export", model().name, "-")
        assert (done.code, done.out, done.err) == (0, installed.read_bytes(), "")

    @pytest.mark.parametrize("kind", ["stream", "lost", "gap", "-"])
    def test_what_a_stream_names(self, kind: str, run: Run, files: Files, tmp_path: Path) -> None:
        out = tmp_path / "m.safetensors"
        stream = "-" if kind == "-" else getattr(files, kind)
        done = run("models", "export", "--stream", stream, out, stdin=files.stream.read_bytes())
        assert (done.code, done.err) == (0, "")
        assert out.read_bytes() == files.model.read_bytes()
        assert rs.decode(files.stream.read_bytes(), rs.load_model(out)).report.exact

    def test_a_stream_without_its_model(self, run: Run, files: Files, store: Path, tmp_path: Path) -> None:
        stream, out = tmp_path / "a.robs", tmp_path / "m"
        stream.write_bytes(sample_stream()[2])
        done = run("models", "export", "--stream", stream, out)
        assert (done.code, done.out) == (1, b"")
        assert f"{stream}: no installed model has the digest 000102" in done.error
        done = run("models", "export", "--stream", files.photo, out)
        assert (done.code, done.out) == (2, b"")
        assert f"{files.photo}: no robuststream packet" in done.error
        done = run("models", "export", "--stream", tmp_path / "none", out)
        assert (done.code, done.out) == (1, b"")
        assert not out.exists()

    def test_a_stream_of_another_synthesis(self, run: Run, files: Files, tmp_path: Path) -> None:
        parsed = read_stream(files.stream.read_bytes())
        header = replace(parsed.header, synthesis_digest=bytes(range(16)))
        path, out = tmp_path / "a.robs", tmp_path / "m"
        path.write_bytes(write_stream(header, list(parsed.tiles.values())))
        done = run("models", "export", "--stream", path, out)
        assert (done.code, done.out) == (2, b"")
        assert f"{path}: its model's synthesis transform 000102" in done.error
        assert str(files.model) in done.error
        assert not out.exists()

    @pytest.mark.parametrize("words", [["a"], ["a", "b", "c"], ["--stream", "a"], ["--stream", "a", "b", "c"]])
    def test_usage(self, words: list[str], run: Run, store: Path) -> None:
        done = run("models", "export", *words)
        assert (done.code, done.out) == (1, b"")
        assert done.error
