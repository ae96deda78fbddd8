"""`encode` and `decode`: the library's own calls are the oracle."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import robuststream as rs
from robuststream.cli import common
from robuststream.faults import drop_tiles
from tests.cli.conftest import Files, Run
from tests.helpers import without_headers
from tests.small import model


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_there_and_back(run: Run, files: Files, tmp_path: Path) -> None:
    stream, out = tmp_path / "a.robs", tmp_path / "a.png"
    done = run("encode", files.photo, stream, "--tile", 64, "--model", files.model)
    assert (done.code, done.out, done.err) == (0, b"", "")
    assert stream.read_bytes() == files.stream.read_bytes()
    done = run("decode", stream, out)
    assert (done.code, done.out, done.err) == (0, b"", "")
    np.testing.assert_array_equal(pixels(out), np.asarray(rs.decode(files.stream.read_bytes(), model()).image))


def test_the_bundled_model_is_the_default(run: Run, files: Files, tmp_path: Path) -> None:
    assert run("encode", files.photo, tmp_path / "a.robs").code == 0
    header = rs.inspect(tmp_path / "a.robs").header
    assert header.parameters_digest == rs.load_model().parameters_digest
    assert header.tile == 256


def test_through_pipes(run: Run, files: Files) -> None:
    encoded = run("encode", "-", "-", "--tile", 64, "--model", files.model, stdin=files.photo.read_bytes())
    assert (encoded.code, encoded.err) == (0, "")
    assert encoded.out == files.stream.read_bytes()
    for format, name in ((None, "PNG"), ("jpeg", "JPEG"), ("WebP", "WEBP"), ("tif", "TIFF")):
        options = ["--format", format] if format else []
        decoded = run("decode", "-", "-", *options, stdin=encoded.out)
        assert (decoded.code, decoded.err) == (0, "")
        assert Image.open(io.BytesIO(decoded.out)).format == name


def test_many_inputs(run: Run, files: Files, tmp_path: Path) -> None:
    photos = []
    for name in ("a", "b"):
        photos.append(tmp_path / f"{name}.png")
        photos[-1].write_bytes(files.photo.read_bytes())
    folder = tmp_path / "new" / "streams"
    done = run("encode", *photos, "--out-dir", folder, "--tile", 64, "--model", files.model)
    assert (done.code, done.err) == (0, "")
    assert {path.name for path in folder.iterdir()} == {"a.robs", "b.robs"}
    done = run("decode", *folder.iterdir(), "--out-dir", tmp_path / "out", "--format", "webp")
    assert done.code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.webp", "b.webp"}
    assert Image.open(tmp_path / "out" / "a.webp").format == "WEBP"


def test_a_folder_as_the_last_argument(run: Run, files: Files, tmp_path: Path) -> None:
    assert run("decode", files.stream, tmp_path).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_one_bad_input_does_not_stop_the_others(run: Run, files: Files, tmp_path: Path) -> None:
    missing = tmp_path / "missing.robs"
    done = run("decode", missing, files.lost, files.stream, "--out-dir", tmp_path / "out")
    assert done.code == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"lost.png", "photo.png"}
    error, warning = done.err.splitlines()
    assert error.startswith(f"robuststream: error: {missing}: ")
    assert warning.startswith(f"robuststream: warning: {files.lost}: 1 of 6 tiles are not exact: ROBS-TILE-MISSING")


class TestDamaged:
    def test_a_picture_is_written(self, run: Run, files: Files, tmp_path: Path) -> None:
        done = run("decode", files.lost, tmp_path / "a.png", "--mask", tmp_path / "mask.png")
        assert done.code == 2
        with pytest.warns(rs.DamageWarning):
            decoded = rs.decode(files.lost.read_bytes(), model())
        np.testing.assert_array_equal(pixels(tmp_path / "a.png"), np.asarray(decoded.image))
        np.testing.assert_array_equal(pixels(tmp_path / "mask.png"), decoded.mask)
        assert (decoded.mask == 3).any()

    def test_none_when_strict(self, run: Run, files: Files, tmp_path: Path) -> None:
        done = run("decode", files.lost, tmp_path / "a.png", "--mask", tmp_path / "mask.png", "--strict")
        assert done.code == 2
        assert done.error.startswith(f"robuststream: error: {files.lost}: ROBS-TILE-MISSING, tile 4")
        assert not list(tmp_path.iterdir())

    def test_exact_but_not_intact(self, run: Run, files: Files, tmp_path: Path) -> None:
        done = run("decode", files.gap, tmp_path / "a.png")
        assert done.code == 2
        assert "damaged, but all tiles are exact: ROBS-GAP" in done.err
        whole = rs.decode(files.stream.read_bytes(), model())
        np.testing.assert_array_equal(pixels(tmp_path / "a.png"), np.asarray(whole.image))
        assert run("decode", files.gap, tmp_path / "b.png", "--strict").code == 2
        assert not (tmp_path / "b.png").exists()

    def test_repaired(self, run: Run, files: Files, tmp_path: Path) -> None:
        done = run("decode", files.flipped, tmp_path / "a.png", "--mask", tmp_path / "mask.png")
        assert done.code == 2
        assert "damaged, but all tiles are exact or repaired (1): ROBS-TILE-CRC, tile 2" in done.err
        whole = rs.decode(files.stream.read_bytes(), model())
        np.testing.assert_array_equal(pixels(tmp_path / "a.png"), np.asarray(whole.image))
        assert set(np.unique(pixels(tmp_path / "mask.png"))) == {0, 1}


class TestHeaderFrom:
    @pytest.fixture
    def bare(self, files: Files, tmp_path: Path) -> Path:
        """The stream without any HEADER."""
        path = tmp_path / "bare.robs"
        path.write_bytes(without_headers(files.stream.read_bytes()))
        return path

    @pytest.fixture
    def other(self, files: Files, tmp_path: Path) -> Path:
        path = tmp_path / "other.robs"
        path.write_bytes(rs.encode(255 - files.pixels, model(), tile=64))
        return path

    def test_without_it_there_is_no_picture(self, bare: Path, run: Run, files: Files, tmp_path: Path) -> None:
        done = run("decode", bare, tmp_path / "a.png")
        assert done.code == 2
        assert "no HEADER packet survived" in done.error

    def test_proven(self, bare: Path, other: Path, run: Run, files: Files, tmp_path: Path) -> None:
        done = run("decode", bare, tmp_path / "a.png", "--header-from", other)
        assert done.code == 2
        assert "damaged, but all tiles are exact: ROBS-HEADER-BORROWED" in done.err
        whole = rs.decode(files.stream.read_bytes(), model())
        np.testing.assert_array_equal(pixels(tmp_path / "a.png"), np.asarray(whole.image))
        done = run("verify", "--decode", bare, "--header-from", other)
        assert done.code == 2
        assert b"damaged, 1 finding" in done.out
        assert b"it is the one that was lost" in done.out
        assert run("verify", bare, "--header-from", other).code == 2
        done = run("repair", bare, tmp_path / "whole.robs", "--header-from", other)
        assert done.code == 0
        assert (tmp_path / "whole.robs").read_bytes() == files.stream.read_bytes()

    def test_unproven(self, bare: Path, other: Path, run: Run, files: Files, tmp_path: Path) -> None:
        bare.write_bytes(drop_tiles(bare.read_bytes(), tiles=[1]))
        done = run("decode", bare, tmp_path / "a.png", "--mask", tmp_path / "m.png", "--header-from", other)
        assert done.code == 2
        assert "6 of 6 tiles are not exact: ROBS-HEADER-BORROWED" in done.err
        assert set(np.unique(pixels(tmp_path / "m.png"))) == {3, 5}
        done = run("repair", bare, tmp_path / "whole.robs", "--header-from", other)
        assert done.code == 2
        assert "nothing proves that of stream" in done.error
        assert not (tmp_path / "whole.robs").exists()

    def test_it_is_read_once(
        self, bare: Path, other: Path, run: Run, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not by the library again, nor for each of many files."""

        def again(data: bytes) -> None:
            raise AssertionError("a lender is read a second time")

        monkeypatch.setattr("robuststream.coding.opening.read_stream", again)
        second = tmp_path / "second.robs"
        second.write_bytes(bare.read_bytes())
        assert run("decode", bare, second, "--out-dir", tmp_path / "out", "--header-from", other).code == 2
        assert len(list((tmp_path / "out").iterdir())) == 2
        assert run("verify", "--decode", bare, second, "--header-from", other).code == 2

    def test_not_needed(self, other: Path, run: Run, files: Files, tmp_path: Path) -> None:
        done = run("decode", files.stream, tmp_path / "a.png", "--header-from", other)
        assert done.code == 0
        assert "has a HEADER of its own: none is borrowed" in done.err

    def test_nothing_to_borrow(self, bare: Path, run: Run, files: Files, tmp_path: Path) -> None:
        for lender, code in ((bare, 2), (files.photo, 2), (tmp_path / "none.robs", 1)):
            done = run("decode", bare, tmp_path / "a.png", "--header-from", lender)
            assert done.code == code
            assert done.error.startswith(f"robuststream: error: {lender}: ")
        assert not (tmp_path / "a.png").exists()


