"""robuststream.ksy, compiled, reads from the vectors what the package reads."""

from __future__ import annotations

import importlib.util
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import construct as c
import pytest

from robuststream.container import layout, parity
from robuststream.container.packets import Header, Kind, Packet
from robuststream.container.scanner import scan
from tests.helpers import METADATA, TILE

ROOT = Path(__file__).parents[2]
# Not resolved: the interpreter in .venv may be a link to one elsewhere.
PACKAGES = Path(sys.prefix) / "kaitai" / "node_modules"
FIELDS = ("mode", "colour", "z_checkpoint", "quality", "parity", "checkpoints", "metadata_packets")


def whole_packets(path: Path) -> list[Packet]:
    """The packets of a stream that is nothing but intact packets and begins with a HEADER; else none."""
    events = list(scan(path.read_bytes()))
    packets = [event for event in events if isinstance(event, Packet)]
    return packets if len(packets) == len(events) and packets[0].kind == Kind.HEADER else []


VECTORS = {path.stem: path for path in sorted((ROOT / "spec/vectors").glob("*-*.robs"))}
# Their HEADER, or the description in their PARITY, breaks the rules: there is nothing to compare with.
REFUSED = ("bad-no-size", "bad-tags", "bad-varint", "bad-many-checkpoints", "bad-wide-description")
NAMES = [
    name
    for name, path in VECTORS.items()
    if name.startswith("good-") or (name.startswith("bad-") and name not in REFUSED and whole_packets(path))
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    pytest.importorskip("kaitaistruct")
    node = shutil.which("node")
    if node is None or not all((PACKAGES / name).is_dir() for name in ("kaitai-struct-compiler", "js-yaml")):
        pytest.skip("no kaitai-struct-compiler: `make kaitai` installs it where npm is")
    folder = tmp_path_factory.mktemp("kaitai")
    command = [node, str(Path(__file__).with_name("compile_ksy.js")), str(ROOT / "spec/robuststream.ksy"), str(folder)]
    done = subprocess.run(command, env={**os.environ, "NODE_PATH": str(PACKAGES)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    spec = importlib.util.spec_from_file_location("kaitai_robuststream", folder / "robuststream.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_header(header: Header, read: Any) -> None:
    assert (read.major, read.minor) == header.version
    assert {name: getattr(read, name) for name in FIELDS} == {name: getattr(header, name) for name in FIELDS}
    content = {field.tag.value: field.content for field in read.fields}
    assert (content[1].width.value, content[1].height.value) == (header.width, header.height)
    assert content[3].value.value == header.tile
    assert (content[5].value, content[7].value) == (header.parameters_digest, header.synthesis_digest)
    assert (content[2].utf8.decode() if 2 in content else "") == header.model_name


def check_tile(header: Header, payload: bytes, read: Any) -> None:
    tile = TILE.parse(payload, **vars(header))
    assert (read.context_digest, read.sums, read.words) == (tile.digest, list(tile.sums), payload[tile.size :])
    assert (read.earlier if header.mode else None) == (None if tile.earlier is None else list(tile.earlier))
    if header.z_checkpoint:
        assert (read.seam.value, read.crc) == (tile.checkpoint.z_words, tile.checkpoint.crc)


def check_metadata(payload: bytes, read: Any) -> None:
    fields = METADATA.parse(payload)
    assert (read.type.value, read.part.value, read.parts.value) == (fields.type, fields.part, fields.parts)
    assert read.data == fields.data


def check_parity(number: int, payload: bytes, read: Any) -> None:
    block = parity.parse_description(payload)
    assert block is not None
    described = (read.metadata, read.first, read.symbol_size, read.repair_symbols, read.number, read.packets)
    assert [field.value for field in described] == [
        *(block.metadata, block.first, block.symbol, block.repair, block.number, block.packets)
    ]
    assert tuple(size.size.value for size in read.sizes) == block.sizes
    assert struct.pack("<I", read.description_crc) == block.description[-4:]
    assert tuple(read.sums) == parity.source_sums(block, payload)
    symbols = [symbol for _, symbol in parity.repair_symbols(block, number, payload)]
    assert [symbol.data for symbol in read.symbols] == symbols


@pytest.mark.parametrize("name", NAMES)
def test_reads_what_the_package_reads(name: str, compiled: ModuleType) -> None:
    data = VECTORS[name].read_bytes()
    packets = whole_packets(VECTORS[name])
    read = compiled.Robuststream.from_bytes(data)
    assert len(read.packets) == len(packets) > 0
    header = layout.parse_header(packets[0].payload)
    for packet, found in zip(packets, read.packets, strict=True):
        assert (int(found.kind), found.stream_id, found.number.value, found.length.value) == (
            *(packet.kind, packet.stream_id, packet.number, len(packet.payload)),
        )
        raw = data[packet.offset : packet.offset + packet.size]
        head = len(raw) - len(packet.payload) - 4
        assert struct.pack("<H", found.crc16) == raw[head - 2 : head]
        assert struct.pack("<I", found.crc32c) == raw[-4:]
        try:
            if packet.kind == Kind.HEADER:
                check_header(layout.parse_header(packet.payload), found.payload)
            elif packet.kind == Kind.TILE:
                check_tile(header, packet.payload, found.payload)
            elif packet.kind == Kind.INDEX:
                distances = layout.INDEX.parse(packet.payload)
                assert [distance.value for distance in found.payload.distances] == list(distances)
            elif packet.kind == Kind.METADATA:
                check_metadata(packet.payload, found.payload)
            elif packet.kind == Kind.PARITY:
                check_parity(packet.number, packet.payload, found.payload)
        except c.ConstructError:
            assert name.startswith("bad-")
