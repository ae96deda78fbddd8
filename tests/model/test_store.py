"""Where models are found: what headers say, the model folder, CompressAI's zoo."""

from __future__ import annotations

import builtins
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import compressai.zoo
import pytest
import safetensors.torch
import torch

import robuststream as rs
from robuststream.model import store as modelstore
from robuststream.model.file import METADATA_KEY
from robuststream.model.frozen import Model
from tests.small import model, net, picture

NAME = "mbt2018-mean"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model folder, not made yet."""
    monkeypatch.setenv(modelstore.FOLDER_VARIABLE, str(tmp_path / "store"))
    return tmp_path / "store"


def renamed(name: str, n: int = 8, m: int = 12) -> Model:
    parts = model(NAME, n, m).parts
    return Model(replace(parts, texts={**parts.texts, "name": name}))


def other_synthesis(name: str) -> Model:
    parts = model().parts
    network = parts.network("g_s")
    first = network.layers[0]
    tensors = {**first.tensors, "bias": first.tensors["bias"] + 1}
    layers = [replace(first, tensors=tensors), *network.layers[1:]]
    networks = {**parts.networks, "g_s": replace(network, layers=layers)}
    return Model(replace(parts, networks=networks, texts={**parts.texts, "name": name}))


def described(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A model file whose description is changed."""
    data = model().to_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    description = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][METADATA_KEY])
    change(description)
    return safetensors.torch.save(safetensors.torch.load(data), {METADATA_KEY: json.dumps(description)})


