"""The application extensions of GIF, of which Pillow keeps the last one, in pieces."""

from __future__ import annotations

from robuststream.picture.said import Said

_EXTENSION, _IMAGE = 0x21, 0x2C
_APPLICATION, _COMMENT = 0xFF, 0xFE
#: XMP stands there as it is; what follows it makes sub-blocks of any byte a reader may take for a length.
_XMP_TRAILER = b"\1" + bytes(range(255, -1, -1))


def said_by_gif(data: bytes) -> Said:
    """Comments, XMP and ICC. What is cut short is left to Pillow."""
    said = Said()
    at = 13 + _table(data[10:11])
    while at + 1 < len(data):
        if data[at] == _EXTENSION:
            end = _end_of_blocks(data, at + 2)
            _read_extension(data[at + 1], data[at + 2 : end], said)
            at = end
        elif data[at] == _IMAGE:
            at = _end_of_blocks(data, at + 11 + _table(data[at + 9 : at + 10]))
        else:
            break
    return said


def _table(flags: bytes) -> int:
    """Bytes of a table of colours."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _end_of_blocks(data: bytes, at: int) -> int:
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


def _read_extension(kind: int, body: bytes, said: Said) -> None:
    if kind == _COMMENT and "a comment" not in said.lost:
        said.lost.append("a comment")
    if kind != _APPLICATION:
        return
    name, rest = body[1:12], body[12:]
    if name == b"XMP DataXMP":
        said.xmp = rest.partition(_XMP_TRAILER)[0] or None
    elif name == b"ICCRGBG1012":
        said.icc = _joined(rest)


def _joined(blocks: bytes) -> bytes:
    parts, at = [], 0
    while at < len(blocks) and blocks[at]:
        parts.append(blocks[at + 1 : at + 1 + blocks[at]])
        at += 1 + blocks[at]
    return b"".join(parts)
