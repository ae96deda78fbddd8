"""What a CompressAI module's `compress` returned, as checked bytes and back (spec/packed.md).

No tiles and no exact entropy parameters: a unit comes back as it went in, to the module it came from, or not at all.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Mapping
from typing import Any

import construct as c
import torch
from torch import Tensor, nn

from robuststream.container.layout import MAX_PAYLOAD, PAYLOAD_CRC_BYTES, VarInt, build_packet
from robuststream.container.packets import DamagedPacket, Gap, Kind, Packet, kind_name
from robuststream.container.remains import damaged_packets
from robuststream.container.scanner import scan
from robuststream.errors import DamagedStream, ModelMismatch, NotARobustStream, UnsupportedModel, UnsupportedVersion
from robuststream.model.parts import canonical_json

VERSION = 1
DIGEST_BYTES = 16
NAME_BYTES = 64
#: Containers that may stand in one another. CompressAI's deepest is a dict of lists of torch.Size.
MAX_DEPTH = 4

BYTES, INTEGER, LIST, TUPLE, SIZE, DICT = range(6)
_TAGS: Mapping[type, int] = {bytes: BYTES, int: INTEGER, list: LIST, tuple: TUPLE, torch.Size: SIZE, dict: DICT}
#: The nodes each of the two trees may have.
_SHAPE, _STRINGS = (INTEGER, LIST, TUPLE, SIZE, DICT), (BYTES, LIST, TUPLE, DICT)


def pack(out: Mapping[str, Any], net: nn.Module) -> bytes:
    """The strings and the shape of `net.compress(x)` in checked packets; the same arguments give the same bytes.

    Args:
        out: what `compress` returned: `strings`, lists (tuples, dicts) of bytes, and `shape`, a torch.Size or lists
            (tuples, dicts) of such and of whole numbers. Other keys, such as `y_hat`, are no part of what
            `decompress` takes, and left out.
        net: the module that compressed. Its state (weights and CDF tables) is hashed, so that `unpack` can refuse
            another.

    Raises:
        TypeError: `strings` or `shape` is missing, or holds a value of another type.
        ValueError: it is nested more than 4 deep, or holds a number that is negative or above 32 bits.
        UnsupportedModel: the state of `net` is not all tensors.
    """
    if not isinstance(out, Mapping) or not {"strings", "shape"} <= out.keys():
        raise TypeError("give the dict with 'strings' and 'shape' that net.compress returned")
    name = type(net).__name__.encode()[:NAME_BYTES].decode(errors="ignore")
    content = bytes((VERSION,)) + model_digest(net) + _prefixed(name.encode())
    content += _build(out["shape"], _SHAPE) + _build(out["strings"], _STRINGS)
    content += _sha256(content)
    # A payload shorter than the largest ends the unit, so one that fills its packet is followed by another.
    starts = range(0, len(content) + 1, MAX_PAYLOAD)
    identity = content[-DIGEST_BYTES:][:4]
    return b"".join(
        build_packet(Kind.UNIT, identity, number, content[start : start + MAX_PAYLOAD])
        for number, start in enumerate(starts)
    )


def unpack(data: bytes | bytearray | memoryview, net: nn.Module | None = None) -> dict[str, Any]:
    """What was packed, proven whole: `net.decompress(**unpack(data, net))`.

    Args:
        data: what `pack` returned, and nothing beside it.
        net: the module that is to decompress; when None, the caller sees to it that it is the right one.

    Returns:
        `strings` and `shape`, of the values and types that were packed.

    Raises:
        NotARobustStream: no packet is in `data`.
        DamagedStream: a bit is wrong, missing or too many, or it is a stream of tiles and not a packed unit.
        UnsupportedVersion: it was packed by a newer release.
        ModelMismatch: the state of `net` is not that of the module that compressed.
        UnsupportedModel: the state of `net` is not all tensors.
    """
    unit = _Unit(_read_packets(bytes(data)))
    out = unit.parse()
    if net is not None:
        digest = model_digest(net)
        if digest != unit.model_digest:
            raise ModelMismatch(
                f"the unit was compressed by a {unit.model_name!r} with state {unit.model_digest.hex()}, this "
                f"{type(net).__name__} has {digest.hex()}: use the same weights and tables (update() makes new tables)"
            )
    return out


def model_digest(net: nn.Module) -> bytes:
    """16 bytes that name a module's whole state, buffers included, wherever it stands.

    Raises:
        UnsupportedModel: the state holds something that is no tensor.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        if not isinstance(tensor, Tensor):
            raise UnsupportedModel(f"{name!r} in the state of {type(net).__name__} is no tensor, so it has no digest")
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(canonical_json([name, dtype, list(tensor.shape)]).encode() + b"\n")
        # As bytes, because NumPy does not know all of torch's types.
        elements = tensor.detach().cpu().contiguous().reshape(-1, 1).view(torch.uint8)
        digest.update((elements if sys.byteorder == "little" else elements.flip(1)).numpy().tobytes())
    return digest.digest()[:DIGEST_BYTES]


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:DIGEST_BYTES]


