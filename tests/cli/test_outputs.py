"""What commands write over, and what they do not: inputs never, other people's files never by accident."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from robuststream.cli import places
from tests.cli.conftest import Files, Run


@pytest.fixture
def own(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with copies of its own; whatever happens, what is in it stays as it is."""
    for path in (files.photo, files.stream, files.lost, files.model):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "second.png").write_bytes(files.photo.read_bytes())
    (tmp_path / "notes.txt").write_bytes(b"precious")
    monkeypatch.chdir(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    yield tmp_path
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert {name: after.get(name) for name in before} == before


class TestInputs:
    """Never overwritten, and --force changes nothing."""

    @pytest.mark.parametrize(
        "line",
        [
            "encode photo.png photo.png",
            "encode photo.png ./photo.png",
            "encode photo.png second.png --model second.png",
            "encode photo.png small.safetensors --model small.safetensors",
            "decode photo.robs photo.robs --format png",
            "decode photo.robs lost.robs --format png --header-from lost.robs",
            "decode photo.robs new.png --mask photo.robs",
            "inspect photo.robs --map photo.robs",
            "inspect photo.robs --html photo.robs",
            "inspect photo.robs --map notes.txt --policy notes.txt",
            "repair lost.robs lost.robs",
            "repair lost.robs photo.robs -o lost.robs",
            "repair lost.robs photo.robs -o photo.robs",
            "repair lost.robs photo.robs --header-from photo.robs",
            "damage photo.robs photo.robs --seed 1 --flip 1",
            "damage photo.robs lost.robs --seed 1 --splice lost.robs",
            "freeze mbt2018-mean notes.txt notes.txt",
            "models export small.safetensors small.safetensors",
            "models export --stream photo.robs photo.robs",
        ],
    )
    def test_by_their_names(self, line: str, run: Run, own: Path) -> None:
        done = run(*line.split(), "--force")
        assert (done.code, done.out) == (1, b"")
        assert "is an input as well" in done.error

    @pytest.mark.parametrize("make", [os.symlink, os.link])
    def test_by_other_names(self, make: object, run: Run, own: Path) -> None:
        make(own / "photo.robs", own / "other.robs")  # type: ignore[operator]
        for source, target in (("photo.robs", "other.robs"), ("other.robs", "photo.robs")):
            done = run("damage", source, target, "--seed", 1, "--flip", 1, "-f")
            assert done.code == 1
            assert f"{target}: is an input as well ({source})" in done.error

    def test_in_a_folder(self, run: Run, own: Path) -> None:
        done = run("encode", "photo.png", "photo.robs", "--out-dir", own, "-f")
        assert done.code == 1
        assert "photo.png and photo.robs would become the same file" in done.error

    def test_standard_input(self, own: Path) -> None:
        words = [sys.executable, "-m", "robuststream", "damage", "-", "photo.robs", "--seed", "1", "--flip", "1", "-f"]
        environment = {**os.environ, "PYTHONPATH": str(Path(places.__file__).parents[2])}
        with open(own / "photo.robs", "rb") as file:
            done = subprocess.run(words, stdin=file, capture_output=True, env=environment, check=False)
        assert done.returncode == 1
        assert b"is an input as well (standard input)" in done.stderr


class TestForce:
    """It replaces what the command itself makes."""

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("encode photo.png second.png", "second.png: exists and is a picture"),
            ("encode photo.png notes.txt", "notes.txt: exists and is no robuststream"),
            ("encode photo.png small.safetensors", "small.safetensors: exists and is a model file"),
            ("repair lost.robs second.png", "second.png: exists and is a picture"),
            ("decode photo.robs lost.robs --format png", "lost.robs: exists and is a robuststream"),
            ("decode photo.robs notes.txt --format png", "notes.txt: exists and is no picture"),
            ("decode photo.robs new.png --mask lost.robs", "lost.robs: exists and is a robuststream"),
            ("inspect photo.robs --map notes.txt", "notes.txt: exists and is no picture"),
            ("inspect photo.robs --html second.png", "second.png: exists and is a picture"),
            ("damage photo.robs second.png --seed 1 --flip 1", "second.png: exists and is a picture"),
            ("damage photo.png photo.robs --seed 1 --flip 1", "photo.robs: exists and is a robuststream"),
            ("freeze mbt2018-mean notes.txt second.png", "second.png: exists and is a picture"),
            ("models export --stream photo.robs second.png", "second.png: exists and is a picture"),
        ],
    )
    def test_another_kind_of_file_stays(self, line: str, words: str, run: Run, own: Path) -> None:
        done = run(*line.split(), "--force")
        assert (done.code, done.out) == (1, b"")
        assert words in done.error
        assert "delete it first, or choose" in done.error

    def test_a_pattern_with_nothing_behind_it(self, run: Run, own: Path) -> None:
        """`encode -f *.png`: the shell makes two pictures of it."""
        done = run("encode", "-f", "photo.png", "second.png")
        assert "choose a name ending .robs" in done.error

    def test_its_own_kind_is_replaced(self, run: Run, files: Files, tmp_path: Path) -> None:
        stream = tmp_path / "a.robs"
        for content in (b"", b"damaged beyond all", files.lost.read_bytes()):
            stream.write_bytes(content)
            assert run("damage", files.stream, stream, "--seed", 1, "--flip", 1).code == 1
            assert stream.read_bytes() == content
            assert run("repair", files.stream, stream, "-f").code == 0
            assert stream.read_bytes() == files.stream.read_bytes()
        misnamed = tmp_path / "stream"
        misnamed.write_bytes(files.lost.read_bytes())
        assert run("repair", files.stream, misnamed, "-f").code == 0

    def test_damage_may_go_into_any_name(self, run: Run, files: Files, tmp_path: Path) -> None:
        (tmp_path / "out").write_bytes(b"words")
        assert run("damage", files.stream, tmp_path / "out", "--seed", 1, "--flip", 1, "-f").code == 0


