"""Packed units: what goes in comes out, whatever happens to one is told, and no bytes exhaust a reader."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

import robuststream as rs
from robuststream.compressai.packing import model_digest, pack, unpack
from robuststream.container.layout import MAX_PAYLOAD
from robuststream.container.packets import Kind, Packet, is_critical
from robuststream.container.scanner import scan
from tests.helpers import memory_below, packet, sample_stream, varint
from tests.small import net, picture

#: Every form of `shape` and of `strings`.
ARCHITECTURES = [
    "bmshj2018-factorized",
    "bmshj2018-hyperprior",
    "mbt2018-mean",
    "mbt2018",
    "cheng2020-anchor-checkerboard",
    "elic2022-official",
]


class Toy(nn.Module):
    """The module of the example in spec/packed.md."""

    def __init__(
        self, values: Sequence[int] = (-1, 2), name: str = "_offset", dtype: torch.dtype = torch.int32
    ) -> None:
        super().__init__()
        self.register_buffer(name, torch.tensor(values, dtype=dtype))


TOY = Toy()
OUT = {"strings": [[b"\x01\x02"], [b""]], "shape": torch.Size([4, 300])}
DATA = pack(OUT, TOY)


def head(version: int = 1, name: bytes = b"Toy") -> bytes:
    return bytes((version,)) + model_digest(TOY) + varint(len(name)) + name


def forged(content: bytes, digest: bytes | None = None, identity: bytes | None = None) -> bytes:
    """The file of any content, with all its checksums right unless told otherwise: written without the package."""
    content += hashlib.sha256(content).digest()[:16] if digest is None else digest
    identity = content[-16:][:4] if identity is None else identity
    payloads = [content[at : at + MAX_PAYLOAD] for at in range(0, len(content) + 1, MAX_PAYLOAD)]
    return b"".join(packet(ord("U"), identity, number, payload) for number, payload in enumerate(payloads))


def same(one: Any, other: Any) -> bool:
    """Equal in values, types, and the order of dicts."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


# --- Round trips ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_compressai_returned(architecture: str) -> None:
    module = net(architecture)
    x = torch.from_numpy(np.stack([picture(64, 128, seed) for seed in range(2)])).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        out = module.compress(x)
        data = pack(out, module)
        again = unpack(data, module)
        assert same(again, {"strings": out["strings"], "shape": out["shape"]})
        assert torch.equal(
            module.decompress(**again)["x_hat"], module.decompress(out["strings"], out["shape"])["x_hat"]
        )
    assert pack(out, module) == pack(again, module) == data
    strings = [string for strings in out["strings"] for string in strings]
    assert len(data) - sum(map(len, strings)) < 150 + 4 * len(strings)


_keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
_sizes = st.lists(st.integers(0, (1 << 32) - 1), max_size=4).map(torch.Size)


def trees(leaves: st.SearchStrategy[Any], depth: int = 4) -> st.SearchStrategy[Any]:
    for _ in range(depth):
        inner = st.lists(leaves, max_size=3)
        leaves = leaves | inner | inner.map(tuple) | st.dictionaries(_keys, leaves, max_size=3)
    return leaves


OUTS = st.fixed_dictionaries(
    {"strings": trees(st.binary(max_size=9)), "shape": trees(st.integers(0, (1 << 32) - 1)) | trees(_sizes, 3)}
)


@given(OUTS)
@example({"strings": {"b": (), "a": []}, "shape": {"y": [torch.Size([2, 4]), torch.Size([])], "hyper": (1,)}})
def test_any_trees(out: dict[str, Any]) -> None:
    data = pack(out, TOY)
    again = unpack(data, TOY)
    assert same(again["strings"], out["strings"])
    assert same(again["shape"], out["shape"])
    assert pack(again, TOY) == data


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_of_any_type(kind: Any) -> None:
    assert same(unpack(kind(DATA)), OUT)