# --- Trees to bytes ------------------------------------------------------------------------------------------------


def _build(value: Any, allowed: tuple[int, ...], depth: int = 0) -> bytes:
    """A node and all below it; `allowed` are the tags this tree may have."""
    tag = _TAGS.get(type(value))
    if tag not in allowed:
        raise TypeError(
            f"'{'shape' if SIZE in allowed else 'strings'}' holds a {type(value).__name__}: not known there"
        )
    if tag == BYTES:
        return bytes((tag,)) + _prefixed(value)
    if tag == INTEGER:
        return bytes((tag,)) + _varint(value)
    if depth == MAX_DEPTH:
        raise ValueError(f"lists, tuples and dicts are nested more than {MAX_DEPTH} deep")
    head = bytes((tag,)) + _varint(len(value))
    if tag == SIZE:
        return head + b"".join(map(_varint, value))
    if tag == DICT:
        nodes = (_prefixed(_key(key)) + _build(item, allowed, depth + 1) for key, item in value.items())
    else:
        nodes = (_build(item, allowed, depth + 1) for item in value)
    return head + b"".join(nodes)


def _key(key: Any) -> bytes:
    if type(key) is not str:
        raise TypeError(f"a dict with a key that is a {type(key).__name__} cannot be packed")
    return key.encode()


def _prefixed(value: bytes) -> bytes:
    return _varint(len(value)) + value


def _varint(value: int) -> bytes:
    if not 0 <= value < 1 << 32:
        raise ValueError(f"{value} cannot be packed: numbers and sizes are from 0 to 2^32 - 1")
    return bytes(VarInt.build(value))


# --- Bytes to trees ------------------------------------------------------------------------------------------------


def _read_packets(data: bytes) -> list[Packet]:
    """The packets of the one unit that `data` is, and of nothing else."""
    packets: list[Packet] = []
    gap: Gap | None = None
    for event in scan(data):
        if isinstance(event, Gap):
            gap = gap or event
        elif event.kind != Kind.UNIT:
            raise DamagedStream(
                f"a {kind_name(event.kind)} packet at byte {event.offset}: this is a stream of tiles, not a packed "
                "unit: decode it with robuststream.decode"
            )
        elif gap is None:
            _check_order(packets, event)
            packets.append(event)
    if gap is not None:
        raise _damage(data, gap, next(damaged_packets(data, gap), None))
    if not packets:
        raise NotARobustStream("the input is empty: no packed unit is in it")
    if len(packets[-1].payload) == MAX_PAYLOAD:
        raise DamagedStream(
            f"packet {len(packets)} of the unit is missing: the input ends at byte {len(data)} before it"
        )
    return packets


def _check_order(before: list[Packet], packet: Packet) -> None:
    place = f"the packet at byte {packet.offset}"
    if before and len(before[-1].payload) < MAX_PAYLOAD:
        raise DamagedStream(f"{place} stands behind the unit's end: a packed unit stands alone")
    if packet.number != len(before):
        raise DamagedStream(f"{place} has number {packet.number}, where number {len(before)} is due")
    if before and packet.stream_id != before[0].stream_id:
        raise DamagedStream(
            f"{place} is of unit {packet.stream_id.hex()}, not {before[0].stream_id.hex()} as those before"
        )


