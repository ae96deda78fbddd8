"""`inspect` and `verify`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

import robuststream as rs
from robuststream.container.layout import build_header, build_packet
from robuststream.container.packets import Kind
from robuststream.container.reader import read_stream
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
        done = run("inspect", files.lost, files.gap)
        assert (done.code, done.err) == (2, "")
        text = done.out.decode()
        assert "ROBS-TILE-MISSING, tile 4: no packet of this tile was found" in text
        assert ["4", "1", "1", "-", "-", "missing"] in [line.split() for line in text.splitlines()]
        assert "ROBS-GAP, bytes" in text

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
        assert documents == [rs.inspect(path).to_json() for path in (files.stream, files.lost)]

    def test_json_follows_its_schema(self, run: Run, files: Files) -> None:
        schema = json.loads((Path(__file__).parents[2] / "spec" / "report.schema.json").read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        for line in run("inspect", files.stream, files.lost, files.gap, files.flipped, "--json").out.splitlines():
            jsonschema.validate(json.loads(line), schema)

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


@pytest.mark.parametrize("command", ["inspect", "verify", "damage"])
def test_imports_nothing_heavy(command: str, files: Files, tmp_path: Path) -> None:
    heavy = {"torch", "numba", "PIL", "compressai", "safetensors", "rich.progress"}
    options: list[str] = []
    if command == "damage":
        options = [str(tmp_path / "out.robs"), "--seed", "1", "--drop-tiles", "1"]
    else:
        heavy.add("numpy")
    code = (
        "import sys; from robuststream.cli import main; code = main(sys.argv[1:]);"
        f"found = {heavy!r} & set(sys.modules); sys.exit(f'imported: {{found}}' if found else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, command, str(files.stream), *options], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_has_seen_enough(files: Files) -> None:
    command = [sys.executable, "-m", "robuststream", "inspect", *[str(files.stream)] * 40]
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
