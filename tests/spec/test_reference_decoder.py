"""The reference decoder, written from spec/ alone, against the package: the same latents, outcomes and refusals."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

import robuststream as rs
from robuststream import faults
from robuststream.container.report import Outcome, Rule
from robuststream.model.anatomy import ARCHITECTURES
from robuststream.picture.grid import Grid
from robuststream.testing import Damage, damage, streams
from robuststream.transfers.reading import read_stream
from tests.small import model, picture

sys.path.insert(0, str(Path(__file__).parents[2] / "spec"))

import reference_decoder as reference

#: Decided alike by both; the reference decoder looks for no others.
RULES = {
    Rule.TILE_CRC,
    Rule.TILE_FORMAT,
    Rule.TILE_CONFLICT,
    Rule.HEADER_CONFLICT,
    Rule.STREAM_ID,
    Rule.DESYNC,
    Rule.ENTROPY,
}


@lru_cache
def read(architecture: str) -> reference.Model:
    return reference.load_model(model(architecture).to_bytes())


@lru_cache
def encoded(architecture: str = "mbt2018-mean", height: int = 100, width: int = 130, **more: object) -> bytes:
    return rs.encode(picture(height, width), model(architecture), tile=64, **more)


def agree(data: bytes, frozen: rs.Model, theirs: reference.Model) -> None:
    """Both refuse, or both give each tile one outcome and one set of latents, but where the package put bits right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.DamageWarning)
        try:
            ours = rs.decode(data, frozen)
        except rs.RobustStreamError:
            ours = None
    try:
        stream, latents = reference.decode(data, theirs)
    except reference.Refusal:
        # A header from flipped bits, or nothing but tiles from them, is what the reference decoder does not try.
        assert ours is None or Rule.CORRECTED in {finding.rule for finding in ours.report.findings}
        return
    assert ours is not None
    header = ours.report.header
    grid = Grid.of(header, frozen.latent_stride, frozen.factor)
    for tile in ours.report.tiles:
        outcome = stream.outcomes.get(tile.index, "missing")
        if tile.outcome == Outcome.REPAIRED or tile.correctable:
            assert outcome in ("concealed", "missing")
            continue
        assert outcome == tile.outcome.value
        if outcome != "missing":
            place = (slice(None), *grid.latent_box(tile.index).slices())
            assert np.array_equal(latents[place], ours.latents.numpy()[place])
    # Where bits were put right the package has another finding, or none.
    corrected = {finding.tile for finding in ours.report.findings if finding.rule == Rule.CORRECTED}
    found = {(finding.rule.value, finding.tile) for finding in ours.report.findings if finding.rule in RULES}
    assert {(rule, tile) for rule, tile in stream.findings if tile not in corrected} == {
        (rule, tile) for rule, tile in found if tile not in corrected
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture(architecture: str) -> None:
    """Latents equal at every place, and pixels within 1/255; odd sizes, several tiles, the last ones small."""
    data = encoded(architecture)
    ours = rs.decode(data, model(architecture), strict=True)
    stream, latents = reference.decode(data, read(architecture))
    assert latents.dtype == np.int32
    assert np.array_equal(latents, ours.latents.numpy())
    assert not stream.findings
    assert list(stream.outcomes.values()) == ["exact"] * stream.header.tiles
    difference = reference.picture(stream.header, latents, read(architecture)).astype(int) - np.asarray(ours.image)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("quality", range(8))
def test_every_quality(quality: int) -> None:
    for architecture in ("bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr", "mbt2018-vbr"):
        agree(encoded(architecture, 40, 70, quality=quality), model(architecture), read(architecture))


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (63, 65), (64, 64)])
def test_sizes(size: tuple[int, int]) -> None:
    for architecture in ("bmshj2018-factorized", "mbt2018", "cheng2020-anchor-checkerboard"):
        agree(encoded(architecture, *size), model(architecture), read(architecture))


def test_grey_and_metadata() -> None:
    image = Image.fromarray(picture(50, 70)[..., 0])
    image.info["icc_profile"], image.info["exif"] = b"\1\2\3" * 9000, b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"
    data = rs.encode(image, model())
    ours = rs.decode(data, model(), strict=True)
    stream, latents = reference.decode(data, read("mbt2018-mean"))
    grey = reference.picture(stream.header, latents, read("mbt2018-mean"))
    assert grey.shape == (50, 70)
    assert np.abs(grey.astype(int) - np.asarray(ours.image)).max() <= 1
    assert stream.metadata[1] == ours.image.info["icc_profile"] == image.info["icc_profile"]
    assert b"Exif\0\0" + stream.metadata[2] == ours.image.info["exif"]