@pytest.mark.parametrize("beyond", [-1, 0, 1, MAX_PAYLOAD])
def test_units_of_several_packets(beyond: int) -> None:
    """Around the size that fills packets: the last is always shorter, so the end is known."""
    overhead = len(forged(head() + b"\x01\x00\x00" + varint(MAX_PAYLOAD))) - len(packet(ord("U"), bytes(4), 0, b""))
    string = np.random.default_rng(1).bytes(MAX_PAYLOAD - overhead + beyond)
    data = pack({"strings": string, "shape": 0}, TOY)
    packets = [event for event in scan(data) if isinstance(event, Packet)]
    assert [len(item.payload) for item in packets] == {
        -1: [MAX_PAYLOAD - 1],
        0: [MAX_PAYLOAD, 0],
        1: [MAX_PAYLOAD, 1],
        MAX_PAYLOAD: [MAX_PAYLOAD, MAX_PAYLOAD, 0],
    }[beyond]
    assert unpack(data, TOY) == {"strings": string, "shape": 0}


def test_the_example_in_the_specification() -> None:
    text = Path("spec/packed.md").read_text().split("## 6. Example")[1]
    lines = re.findall(r"^ +\d+ +(\d+)  ((?:[0-9a-f]{2} )*[0-9a-f]{2})", text, re.MULTILINE)
    assert all(len(bytes.fromhex(line)) == int(size) for size, line in lines)
    assert b"".join(bytes.fromhex(line) for _, line in lines) == DATA
    hashed = bytes.fromhex(text.split("digest is over")[1])
    assert hashlib.sha256(hashed).digest()[:16] == model_digest(TOY)


def test_written_without_the_package() -> None:
    content = head() + b"\x04\x02\x04" + varint(300) + b"\x02\x02\x02\x01\x00\x02\x01\x02\x02\x01\x00\x00"
    assert forged(content) == DATA


# --- Damage --------------------------------------------------------------------------------------------------------


def refused(data: bytes) -> None:
    with pytest.raises((rs.NotARobustStream, rs.DamagedStream)):
        unpack(data, TOY)


