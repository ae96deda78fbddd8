"""`inspect` and `verify`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from PIL import Image

import robuststream as rs
from robuststream.container.layout import build_header, build_packet
from robuststream.container.packets import Kind
from robuststream.container.report import Rule
from robuststream.transfers.reading import read_stream
from tests.cli.conftest import Files, Run
from tests.helpers import sample_header, sample_stream


class TestInspect:
    def test_a_person_reads_it(self, run: Run, files: Files) -> None:
        done = run("inspect", files.stream)
        assert (done.code, done.err) == (0, "")
        text = done.out.decode()
        report = rs.inspect(files.stream)
        for words in ("intact", "170 x 100 pixels, RGB", "6 (3 x 2) of 64 x 64 pixels", report.stream_id):
            assert words in text
        rows = [line.split() for line in text.splitlines()]
        for tile in report.tiles:
            row, column = divmod(tile.index, 3)
            assert [str(n) for n in (tile.index, row, column, tile.offset, tile.size)] + ["intact"] in rows

    def test_damage_is_shown(self, run: Run, files: Files) -> None:
        lost, gap = run("inspect", files.lost), run("inspect", files.gap)
        assert (lost.code, lost.err, gap.code, gap.err) == (2, "", 2, "")
        text = lost.out.decode()
        assert "ROBS-TILE-MISSING, tile 4: no packet of this tile was found" in text
        assert ["4", "1", "1", "-", "-", "missing"] in [line.split() for line in text.splitlines()]
        assert b"ROBS-GAP, bytes" in gap.out

    def test_what_a_decode_may_put_right(self, run: Run, files: Files) -> None:
        done = run("inspect", files.flipped)
        assert (done.code, done.err) == (2, "")
        text = done.out.decode()
        assert "correctable" in next(line for line in text.splitlines() if line.split()[:1] == ["2"])
        at = rs.inspect(files.stream).tiles[2].offset + 100
        assert f"bit 2 of byte {at} would explain it" in text

    def test_json(self, run: Run, files: Files) -> None:
        done = run("inspect", files.stream, files.lost, "--json")
        assert (done.code, done.err) == (2, "")
        documents = [json.loads(line) for line in done.out.splitlines()]
        paths = (files.stream, files.lost)
        assert documents == [{"file": str(path)} | rs.inspect(path).to_json() for path in paths]

    def test_json_has_a_line_for_each_file(self, run: Run, files: Files, tmp_path: Path) -> None:
        """What cannot be read has one as well, so that lines and files never shift."""
        paths = [tmp_path / "none.robs", files.stream, files.photo, tmp_path, Path("-"), files.lost]
        done = run("inspect", *paths, "--json")
        assert done.code == 2
        documents = [json.loads(line) for line in done.out.splitlines()]
        assert [document["file"] for document in documents] == list(map(str, paths))
        assert ["error" in document for document in documents] == [True, False, True, True, True, False]
        found = [(doc["error"]["kind"], doc["error"]["exit_code"]) for doc in documents if "error" in doc]
        assert found == [("UsageError", 1), ("NotARobustStream", 2), ("UsageError", 1), ("NotARobustStream", 2)]
        said = [line.removeprefix("robuststream: error: ") for line in done.err.splitlines()]
        assert said == [document["error"]["message"] for document in documents if "error" in document]

    def test_a_bug_has_a_line_in_json_too(self, run: Run, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        from robuststream.cli import inspect

        def broken(data: bytes, **_: int) -> None:
            raise KeyError("why")

        monkeypatch.setattr(inspect, "read_stream", broken)
        done = run("inspect", files.stream, "--json")
        assert done.code == 3
        assert json.loads(done.out)["error"] == {"kind": "KeyError", "message": "'why'", "exit_code": 3}

    def test_json_follows_its_schema(self, run: Run, files: Files, tmp_path: Path) -> None:
        policy = tmp_path / "policy.toml"
        policy.write_text("min_parity = 0.1")
        schema = json.loads((Path(__file__).parents[2] / "spec" / "report.schema.json").read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        assert set(schema["$defs"]["finding"]["properties"]["rule"]["enum"]) == {rule.value for rule in Rule}
        for more in ((), ("-v", "--policy", policy)):
            paths = (files.stream, files.lost, files.gap, files.flipped, files.photo, tmp_path / "none")
            lines = run("inspect", *paths, "--json", *more).out.splitlines()
            assert len(lines) == len(paths)
            for line in lines:
                jsonschema.validate(json.loads(line), schema)
        jsonschema.validate(rs.inspect(files.stream).to_json(), schema)
        for wrong in ({"file": "a", "schema": 1}, json.loads(lines[0]) | {"error": json.loads(lines[-1])["error"]}):
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(wrong, schema)

    def test_standard_input(self, run: Run, files: Files) -> None:
        done = run("inspect", "-", stdin=files.stream.read_bytes())
        assert done.code == 0
        assert done.out.startswith(b"standard input: intact")

    def test_many_findings_are_cut(self, run: Run, tmp_path: Path) -> None:
        _, _, data = sample_stream()
        head = read_stream(data).report.tiles[0].offset
        path = tmp_path / "a.robs"
        path.write_bytes((data[:head] + b"junk") * 30 + data)
        done = run("inspect", path)
        assert done.code == 2
        assert b"more findings (--json lists them)" in done.out
        assert done.out.count(b"ROBS-") == 20

    def test_names_in_a_stream_are_not_obeyed(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "a.robs"
        path.write_bytes(sample_stream(sample_header(model_name="\x1b[31m[bold]:smile:\n"))[2])
        done = run("inspect", path)
        assert done.code == 0
        assert b"\x1b" not in done.out
        assert b"[bold]:smile:" in done.out


class TestManyFiles:
    """Of many files a line each."""

    def test_a_line_each(self, run: Run, files: Files) -> None:
        done = run("inspect", files.stream, files.lost, files.gap)
        assert (done.code, done.err) == (2, "")
        whole, lost, gap = done.out.decode().splitlines()
        size = files.stream.stat().st_size
        assert whole.startswith(f"{files.stream}: intact, 170 x 100 RGB, 6 tiles, {size} bytes, ")
        assert whole.endswith(" bit per pixel, mode exact, no parity")
        assert lost.startswith(f"{files.lost}: DAMAGED, 1 finding, 170 x 100 RGB, 5 of 6 tiles, ")
        assert gap.startswith(f"{files.gap}: DAMAGED, 1 finding, 170 x 100 RGB, 6 tiles, ")

    def test_folders_and_patterns(self, run: Run, files: Files, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        for name in ("b.robs", "a.robs", "in/c.robs", "d[1].robs", "readme.txt"):
            (tmp_path / name).write_bytes(files.stream.read_bytes())

        def names(*arguments: object) -> list[str]:
            done = run("inspect", *arguments)
            assert (done.code, done.err) == (0, "")
            return [line.partition(": ")[0].rpartition("/")[2] for line in done.out.decode().splitlines()]

        assert names(tmp_path) == ["a.robs", "b.robs", "d[1].robs", "c.robs"]
        assert names(tmp_path / "[ab].robs") == ["a.robs", "b.robs"]
        assert names(tmp_path / "**" / "c.*", tmp_path / "a.robs") == ["c.robs", "a.robs"]
        # A file of just this name is no pattern.
        assert names(tmp_path / "d[1].robs", tmp_path / "b.robs") == ["d[1].robs", "b.robs"]

    def test_what_gives_no_file_is_said_and_the_rest_is_done(self, run: Run, files: Files, tmp_path: Path) -> None:
        done = run("inspect", tmp_path, tmp_path / "*.robs", files.stream)
        assert done.code == 1
        folder, pattern = done.err.splitlines()
        assert f"{tmp_path}: no *.robs file is in this folder" in folder
        assert f"{tmp_path / '*.robs'}: cannot be read" in pattern
        assert done.out.startswith(f"{files.stream}: intact".encode())

    def test_one_that_is_no_stream(self, run: Run, files: Files) -> None:
        done = run("inspect", files.photo, files.stream)
        assert done.code == 2
        assert f"{files.photo}: no robuststream packet" in done.error
        assert len(done.out.splitlines()) == 1

    @pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal to play")
    def test_a_bar_at_a_terminal_and_the_lines_where_they_were_sent(self, files: Files) -> None:
        import pty

        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "robuststream", "inspect", str(files.stream), str(files.gap)]
        environment = {**os.environ, "TERM": "xterm"}
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, check=False)
        shown = os.read(ours, 1 << 16)
        os.close(ours)
        os.close(theirs)
        assert done.returncode == 2
        assert [line.partition(b", ")[0] for line in done.stdout.splitlines()] == [
            f"{files.stream}: intact".encode(),
            f"{files.gap}: DAMAGED".encode(),
        ]
        assert b"%" in shown
        assert b"DAMAGED" not in shown


class TestViews:
    """What options add; tests/views looks into each."""

    def test_tree_and_bytes(self, run: Run, files: Files) -> None:
        done = run("inspect", "-v", "--hex", files.flipped)
        assert (done.code, done.err) == (2, "")
        text = done.out.decode()
        tile = rs.inspect(files.flipped).tiles[2]
        rows = [line.split() for line in text.splitlines()]
        assert [str(tile.offset), str(tile.size), "TILE", "2,", "DAMAGED"] in rows
        assert "tag 1, picture size" in text
        assert "flipped bit" in text
        assert text.splitlines()[0].endswith(": DAMAGED, 1 finding(s)")

    def test_parts_in_json(self, run: Run, files: Files) -> None:
        data = files.gap.read_bytes()
        document = json.loads(run("inspect", "-v", "--json", files.gap).out)
        assert {key: document[key] for key in rs.inspect(files.gap).to_json()} == rs.inspect(files.gap).to_json()
        assert [part["start"] for part in document["parts"][1:]] == [part["end"] for part in document["parts"][:-1]]
        last = document["parts"][-1]
        assert (last["kind"], last["state"], last["end"], last["fields"]) == ("gap", "gap", len(data), [])
        assert document["parts_left_out"] == 0

    def test_policy(self, run: Run, files: Files, tmp_path: Path) -> None:
        policy = tmp_path / "policy.toml"
        policy.write_text('mode = "exact"\nmin_parity = 0.10\n')
        done = run("inspect", files.stream, files.stream, "--policy", policy)
        assert (done.code, done.err) == (2, "")
        lines = done.out.decode().splitlines()
        assert lines[1] == lines[3] == "  POLICY-MIN-PARITY: 0, and the policy has min_parity = 0.1"
        document = json.loads(run("inspect", files.stream, "--json", "--policy", policy).out)
        assert document["intact"]
        assert [violation["rule"] for violation in document["policy"]] == ["POLICY-MIN-PARITY"]
        policy.write_text('mode = "exact"')
        assert run("inspect", files.stream, "--policy", policy).code == 0
        policy.write_text("min_partiy = 1")
        done = run("inspect", files.stream, "--policy", policy)
        assert (done.code, done.out) == (1, b"")
        assert f"{policy}: 'min_partiy' is no demand this release knows: intact, mode" in done.error

    def test_map(self, run: Run, files: Files, tmp_path: Path) -> None:
        out = tmp_path / "map.png"
        assert run("inspect", files.lost, "--map", out).code == 2
        with Image.open(out) as picture:
            assert (picture.format, picture.mode) == ("PNG", "RGB")
        done = run("inspect", files.lost, "--map", out)
        assert done.code == 1
        assert "use --force" in done.error
        assert run("inspect", files.stream, "--map", out, "--force").code == 0
        done = run("inspect", files.stream, files.lost, "--map", out, "--force")
        assert done.code == 1
        assert "one input at a time" in done.error

    def test_page(self, run: Run, files: Files, tmp_path: Path) -> None:
        out = tmp_path / "page.html"
        done = run("inspect", files.lost, "--html", out, "--model", files.model)
        assert (done.code, done.err) == (2, "")
        page = out.read_text()
        assert "data:image/jpeg;base64," in page
        assert "ROBS-TILE-MISSING" in page
        assert str(files.folder) not in page


class TestVerify:
    def test_container(self, run: Run, files: Files) -> None:
        done = run("verify", files.stream)
        assert (done.code, done.err) == (0, "")
        assert done.out.decode().startswith(f"{files.stream}: ok, ")

    @pytest.mark.parametrize("options", [[], ["--decode"]])
    def test_damage(self, options: list[str], run: Run, files: Files) -> None:
        done = run("verify", files.stream, files.gap, files.lost, *options)
        assert (done.code, done.err) == (2, "")
        whole, gap, gap_finding, lost, lost_finding = done.out.decode().splitlines()
        assert whole.startswith(f"{files.stream}: ok, ")
        assert gap.startswith(f"{files.gap}: damaged, 1 finding ")
        assert gap_finding.startswith("  ROBS-GAP")
        assert lost.startswith(f"{files.lost}: damaged, 1 finding ")
        assert lost_finding.startswith("  ROBS-TILE-MISSING")

    def test_a_flipped_bit(self, run: Run, files: Files) -> None:
        assert b"damaged, 1 finding (" in run("verify", files.flipped).out
        done = run("verify", files.flipped, "--decode")
        assert (done.code, done.err) == (2, "")
        verdict, found, corrected = done.out.decode().splitlines()
        assert "damaged, 2 findings, 1 of its tiles repaired" in verdict
        assert found.startswith("  ROBS-TILE-CRC, tile 2")
        assert corrected.startswith("  ROBS-CORRECTED, tile 2")

    def test_decode_sees_what_the_container_cannot(self, run: Run, files: Files, tmp_path: Path) -> None:
        """Tiles with a digest their parameters do not have: every checksum holds, the decode disagrees."""
        from robuststream.container.writer import write_stream

        stream = read_stream(files.stream.read_bytes())
        tiles = [replace(tile, digest=tile.digest ^ (tile.index == 2)) for tile in stream.tiles.values()]
        path = tmp_path / "a.robs"
        path.write_bytes(write_stream(stream.header, tiles))
        assert run("verify", path).code == 0
        done = run("verify", path, "--decode", "--model", files.model)
        assert done.code == 2
        assert b"ROBS-CONTEXT-DESYNC, tile 2" in done.out
        assert run("verify", files.stream, "--decode", "--model", files.model).code == 0


@pytest.mark.parametrize("command", ["inspect", "verify", "damage", "--help", "encode"])
def test_imports_nothing_heavy(command: str, files: Files, tmp_path: Path) -> None:
    heavy = {"torch", "numba", "PIL", "compressai", "safetensors", "rich", "typer", "pydantic"}
    options: list[str] = []
    if command in ("--help", "encode"):
        options = ["--help"]
    if command == "damage":
        options = [str(files.stream), str(tmp_path / "out.robs"), "--seed", "1", "--drop-tiles", "1"]
    else:
        heavy.add("numpy")
    code = (
        "import sys; from robuststream.cli import main; code = main(sys.argv[1:]);"
        f"found = {heavy!r} & set(sys.modules); sys.exit(f'imported: {{found}}' if found else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, command, *(options or [str(files.stream)])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_has_seen_enough(files: Files) -> None:
    command = [sys.executable, "-m", "robuststream", "inspect", "-v", *[str(files.stream)] * 40]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_stream_of_tiles_nobody_can_list(run: Run, tmp_path: Path) -> None:
    header = sample_header(width=1 << 31, height=1 << 31, tile=1)
    path = tmp_path / "a.robs"
    path.write_bytes(build_packet(Kind.HEADER, b"abcd", 0, build_header(header)))
    done = run("inspect", path)
    assert (done.code, done.err) == (2, "")
    assert f"{1 << 62} more tiles are missing".encode() in done.out