def test_bundled_model() -> None:
    frozen = rs.load_model()
    theirs = reference.load_model(frozen.to_bytes())
    data = rs.encode(picture(130, 140), frozen, tile=128)
    ours = rs.decode(data, frozen, strict=True)
    stream, latents = reference.decode(data, theirs)
    assert np.array_equal(latents, ours.latents.numpy())
    pixels = reference.picture(stream.header, latents, theirs)
    assert np.abs(pixels.astype(int) - np.asarray(ours.image)).max() <= 1


@settings(max_examples=30)
@given(damage())
def test_damage(hurt: Damage) -> None:
    for architecture in ("mbt2018-mean", "bmshj2018-factorized"):
        agree(hurt(encoded(architecture)), model(architecture), read(architecture))


@given(streams(), damage())
def test_container_of_any_stream(data: bytes, hurt: Damage) -> None:
    """No model: header, tiles, salvaged z and metadata of toy streams."""
    for stream in (data, hurt(data)):
        try:
            theirs = reference.read_stream(stream)
        except reference.Refusal:
            continue
        ours = read_stream(stream)
        assert ours.header.tiles == theirs.header.tiles
        assert {index: tile.words for index, tile in ours.tiles.items()} == {
            index: tile.words for index, tile in theirs.tiles.items()
        }
        # A packet header with a flipped bit is put right by the package alone.
        assert ours.salvaged.keys() - ours.candidates.keys() <= theirs.salvaged.keys() <= ours.salvaged.keys()
        for index, tile in theirs.salvaged.items():
            assert ours.salvaged[index].words == tile.words
        if Rule.CORRECTED not in {finding.rule for finding in ours.report.findings}:
            metadata = {1: ours.metadata.icc, 2: ours.metadata.exif, 3: ours.metadata.xmp}
            assert {kind: block for kind, block in metadata.items() if block is not None} == theirs.metadata


def test_damaged_context_model() -> None:
    for seed in range(6):
        for hurt in (
            faults.flip_bits(encoded("mbt2018"), seed=seed, count=9),
            faults.drop_tiles(encoded("mbt2018"), seed=seed, count=2),
        ):
            agree(hurt, model("mbt2018"), read("mbt2018"))


def test_another_model_and_native_mode_are_refused() -> None:
    with pytest.raises(reference.Refusal, match="§5, tag 5"):
        reference.decode(encoded(), read("mbt2018"))
    with pytest.raises(reference.Refusal, match="§16"):
        reference.decode(encoded(mode="native"), read("mbt2018-mean"))


@pytest.mark.parametrize("place", [0, 4, 300, -1, -4000])
def test_damaged_model_is_refused(place: int) -> None:
    data = bytearray(model().to_bytes())
    data[place] ^= 4
    try:
        reference.load_model(bytes(data))
    except reference.Refusal:
        return
    # g_a and h_a enter no digest: a decoder needs neither.
    assert rs.Model.from_bytes(bytes(data)).parameters_digest == model().parameters_digest


def test_hostile_scan_is_linear() -> None:
    """Packet headers that each declare 2^20 bytes, one inside the other: no byte is summed twice."""
    fields = b"T" + bytes(4) + b"\0" + b"\x80\x80\x40"
    header = reference.SYNC + fields + reference.crc16(fields).to_bytes(2, "little")
    found = reference.scan(header * 2000 + bytes(1 << 20))
    assert len(found) == 2000
    assert not any(packet.intact for packet in found)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, reference.__file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_command_line(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(model().to_bytes())
    (tmp_path / "s.robs").write_bytes(encoded())
    (tmp_path / "cut.robs").write_bytes(faults.drop_tiles(encoded(), tiles=[1]))
    (tmp_path / "none.robs").write_bytes(b"nothing")
    ours = rs.decode(encoded(), model())
    done = run(tmp_path / "m.safetensors", tmp_path / "s.robs", tmp_path / "o.npy")
    assert (done.returncode, done.stdout) == (0, "6 exact, 0 unproven, 0 concealed of 6 tiles\n")
    assert np.array_equal(np.load(tmp_path / "o.npy"), ours.latents.numpy())
    done = run(tmp_path / "m.safetensors", tmp_path / "cut.robs", tmp_path / "o.ppm")
    assert done.returncode == 1
    assert Image.open(tmp_path / "o.ppm").size == (130, 100)
    for arguments in (("m.safetensors", "none.robs", "x.npy"), ("s.robs", "s.robs", "x.npy"), ("m.safetensors",)):
        done = run(*(tmp_path / name for name in arguments))
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert not (tmp_path / "x.npy").exists()


def test_stands_alone_and_is_short() -> None:
    text = Path(reference.__file__).read_text()
    names = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names - set(sys.stdlib_module_names) == {"numpy"}
    assert len(text.splitlines()) <= 1000