class TestStoredModels:
    def test_headers_say_what_the_models_do(self, store: Path) -> None:
        store.mkdir()
        small = model()
        small.save(store / "a.safetensors")
        (store / "notes.txt").touch()
        bundled, stored = modelstore.stored_models()
        assert bundled.bundled
        assert bundled.path == modelstore.BUNDLED / (modelstore.DEFAULT + modelstore.SUFFIX)
        assert bundled.name == modelstore.DEFAULT
        assert not stored.bundled
        assert stored == modelstore.StoredModel(
            store / "a.safetensors",
            len(small.to_bytes()),
            small.name,
            small.parts.prior,
            small.parameters_digest.hex(),
            small.synthesis_digest.hex(),
        )

    @pytest.mark.parametrize(
        ("data", "problem"),
        [
            (b"", "empty: get a whole copy of it"),
            (b"short", "header too small"),
            (b"words and more words", "header too large"),
            (safetensors.torch.save({"a": torch.zeros(1)}), "without a robuststream model's description"),
            (safetensors.torch.save({}, {METADATA_KEY: "no json"}), "Expecting value"),
            (safetensors.torch.save({}, {METADATA_KEY: "[" * 100_000}), "RecursionError"),
            (safetensors.torch.save({}, {METADATA_KEY: "[]"}), "description is not valid"),
            (safetensors.torch.save({}, {METADATA_KEY: "{}"}), "KeyError: 'format'"),
            (described(lambda d: d.update(format=2)), "model format 2, this release reads 1"),
            (described(lambda d: d.update(texts=[])), "AttributeError"),
            (described(lambda d: d.update(texts={"name": 3})), "name and prior are no texts"),
            (described(lambda d: d.update(prior=None)), "name and prior are no texts"),
            (described(lambda d: d.update(parameters_digest=3)), "TypeError"),
            (described(lambda d: d.update(synthesis_digest="0" * 31)), "its digests are none"),
            (model().to_bytes()[:-1], "incomplete metadata"),
        ],
    )
    def test_files_that_are_no_models(self, data: bytes, problem: str, store: Path) -> None:
        store.mkdir()
        path = store / "a.safetensors"
        path.write_bytes(data)
        _, stored = modelstore.stored_models()
        assert problem in stored.problem
        assert stored == modelstore.StoredModel(path, len(data), problem=stored.problem)

    def test_what_is_no_file(self, store: Path) -> None:
        """A pipe in particular would be waited for."""
        (store / "folder.safetensors").mkdir(parents=True)
        (store / "gone.safetensors").symlink_to(store / "nowhere")
        os.mkfifo(store / "pipe.safetensors")
        assert [stored.problem for stored in modelstore.stored_models()] == ["", *["no regular file"] * 3]

    def test_no_torch(self, store: Path) -> None:
        store.mkdir()
        model().save(store / "a.safetensors")
        code = (
            "import sys; from robuststream.model.store import stored_models; assert len(list(stored_models())) == 2;"
            "sys.exit('torch' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestFinding:
    def test_by_the_digests_of_a_stream(self, store: Path) -> None:
        store.mkdir()
        other_synthesis("other").save(store / "a.safetensors")
        digests = model().parameters_digest, model().synthesis_digest
        assert next(modelstore.find_stored(*digests)).path == store / "a.safetensors"
        model().save(store / "b.safetensors")
        assert next(modelstore.find_stored(*digests)).path == store / "b.safetensors"
        assert modelstore.find_model(*digests).synthesis_digest == model().synthesis_digest
        with pytest.raises(rs.ModelNotFound, match="no installed model has the digest 0000"):
            list(modelstore.find_stored(bytes(16), bytes(16)))

    def test_by_name_digest_or_path(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        one, two = renamed("one"), renamed("two", 8, 16)
        path, _ = modelstore.install(one, one.to_bytes())
        other, _ = modelstore.install(two, two.to_bytes())
        digest = one.parameters_digest.hex()
        for text in ("one", digest, digest[:6], digest.upper()[:9], one.synthesis_digest.hex()[:8], str(path)):
            assert modelstore.pick_models(text) == [path]
        assert modelstore.pick_models("two") == [other]
        for text in ("three", digest[:5], "0" * 32, str(store / "none.safetensors"), ""):
            with pytest.raises(
                rs.ModelNotFound, match=rf"no model's name.*: there are {modelstore.DEFAULT}.*, one.*, two"
            ):
                modelstore.pick_models(text)
        monkeypatch.chdir(path.parent)
        assert modelstore.pick_models(path.name) == [Path(path.name)]

    def test_what_fits_several(self, store: Path) -> None:
        for one in (renamed("one"), other_synthesis("one")):
            modelstore.install(one, one.to_bytes())
        for text in ("one", model().parameters_digest.hex()):
            with pytest.raises(rs.ModelNotFound, match=r"fits several models: one \(.*, one \("):
                modelstore.pick_models(text)
        assert modelstore.pick_models(model().synthesis_digest.hex()[:6])[0].name.startswith("one-")

    def test_copies_are_one_model(self, store: Path) -> None:
        path, _ = modelstore.install(model(), model().to_bytes())
        model().save(path.with_name("zzz.safetensors"))
        copies = [path, path.with_name("zzz.safetensors")]
        assert modelstore.pick_models(model().parameters_digest.hex()) == copies

    def test_a_long_list_is_cut(self, store: Path) -> None:
        for number in range(9):
            one = renamed(f"model-{number}")
            modelstore.install(one, one.to_bytes())
        with pytest.raises(rs.ModelNotFound, match=r"2 more \(robuststream models list\)"):
            modelstore.pick_models("none")


class TestInstall:
    @pytest.mark.parametrize(
        ("name", "safe"),
        [
            ("mine", "mine"),
            ("a b/c\\d:é", "a-b-c-d"),
            ("../../etc/passwd", "etc-passwd"),
            (".hidden", "hidden"),
            ("", "model"),
            ("...", "model"),
            ("x" * 300, "x" * 64),
        ],
    )
    def test_names_made_safe(self, name: str, safe: str) -> None:
        one = renamed(name)
        digests = f"{one.parameters_digest.hex()[:8]}-{one.synthesis_digest.hex()[:8]}"
        assert modelstore.file_name(one) == f"{safe}-{digests}.safetensors"

    def test_once(self, store: Path) -> None:
        data = model().to_bytes()
        path, written = modelstore.install(model(), data)
        assert (path, written) == (store / modelstore.file_name(model()), True)
        assert path.read_bytes() == data
        assert modelstore.install(model(), data) == (path, False)
        assert os.listdir(store) == [path.name]

    def test_other_bytes_are_not_overwritten(self, store: Path) -> None:
        path, _ = modelstore.install(model(), model().to_bytes())
        path.write_bytes(b"precious")
        with pytest.raises(rs.RobustStreamError, match="exists already, with other bytes: use --force"):
            modelstore.install(model(), model().to_bytes())
        assert path.read_bytes() == b"precious"
        assert modelstore.install(model(), model().to_bytes(), force=True) == (path, True)
        assert path.read_bytes() == model().to_bytes()

    def test_a_folder_that_cannot_be(self, store: Path) -> None:
        store.write_bytes(b"a file")
        with pytest.raises(rs.RobustStreamError, match=r"cannot be written there \(.*\): set ROBUSTSTREAM_MODELS to"):
            modelstore.install(model(), model().to_bytes())


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A zoo with one model; what it is asked for."""
    calls: list[dict[str, Any]] = []

    def fetch(**asked: Any) -> Any:
        calls.append(asked)
        return net(NAME)

    monkeypatch.setitem(compressai.zoo.image_models, NAME, fetch)
    return calls


class TestZoo:
    def test_fetched_once(self, store: Path, zoo: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
        loaded = rs.load_model(NAME, quality=3, metric="ms-ssim")
        assert zoo == [{"quality": 3, "metric": "ms-ssim", "pretrained": True, "progress": False}]
        assert loaded.name == "mbt2018-mean-ms-ssim-q3"
        assert loaded.parameters_digest == model().parameters_digest
        assert loaded.parts.texts["attribution"] == "CompressAI's model zoo"
        assert os.listdir(store) == [modelstore.file_name(loaded)]
        imported = builtins.__import__

        def without_compressai(name: str, *rest: Any) -> Any:
            assert not name.startswith("compressai")
            return imported(name, *rest)

        monkeypatch.setattr(builtins, "__import__", without_compressai)
        assert rs.load_model(NAME, quality=3, metric="ms-ssim") is loaded
        assert len(zoo) == 1
        # What was coded with it is decoded by the digests alone.
        assert rs.decode(rs.encode(picture(64, 64), loaded, tile=64)).report.exact

    def test_each_quality_and_metric_is_a_model(self, store: Path, zoo: list[dict[str, Any]]) -> None:
        names = {rs.load_model(NAME, quality=q, metric=m).name for q in (1, 2) for m in ("mse", "ms-ssim")}
        assert len(names) == len(zoo) == len(os.listdir(store)) == 4

    def test_force_fetches_again(self, store: Path, zoo: list[dict[str, Any]]) -> None:
        path, _ = modelstore.install_pretrained(NAME, 3, "mse")
        path.write_bytes(path.read_bytes()[:-1])
        assert modelstore.install_pretrained(NAME, 3, "mse", force=True) == (path, True)
        assert modelstore.install_pretrained(NAME, 3, "mse") == (path, False)
        assert len(zoo) == 2
        Model.load(path)

    @pytest.mark.parametrize(
        ("raised", "message"),
        [
            (URLError(socket.gaierror(-2, "Name not known")), r"cannot be downloaded \(.*Name not known\): a network"),
            (HTTPError("http://a", 403, "Forbidden", None, None), r"cannot be downloaded \(Forbidden\)"),
            (ConnectionResetError(104, "Connection reset"), r"cannot be downloaded \(.*Connection reset\)"),
            (TimeoutError(), r"cannot be downloaded \(TimeoutError\)"),
            (ValueError("Invalid\nquality"), r"not to be had from CompressAI's zoo \(Invalid\)"),
            (KeyError("state_dict"), r"not to be had from CompressAI's zoo \('state_dict'\)"),
            (RuntimeError("Pre-trained model not yet available"), "not to be had .*not yet available"),
            (EOFError(), r"not to be had from CompressAI's zoo \(EOFError\)"),
        ],
    )
    def test_whatever_the_zoo_raises(
        self, raised: Exception, message: str, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fetch(**_: Any) -> Any:
            raise raised

        monkeypatch.setitem(compressai.zoo.image_models, NAME, fetch)
        with pytest.raises(rs.ModelNotFound, match=f"^mbt2018-mean, quality 3, mse: {message}") as error:
            rs.load_model(NAME, quality=3)
        assert "\n" not in str(error.value)
        assert not store.exists()

    def test_the_real_one_without_a_network(
        self, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

        def unreachable(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(-2, "Name or service not known")

        # Where the tests do have a network, none of it is used.
        monkeypatch.setattr(socket, "getaddrinfo", unreachable)
        with pytest.raises(rs.ModelNotFound, match=r"mbt2018-mean, quality 3, mse: cannot be downloaded \(") as error:
            rs.load_model(NAME, quality=3)
        assert "\n" not in str(error.value)
        assert not store.exists()
        assert not [path for path in (tmp_path / "torch").rglob("*") if path.is_file()]

    @pytest.mark.parametrize("name", ["vgg16", "elic2022-official", "ssf2020", "../a", ""])
    def test_names_it_has_not(self, name: str, store: Path) -> None:
        with pytest.raises(rs.ModelNotFound, match="is no model of CompressAI's zoo that can be frozen: bmshj2018"):
            rs.load_model(name, quality=3)

    @pytest.mark.parametrize(("quality", "metric"), [(0, "mse"), (9, "mse"), (3, "lpips")])
    def test_qualities_it_has_not(self, quality: int, metric: str, store: Path) -> None:
        with pytest.raises(rs.ModelNotFound, match=f"{NAME}, quality {quality}, {metric}: not to be had"):
            rs.load_model(NAME, quality=quality, metric=metric)

    def test_weights_of_another_architecture(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """CompressAI 1.2 gives those of bmshj2018-factorized under the name of bmshj2018-factorized-relu."""
        relu = "bmshj2018-factorized-relu"
        monkeypatch.setitem(compressai.zoo.image_models, relu, lambda **_: net("bmshj2018-factorized"))
        with pytest.raises(rs.ModelNotFound, match="gives a bmshj2018-factorized under this name"):
            rs.load_model(relu, quality=3)
        assert not store.exists()

    def test_without_compressai(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "compressai.zoo", None)
        with pytest.raises(rs.UnsupportedModel, match=r"needs compressai: pip install 'robuststream\[compressai\]'"):
            rs.load_model(NAME, quality=3)

    def test_a_folder_that_cannot_be(self, store: Path, zoo: list[dict[str, Any]]) -> None:
        store.write_bytes(b"a file")
        with pytest.raises(rs.RobustStreamError, match="cannot be written there"):
            rs.load_model(NAME, quality=3)

    def test_a_name_without_a_quality(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(rs.ModelNotFound, match=r"cannot be read .*: a name in CompressAI's zoo goes with quality="):
            rs.load_model(NAME)
        with pytest.raises(rs.ModelNotFound, match="quality goes with a name"):
            rs.load_model(quality=3)
        model().save(NAME)
        assert rs.load_model(NAME).parameters_digest == model().parameters_digest


class TestLoading:
    """What is loaded is what is in the file now."""

    def test_a_replaced_file_of_the_same_time(self, tmp_path: Path) -> None:
        path = tmp_path / "m.safetensors"
        model().save(path)
        times = path.stat()
        assert rs.load_model(path).parameters_digest == model().parameters_digest
        model(NAME, 8, 16).save(path)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert rs.load_model(path).parameters_digest == model(NAME, 8, 16).parameters_digest

    def test_a_relative_path_after_chdir(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        models = [model(), model(NAME, 8, 16)]
        for number, one in enumerate(models):
            folder = tmp_path / str(number)
            folder.mkdir()
            one.save(folder / "m.safetensors")
            os.utime(folder / "m.safetensors", ns=(10**18, 10**18))
        for number in (0, 1, 0):
            monkeypatch.chdir(tmp_path / str(number))
            assert rs.load_model("m.safetensors").parameters_digest == models[number].parameters_digest

    def test_the_same_content_is_loaded_once(self, tmp_path: Path) -> None:
        model().save(tmp_path / "a.safetensors")
        model().save(tmp_path / "b.safetensors")
        first = rs.load_model(tmp_path / "a.safetensors")
        assert rs.load_model(tmp_path / "b.safetensors") is first
        assert rs.load_model(tmp_path / "b.safetensors", "cpu:0") is not first
        assert rs.load_model() is rs.load_model()

    def test_few_are_kept(self, tmp_path: Path) -> None:
        for number in range(6):
            renamed(f"model-{number}").save(tmp_path / f"{number}.safetensors")
        first = rs.load_model(tmp_path / "0.safetensors")
        for number in range(1, 6):
            rs.load_model(tmp_path / f"{number}.safetensors")
        assert len(modelstore._loaded) == modelstore.KEPT
        assert rs.load_model(tmp_path / "0.safetensors") is not first

    @pytest.mark.parametrize(
        ("name", "message"), [("", "a folder: name the model file in it"), ("a\0b", r"cannot be read \(embedded null")]
    )
    def test_paths_that_are_no_file(self, name: str, message: str, tmp_path: Path) -> None:
        with pytest.raises(rs.ModelNotFound, match=message):
            rs.load_model(f"{tmp_path}/{name}")


class TestDamagedCopies:
    """Sorted before a good one, a damaged copy must not be in its way."""

    @pytest.fixture
    def copies(self, store: Path) -> tuple[Path, Path]:
        store.mkdir()
        data = model().to_bytes()
        damaged = bytearray(data)
        damaged[-1] ^= 1
        (store / "a.safetensors").write_bytes(damaged)
        (store / "b.safetensors").write_bytes(data)
        return store / "a.safetensors", store / "b.safetensors"

    def test_decoding_takes_the_next(self, copies: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
        data = rs.encode(picture(64, 64), model(), tile=64)
        assert rs.decode(data).report.exact
        assert f"a copy of the model is passed over: {copies[0]}: " in caplog.text

    def test_all_damaged(self, copies: tuple[Path, Path]) -> None:
        copies[1].write_bytes(copies[0].read_bytes())
        # Another synthesis transform is no way out: it would hide what is wrong.
        other_synthesis("other").save(copies[0].with_name("c.safetensors"))
        data = rs.encode(picture(64, 64), model(), tile=64)
        with pytest.raises(rs.UnsupportedModel, match=r"a\.safetensors: its tensors do not have the digest"):
            rs.decode(data)

    def test_a_copy_that_goes_while_it_is_looked_for(self, copies: tuple[Path, Path]) -> None:
        digests = model().parameters_digest, model().synthesis_digest
        found = [stored.path for stored in modelstore.find_stored(*digests)]
        assert found == list(copies)
        copies[0].unlink()
        assert modelstore.first_sound(found)[0] == copies[1]

    def test_one_of_the_zoo(self, store: Path, zoo: list[dict[str, Any]]) -> None:
        path, _ = modelstore.install_pretrained(NAME, 3, "mse")
        damaged = path.with_name("a.safetensors")
        damaged.write_bytes(path.read_bytes()[:-1] + b"\xff")
        assert rs.load_model(NAME, quality=3).name == "mbt2018-mean-mse-q3"
        assert modelstore.install_pretrained(NAME, 3, "mse") == (path, False)
        assert len(zoo) == 1


HOMELESS = """
import os, pwd, sys
def unknown(uid): raise KeyError(uid)
pwd.getpwuid = unknown
for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "TORCH_HOME", "ROBUSTSTREAM_MODELS"): os.environ.pop(name, None)
import robuststream as rs
from robuststream import cli
"""


@pytest.mark.skipif(sys.platform == "win32", reason="users without a home are a matter of Unix")
class TestWithoutAHome:
    """A user id without a home, as containers have them: bundled models need no folder."""

    def run(self, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", HOMELESS + code], capture_output=True, text=True, cwd=folder, check=False
        )

    def test_everything_bundled_works(self, tmp_path: Path) -> None:
        (tmp_path / "a.robs").write_bytes(rs.encode(picture(64, 64)))
        code = """
assert rs.decode("a.robs").report.exact
assert cli.main(["decode", "a.robs", "b.png"]) == 0
assert cli.main(["encode", "b.png", "b.robs"]) == 0
sys.exit(cli.main(["models", "list"]))
"""
        done = self.run(code, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "model folder: none, since this user has no home: set ROBUSTSTREAM_MODELS" in done.stdout
        assert sorted(os.listdir(tmp_path)) == ["a.robs", "b.png", "b.robs"]

    def test_what_needs_a_folder_says_so(self, tmp_path: Path) -> None:
        model().save(tmp_path / "m.safetensors")
        (tmp_path / "a.robs").write_bytes(rs.encode(picture(64, 64), model(), tile=64))
        code = """
codes = [cli.main(["decode", "a.robs", "b.png"]), cli.main(["models", "install", "m.safetensors"]),
         cli.main(["models", "install", "--zoo", "mbt2018-mean", "--quality", "3"])]
os.environ["ROBUSTSTREAM_MODELS"] = "models"
codes.append(cli.main(["models", "install", "--zoo", "mbt2018-mean", "--quality", "3"]))
sys.exit(codes != [1] * 4)
"""
        done = self.run(code, tmp_path)
        lines = done.stderr.splitlines()
        assert (done.returncode, len(lines)) == (0, 4), done.stderr
        assert lines[0].endswith("or set ROBUSTSTREAM_MODELS to the folder its file is in")
        for line in lines[1:3]:
            assert line.endswith("no model folder: set ROBUSTSTREAM_MODELS to one that can be written")
        assert lines[3].endswith("set TORCH_HOME")
        assert sorted(os.listdir(tmp_path)) == ["a.robs", "m.safetensors"]


class TestModelFolder:
    @pytest.mark.parametrize("given", ["~/.local/share/robuststream", RuntimeError("no home"), KeyError(12345)])
    def test_none_where_there_is_no_home(self, given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Releases of platformdirs differ in what they do then."""

        def user_data_dir(_: str) -> str:
            if isinstance(given, Exception):
                raise given
            return str(given)

        monkeypatch.delenv(modelstore.FOLDER_VARIABLE, raising=False)
        monkeypatch.setattr("platformdirs.user_data_dir", user_data_dir)
        assert modelstore.model_folder() is None
        assert [stored.bundled for stored in modelstore.stored_models()] == [True]

    def test_one_that_cannot_be_read(
        self, store: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.touch()
        data = rs.encode(picture(64, 64))
        assert rs.decode(data).report.exact
        assert not caplog.text
        assert [stored.bundled for stored in modelstore.stored_models()] == [True]
        assert f"{store}: the model folder cannot be read (Not a directory)" in caplog.text
        listed = os.listdir

        def closed(folder: Any) -> list[str]:
            if folder == store:
                raise PermissionError(13, "Permission denied")
            return listed(folder)

        monkeypatch.setattr(os, "listdir", closed)
        assert [stored.bundled for stored in modelstore.stored_models()] == [True]
        assert f"{store}: the model folder cannot be read (Permission denied)" in caplog.text