class TestFolders:
    def test_a_slash_behind_means_a_folder(self, run: Run, files: Files, tmp_path: Path) -> None:
        assert run("encode", files.photo, f"{tmp_path}/new/", "--model", files.model, "--tile", 64).code == 0
        assert (tmp_path / "new" / "photo.robs").read_bytes() == files.stream.read_bytes()
        assert run("decode", files.stream, f"{tmp_path}/new/deeper/").code == 0
        assert (tmp_path / "new" / "deeper" / "photo.png").is_file()
        assert run("models", "export", files.model, f"{tmp_path}/kept/").code == 0
        assert (tmp_path / "kept" / files.model.name).read_bytes() == files.model.read_bytes()

    @pytest.mark.parametrize(
        "line",
        [
            "repair lost.robs new/",
            "damage photo.robs new/ --seed 1 --flip 1",
            "freeze mbt2018-mean notes.txt new/",
            "inspect photo.robs --map new/",
            "decode photo.robs a.png --mask new/",
        ],
    )
    def test_where_a_file_is_needed(self, line: str, run: Run, own: Path) -> None:
        done = run(*line.split())
        assert done.code == 1
        assert "new/: is a folder: name a file" in done.error
        assert not (own / "new").exists()

    def test_a_file_is_no_folder(self, run: Run, own: Path) -> None:
        for words in (("notes.txt/",), ("--out-dir", "notes.txt"), ("--out-dir", "notes.txt/below")):
            done = run("encode", "photo.png", *words)
            assert done.code == 1
            assert "no folder" in done.error

    def test_none_is_left_behind_by_a_refusal(self, run: Run, own: Path) -> None:
        assert run("decode", "missing.robs", "--out-dir", "new").code == 1
        assert run("decode", "photo.robs", "new/", "--header-from", "notes.txt").code == 2
        assert not (own / "new").exists()