def test_every_flipped_bit_is_told() -> None:
    for position in range(8 * len(DATA)):
        data = bytearray(DATA)
        data[position // 8] ^= 1 << position % 8
        refused(bytes(data))


def test_every_overwritten_byte_is_told() -> None:
    for at in range(len(DATA)):
        for value in set(range(256)) - {DATA[at]}:
            refused(DATA[:at] + bytes((value,)) + DATA[at + 1 :])


def test_every_truncation_is_told() -> None:
    for size in range(len(DATA)):
        refused(DATA[:size])
        refused(DATA[len(DATA) - size :])


def test_every_removed_or_added_byte_is_told() -> None:
    for at in range(len(DATA) + 1):
        refused(DATA[:at] + b"\x00" + DATA[at:])
        refused(DATA[:at] + DATA[at : at + 1] * 2 + DATA[at + 1 :] if at < len(DATA) else DATA + DATA)
        refused(DATA[:at] + DATA[at + 1 :] if at < len(DATA) else DATA + b"\xb7")


@given(st.binary(max_size=200))
def test_any_bytes_at_all(data: bytes) -> None:
    refused(data)


def two_packets(letter: bytes) -> tuple[bytes, bytes]:
    data = pack({"strings": letter * MAX_PAYLOAD, "shape": 0}, TOY)
    first, second = [event for event in scan(data) if isinstance(event, Packet)]
    assert second.offset == first.size
    return data[: first.size], data[second.offset :]


def test_packets_missing_moved_repeated_or_exchanged() -> None:
    (a, b), (c, d) = two_packets(b"a"), two_packets(b"b")
    assert unpack(a + b)["strings"] == b"a" * MAX_PAYLOAD
    for data, message in {
        a: f"packet 1 of the unit is missing: the input ends at byte {len(a)}",
        b: "the packet at byte 0 has number 1, where number 0 is due",
        b + a: "the packet at byte 0 has number 1",
        a + a: f"the packet at byte {len(a)} has number 0, where number 1 is due",
        a + d: f"the packet at byte {len(a)} is of unit [0-9a-f]{{8}}, not [0-9a-f]{{8}} as those before",
        a + b + b: f"the packet at byte {len(a + b)} stands behind the unit's end: a packed unit stands alone",
        a + b + c + d: "stands behind the unit's end",
        a[:-1] + b: r"packet 0 \(UNIT\) at byte 0: its CRC-32C fails",
        b"\xb7RS" * 2000 + (a[:-1] + b): r"packet 0 \(UNIT\) at byte 6000: its CRC-32C fails",
        a + b[:-1]: f"packet 1 \\(UNIT\\) at byte {len(a)}: the input ends inside it",
        a + b"junk" + b: f"bytes {len(a)} to {len(a) + 4} are no intact packet",
    }.items():
        with pytest.raises(rs.DamagedStream, match=message):
            unpack(data, TOY)


def test_packets_of_two_units_with_one_id() -> None:
    """The packets' checksums hold, the hash does not."""
    (a, _), (c, d) = two_packets(b"a"), two_packets(b"b")
    forgery = packet(ord("U"), a[4:8], 1, d[13:-4])
    with pytest.raises(rs.DamagedStream, match=r"the SHA-256 at byte \d+ is not the unit's"):
        unpack(a + forgery)
    assert len(c) == len(a)


def test_other_files() -> None:
    with pytest.raises(rs.NotARobustStream, match="89 50 4e 47"):
        unpack(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(rs.NotARobustStream, match="empty"):
        unpack(b"")


# --- What belongs to whom ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [Toy((-1, 3)), Toy((-1, 2, 0)), Toy(name="_cdf"), Toy(dtype=torch.int64), nn.ReLU()])
def test_another_model(other: nn.Module) -> None:
    message = f"by a 'Toy' with state {model_digest(TOY).hex()}, this {type(other).__name__} has "
    with pytest.raises(rs.ModelMismatch, match=message):
        unpack(DATA, other)
    assert same(unpack(DATA), OUT)


def test_new_tables_are_another_model() -> None:
    module = net("bmshj2018-factorized")
    digest = model_digest(module)
    assert digest == model_digest(module)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.entropy_bottleneck._quantized_cdf[0, 1] += 1
    try:
        assert model_digest(module) != digest
    finally:
        module.load_state_dict(state)
    assert model_digest(module) == digest


def test_digest_of_any_types() -> None:
    """Empty tensors, scalars, strided ones, and types NumPy does not know."""
    module = nn.Module()
    values = {
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(True),
        "strided": torch.arange(6, dtype=torch.int16).reshape(2, 3).T,
        "wide": torch.tensor([1.0, -2.0], dtype=torch.bfloat16),
    }
    for name, value in values.items():
        module.register_buffer(name, value)
    hashed = (
        b'["empty","float32",[0,3]]\n'
        + (b'["scalar","bool",[]]\n' + b"\x01")
        + (b'["strided","int16",[3,2]]\n' + struct.pack("<6h", 0, 3, 1, 4, 2, 5))
        + (b'["wide","bfloat16",[2]]\n' + bytes.fromhex("803f 00c0"))
    )
    assert model_digest(module) == hashlib.sha256(hashed).digest()[:16]


def test_state_that_is_no_tensor() -> None:
    class Odd(nn.Module):
        def get_extra_state(self) -> Any:
            return {"a": 1}

        def set_extra_state(self, state: Any) -> None:
            pass

    with pytest.raises(rs.UnsupportedModel, match="'_extra_state' in the state of Odd"):
        pack(OUT, Odd())


def test_streams_and_units_name_each_other() -> None:
    assert is_critical(Kind.UNIT)
    stream = sample_stream()[2]
    with pytest.raises(rs.DamagedStream, match=r"a HEADER packet at byte 0: .* robuststream\.decode$"):
        unpack(stream)
    with pytest.raises(rs.DamagedStream, match=r"a TILE packet at byte \d+"):
        unpack(stream[len(stream) // 2 :])
    with pytest.raises(rs.DamagedStream, match="a HEADER packet at byte 70"):
        unpack(DATA + stream)
    for read in (rs.inspect, rs.decode, rs.verify):
        with pytest.raises(rs.DamagedStream, match=r"packed CompressAI unit .* robuststream\.compressai\.unpack$"):
            read(DATA)
    # A stream stays one, whatever stands behind it.
    assert [finding.rule for finding in rs.inspect(stream + DATA).findings] == ["ROBS-FOREIGN"]


# --- What cannot be packed -----------------------------------------------------------------------------------------

SHAPE = torch.Size([1])


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ([[b"a"]], TypeError, "the dict with 'strings' and 'shape'"),
        ({"strings": [[b"a"]]}, TypeError, "the dict with 'strings' and 'shape'"),
        ({"strings": [["a"]], "shape": SHAPE}, TypeError, "'strings' holds a str"),
        ({"strings": [[bytearray(b"a")]], "shape": SHAPE}, TypeError, "'strings' holds a bytearray"),
        ({"strings": [[1]], "shape": SHAPE}, TypeError, "'strings' holds a int"),
        ({"strings": [SHAPE], "shape": SHAPE}, TypeError, "'strings' holds a Size"),
        ({"strings": None, "shape": SHAPE}, TypeError, "'strings' holds a NoneType"),
        ({"strings": [], "shape": b"a"}, TypeError, "'shape' holds a bytes"),
        ({"strings": [], "shape": (True,)}, TypeError, "'shape' holds a bool"),
        ({"strings": [], "shape": (1.5,)}, TypeError, "'shape' holds a float"),
        ({"strings": [], "shape": torch.ones(2)}, TypeError, "'shape' holds a Tensor"),
        ({"strings": [], "shape": {1: SHAPE}}, TypeError, "a key that is a int"),
        ({"strings": [], "shape": (-1,)}, ValueError, "-1 cannot be packed"),
        ({"strings": [], "shape": (1 << 32,)}, ValueError, "4294967296 cannot be packed"),
        ({"strings": [], "shape": torch.Size([1 << 32])}, ValueError, "4294967296 cannot be packed"),
        ({"strings": [[[[[]]]]], "shape": SHAPE}, ValueError, "nested more than 4 deep"),
        ({"strings": [], "shape": [[[[SHAPE]]]]}, ValueError, "nested more than 4 deep"),
        ({"strings": [], "shape": {"\ud800": 1}}, ValueError, "surrogates not allowed"),
    ],
)
def test_what_is_no_output_of_compress(out: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        pack(out, TOY)


def test_a_value_that_holds_itself() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="nested more than 4 deep"):
        pack({"strings": endless, "shape": SHAPE}, TOY)


def test_a_long_name_is_cut_at_a_character() -> None:
    long = type("Ü" * 40, (nn.Module,), {})()
    content = pack(OUT, long)[12:]
    assert content[17:18] + content[18 : 18 + 64] == b"\x40" + "Ü".encode() * 32
    odd = type("x" + "Ü" * 40, (nn.Module,), {})()
    assert pack(OUT, odd)[12 + 17] == 63


# --- Files made by others ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x01", "16 bytes are declared, 0 are left"),
        (head()[:17] + b"\x41" + b"x" * 65 + b"\x01\x00\x02\x00", "65 bytes of text"),
        (head(name=b"\xff") + b"\x01\x00\x02\x00", "can't decode byte 0xff"),
        (head(), "1 bytes are declared, 0 are left"),
        (head() + b"\x01\x00", "1 bytes are declared, 0 are left"),
        (head() + b"\x01\x00\x02\x00\x00", "1 bytes are left over"),
        (head() + b"\x06\x00\x02\x00", "node 6 has no place here"),
        (head() + b"\x00\x00\x02\x00", "node 0 has no place here"),
        (head() + b"\x01\x00\x01\x00", "node 1 has no place here"),
        (head() + b"\x01\x00\x04\x00", "node 4 has no place here"),
        (head() + b"\x01\x80\x00\x02\x00", "varint"),
        (head() + b"\x01\x00\x02\x05\x02\x00", "5 elements in 2 bytes"),
        (head() + b"\x01\x00\x02\xff\xff\xff\xff\x0f", "4294967295 elements in 0 bytes"),
        (head() + b"\x04\xff\xff\xff\xff\x0f", "4294967295 elements in 0 bytes"),
        (head() + b"\x01\x00\x00\xff\xff\xff\xff\x0f", "4294967295 bytes are declared, 0 are left"),
        (head() + b"\x01\x00" + b"\x02\x01" * 4 + b"\x02\x00", "more than 4 nodes in one another"),
        (head() + b"\x01\x00" + b"\x02\x01" * 100_000, "more than 4 nodes in one another"),
        (head() + b"\x05\x02\x01a\x01\x00\x01a\x01\x00\x02\x00", "key 'a' stands twice"),
        (head() + b"\x05\x01\x01\xff\x01\x00\x02\x00", "can't decode byte 0xff"),
    ],
)
def test_units_that_break_the_rules(content: bytes, message: str) -> None:
    with pytest.raises(rs.DamagedStream, match=message):
        unpack(forged(content), TOY)