def _damage(data: bytes, gap: Gap, damaged: DamagedPacket | None) -> Exception:
    if damaged is None and (gap.start, gap.end) == (0, len(data)):
        return NotARobustStream(f"no packet in {len(data)} bytes (they begin with {data[:8].hex(' ')})")
    if damaged is None or not gap.start <= damaged.offset < gap.end:
        return DamagedStream(f"bytes {gap.start} to {gap.end} are no intact packet")
    cut = damaged.payload_end + PAYLOAD_CRC_BYTES > len(data)
    return DamagedStream(
        f"packet {damaged.number} ({kind_name(damaged.kind)}) at byte {damaged.offset}: "
        + ("the input ends inside it" if cut else "its CRC-32C fails")
    )


class _Unit:
    """The content of a unit, read from untrusted packets: no more is allocated than a multiple of their bytes."""

    def __init__(self, packets: list[Packet]) -> None:
        self._packets = packets
        self._content = b"".join(packet.payload for packet in packets)
        self._stream = io.BytesIO(self._content[:-DIGEST_BYTES])
        self.model_digest = b""
        self.model_name = ""

    def parse(self) -> dict[str, Any]:
        """`strings` and `shape`. Raises UnsupportedVersion, DamagedStream."""
        version = self._content[:1]
        if version and version[0] != VERSION:
            raise UnsupportedVersion(f"the unit has version {version[0]}, this release reads {VERSION}")
        digest = self._content[-DIGEST_BYTES:]
        if _sha256(self._content[:-DIGEST_BYTES]) != digest or self._packets[0].stream_id != digest[:4]:
            raise DamagedStream(
                f"the SHA-256 at byte {self._place(len(self._content) - DIGEST_BYTES)} is not the unit's"
            )
        try:
            self._take(1)
            self.model_digest = self._take(DIGEST_BYTES)
            self.model_name = self._text(NAME_BYTES)
            shape = self._node(_SHAPE)
            strings = self._node(_STRINGS)
            if self._left():
                raise ValueError(f"{self._left()} bytes are left over")
        except (c.ConstructError, ValueError) as error:
            place, reason = self._place(self._stream.tell()), " ".join(str(error).split())
            raise DamagedStream(
                f"the unit breaks the format's rules: reading stops at byte {place} ({reason}); its writer is at fault"
            ) from error
        return {"strings": strings, "shape": shape}

    def _node(self, allowed: tuple[int, ...], depth: int = 0) -> Any:
        tag = self._take(1)[0]
        if tag not in allowed:
            raise ValueError(f"node {tag} has no place here")
        if tag == BYTES:
            return self._take(self._varint())
        if tag == INTEGER:
            return self._varint()
        if depth == MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} nodes in one another")
        count = self._varint()
        # Each element takes a byte at least, so a count that cannot be true ends here.
        if count > self._left():
            raise ValueError(f"{count} elements in {self._left()} bytes")
        if tag == SIZE:
            return torch.Size([self._varint() for _ in range(count)])
        if tag == DICT:
            return self._entries(count, allowed, depth + 1)
        nodes = [self._node(allowed, depth + 1) for _ in range(count)]
        return nodes if tag == LIST else tuple(nodes)

    def _entries(self, count: int, allowed: tuple[int, ...], depth: int) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for _ in range(count):
            key = self._text()
            if key in entries:
                raise ValueError(f"key {key!r} stands twice")
            entries[key] = self._node(allowed, depth)
        return entries

    def _text(self, limit: int | None = None) -> str:
        size = self._varint()
        if limit is not None and size > limit:
            raise ValueError(f"{size} bytes of text, where {limit} are the limit")
        return self._take(size).decode()

    def _varint(self) -> int:
        return int(VarInt.parse_stream(self._stream))

    def _take(self, size: int) -> bytes:
        if size > self._left():
            raise ValueError(f"{size} bytes are declared, {self._left()} are left")
        return self._stream.read(size)

    def _left(self) -> int:
        return len(self._content) - DIGEST_BYTES - self._stream.tell()

    def _place(self, at: int) -> int:
        """Where byte `at` of the content stands in the input."""
        number, rest = divmod(max(at, 0), MAX_PAYLOAD)
        packet = self._packets[number]
        return packet.offset + packet.size - PAYLOAD_CRC_BYTES - len(packet.payload) + rest