class TestOneFile:
    def test_inputs_that_would_become_one(self, run: Run, own: Path) -> None:
        (own / "deep").mkdir()
        done = run("encode", "photo.png", "deep/photo.jpg", "--out-dir", "out")
        assert "photo.png and deep/photo.jpg would become the same file, out/photo.robs" in done.error

    def test_where_case_does_not_count(self, run: Run, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        words = ("encode", "photo.png", "Photo.png", "--out-dir", "out")
        (own / "Photo.png").write_bytes((own / "photo.png").read_bytes())
        with monkeypatch.context() as patch:
            patch.setattr(places, "_ignores_case", lambda path: True)
            assert "would become the same file" in run(*words).error
        assert run(*words).code == 0
        assert {path.name for path in (own / "out").iterdir()} == {"photo.robs", "Photo.robs"}

    def test_which_file_systems_do_not_count_case(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.robs"
        assert places._ignores_case(path) == (tmp_path.with_name(tmp_path.name.swapcase()).exists())
        monkeypatch.setattr(os.path, "samefile", lambda one, other: str(one).lower() == str(other).lower())
        assert places._ignores_case(path)

    def test_two_names_of_one_output(self, run: Run, own: Path) -> None:
        (own / "there.png").symlink_to("new.png")
        done = run("decode", "photo.robs", "new.png", "--mask", "there.png")
        assert "the mask would take the picture's place" in done.error
        assert "name the same file" in run("inspect", "photo.robs", "--map", "a.png", "--html", "./a.png").error
        assert not (own / "new.png").exists()

    def test_made_meanwhile(self, run: Run, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was not there when the command began, and is when it ends."""
        from robuststream import faults

        flip = faults.flip_bits

        def slowly(*args: object, **more: object) -> bytes:
            (own / "new.robs").write_bytes(b"somebody's")
            return flip(*args, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(faults, "flip_bits", slowly)
        done = run("damage", "photo.robs", "new.robs", "--seed", 1, "--flip", 1)
        assert done.code == 1
        assert "exists by now" in done.error
        assert (own / "new.robs").read_bytes() == b"somebody's"
        assert not list(own.glob(".robuststream*"))


@pytest.mark.skipif(sys.platform == "win32", reason="devices of other names")
class TestPipesAndDevices:
    """Nothing in them can be lost: no --force is asked for."""

    def test_the_null_device(self, run: Run, files: Files) -> None:
        assert run("damage", files.stream, os.devnull, "--seed", 1, "--flip", 1).code == 0
        done = run("decode", files.stream, os.devnull, "--mask", os.devnull, "--format", "png")
        assert (done.code, done.err) == (0, "")

    @pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1"])
    def test_standard_output_by_its_name(self, name: str, run: Run, files: Files) -> None:
        done = run("repair", files.stream, name)
        assert (done.code, done.out) == (0, files.stream.read_bytes())
        assert "standard output: whole" in done.err
        assert "not written to standard output" in run("freeze", "mbt2018-mean", files.model, name).error

    def test_a_log_that_the_shell_appends_to(self, files: Files, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_bytes(b"before ")
        words = [sys.executable, "-m", "robuststream", "repair", str(files.stream), "/dev/stdout"]
        with open(log, "ab") as file:
            subprocess.run(words, stdout=file, stderr=subprocess.PIPE, check=True)
        assert log.read_bytes() == b"before " + files.stream.read_bytes()

    def test_the_output_is_not_called_an_input(self, run: Run, files: Files) -> None:
        assert "standard output: whole" in run("repair", files.stream, "-").err

    def test_standard_input_is_read_once(self, run: Run, files: Files) -> None:
        for words in (("inspect", "-", "-"), ("repair", "-", "-", "-o", "x"), ("verify", "-", "--header-from", "-")):
            assert "only once" in run(*words, stdin=files.stream.read_bytes()).error

    def test_a_report_and_a_picture_do_not_share_standard_output(self, run: Run, files: Files) -> None:
        assert "standard output is for what inspect says" in run("inspect", files.stream, "--map", "-").error


@pytest.mark.parametrize(
    "line",
    [
        "encode missing.png out.robs",
        "encode missing.png other.png --out-dir out",
        "encode photo.png nowhere/out.robs",
        "encode photo.png out.robs --model missing",
        "encode . out.robs",
        "decode missing.robs out.png",
        "decode photo.robs nowhere/out.png",
        "decode photo.robs out.xyz",
        "decode photo.robs out",
        "decode photo.robs out.png --mask nowhere/mask.png",
        "decode photo.robs out.png --model missing",
        "decode photo.robs out.png --header-from missing.robs",
        "verify missing.robs --decode",
        "verify photo.robs --decode --model missing",
        "inspect photo.robs --html nowhere/page.html",
        "inspect photo.robs --html page.html --model missing",
        "freeze mbt2018-mean missing.pth out.safetensors",
        "freeze mbt2018-mean notes.txt nowhere/out.safetensors",
        "models export missing out.safetensors",
        "models export mbt2018-mean-64-96 nowhere/out.safetensors",
        "models install missing.safetensors",
        "demo missing.png",
    ],
)
def test_found_before_anything_heavy_is_imported(line: str, own: Path) -> None:
    code = (
        "import sys; from robuststream.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'numba', 'compressai'} & set(sys.modules); sys.exit(f'imported: {heavy}' if heavy else code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(places.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code, *line.split()], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    errors = done.stderr.splitlines()
    assert len(errors) == 1 + line.count("other.png")
    assert all(error.startswith("robuststream: error: ") for error in errors)


def test_extensions_are_those_that_pictures_are_written_with() -> None:
    from robuststream.cli.decode import EXTENSIONS
    from robuststream.picture.writing import FORMATS

    assert {f".{name}" for name in EXTENSIONS} == set(FORMATS) == set(places.PICTURE.suffixes)