def test_the_place_is_that_in_the_file() -> None:
    data = forged(head() + b"\x01\x00\x06\x00")
    with pytest.raises(rs.DamagedStream, match=f"reading stops at byte {12 + len(head()) + 3} "):
        unpack(data)
    long = head() + b"\x01\x00\x02\x02\x00" + varint(MAX_PAYLOAD) + bytes(MAX_PAYLOAD) + b"\x06"
    second = len(packet(ord("U"), bytes(4), 0, bytes(MAX_PAYLOAD)))
    with pytest.raises(rs.DamagedStream, match=f"reading stops at byte {second + 12 + len(long) - MAX_PAYLOAD} "):
        unpack(forged(long))


def test_hash_and_id_are_the_contents() -> None:
    content = head() + b"\x01\x00\x02\x00"
    assert unpack(forged(content), TOY) == {"strings": [], "shape": 0}
    with pytest.raises(rs.DamagedStream, match=f"the SHA-256 at byte {12 + len(content)} is not the unit's"):
        unpack(forged(content, digest=bytes(16)))
    with pytest.raises(rs.DamagedStream, match="the SHA-256"):
        unpack(forged(content, identity=b"abcd"))
    with pytest.raises(rs.DamagedStream, match="the SHA-256 at byte 12"):
        unpack(packet(ord("U"), bytes(4), 0, b""))