class TestOutputs:
    @pytest.mark.parametrize("command", ["encode", "decode"])
    def test_an_existing_one_is_refused(self, command: str, run: Run, files: Files, tmp_path: Path) -> None:
        source = files.photo if command == "encode" else files.stream
        out = tmp_path / ("out.robs" if command == "encode" else "out.png")
        out.write_bytes(b"precious")
        done = run(command, source, out)
        assert done.code == 1
        assert f"{out}: exists already: use --force" in done.error
        assert out.read_bytes() == b"precious"
        assert run(command, source, out, "--force").code == 0
        assert out.read_bytes() != b"precious"

    def test_an_existing_mask_is_refused(self, run: Run, files: Files, tmp_path: Path) -> None:
        (tmp_path / "mask.png").write_bytes(b"precious")
        done = run("decode", files.stream, tmp_path / "a.png", "--mask", tmp_path / "mask.png")
        assert (done.code, (tmp_path / "mask.png").read_bytes()) == (1, b"precious")
        assert not (tmp_path / "a.png").exists()

    def test_two_of_the_same_name(self, run: Run, files: Files, tmp_path: Path) -> None:
        done = run("decode", files.stream, files.stream, "--out-dir", tmp_path)
        assert done.code == 1
        assert "same file" in done.error

    @pytest.mark.parametrize(
        "argv",
        [
            ["photo.robs"],
            ["photo.robs", "gap.robs", "out.png"],
            ["-", "--out-dir", "out"],
            ["photo.robs", "gap.robs", "--out-dir", "out", "--mask", "m.png"],
            ["photo.robs", "out.xyz"],
            ["photo.robs", "out"],
            ["photo.robs", "out.png", "--format", "gif"],
            ["photo.robs", "nowhere/out.png"],
            ["photo.robs", "out.png", "--nonsense"],
            ["photo.robs", "out.png", "--max-pixels", "many"],
            ["photo.robs", "out.png", "--max-pixels", "100"],
            [],
        ],
    )
    def test_usage(self, argv: list[str], run: Run, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(files.folder)
        before = set(files.folder.iterdir())
        done = run("decode", *argv)
        assert done.code == 1
        assert done.error
        assert done.out == b""
        assert set(files.folder.iterdir()) == before

    def test_binary_data_is_kept_off_a_terminal(self, run: Run, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        done = run("decode", files.stream, "-")
        assert (done.code, done.out) == (1, b"")
        assert "terminal" in done.error


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--tile", "100"], "--tile 100 is not a positive multiple of 64"),
        (["--tile", "0"], "--tile 0 is not"),
        (["--max-pixels", "500"], "--max-pixels"),
    ],
)
def test_encode_refuses(options: list[str], reason: str, run: Run, files: Files, tmp_path: Path) -> None:
    done = run("encode", files.photo, tmp_path / "a.robs", "--model", files.model, *options)
    assert done.code == 1
    assert reason in done.error
    assert not list(tmp_path.iterdir())


def test_defaults_are_the_library_s() -> None:
    import inspect

    from robuststream.cli import decode, encode

    for command, function in ((encode.encode, rs.encode), (decode.decode, rs.decode)):
        defaults = {name: item.default for name, item in inspect.signature(function).parameters.items()}
        shared = {option.name: option.to_info_dict()["default"] for option in command.params if option.name in defaults}
        assert shared == {name: defaults[name] for name in shared}
        assert "max_pixels" in shared


def test_a_progress_bar_only_at_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    done: list[int] = []

    def work(number: int) -> int:
        done.append(number)
        return number % 3

    assert common.each(list(range(5)), work) == 2
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert common.each(list(range(5)), work) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "100%" in err
    assert done == [*range(5), *range(5)]


def test_the_mask_does_not_take_the_pictures_place(run, files, tmp_path):
    picture = tmp_path / "o.png"
    result = run("decode", files.stream, picture, "--mask", picture)
    assert result.code == 1
    assert "would take the picture's place" in result.error
    assert not picture.exists()
    assert run("decode", files.stream, picture, "--mask", tmp_path / "none" / "m.png").code == 1
    assert not picture.exists()