def test_a_newer_version() -> None:
    with pytest.raises(rs.UnsupportedVersion, match="the unit has version 2, this release reads 1"):
        unpack(forged(head(version=2) + b"whatever", digest=b""))


@given(OUTS, st.lists(st.tuples(st.integers(0, 99), st.integers(0, 2), st.binary(max_size=2)), min_size=1, max_size=3))
def test_what_is_read_has_one_form(out: dict[str, Any], changes: list[tuple[int, int, bytes]]) -> None:
    """Trees changed at random, under checksums that hold: refused, or the one way to write what is read."""
    (whole,) = [event for event in scan(pack(out, TOY)) if isinstance(event, Packet)]
    tail = whole.payload[len(head()) : -16]
    for at, removed, put in changes:
        at %= len(tail) + 1
        tail = tail[:at] + put + tail[at + removed :]
    data = forged(head() + tail)
    try:
        read = unpack(data, TOY)
    except rs.DamagedStream:
        return
    assert pack(read, TOY) == data


@pytest.mark.parametrize(
    "tail",
    [
        b"\x04\xff\xff\xff\xff\x0f",
        b"\x01\x00\x02\xff\xff\xff\xff\x0f",
        b"\x02" + varint(10_000) + b"\x02\x00" * 10_000,
        b"\x02" + varint(10_000) + b"\x05\x00" * 10_000,
        b"\x02" + varint(10_000) + b"\x04\x00" * 10_000,
        b"\x04" + varint(10_000) + varint(300) * 10_000,
    ],
)
def test_memory_is_bounded_by_the_input(tail: bytes) -> None:
    data = forged(head() + tail)
    with memory_below(64 * len(data) + (1 << 16)), pytest.raises(rs.DamagedStream):
        unpack(data)


def test_memory_of_many_false_packets() -> None:
    data = packet(ord("U"), bytes(4), 0, bytes(1000))[:-1] * 500 + packet(ord("U"), bytes(4), 0, b"") * 5000
    with memory_below(8 * len(data)), pytest.raises(rs.DamagedStream):
        unpack(data)
