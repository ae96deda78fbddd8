"""The tree of `robuststream inspect -v`, and the same as plain values for --json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from robuststream.container.stream import Stream
from robuststream.views.fields import Field, dissect, dissect_all
from robuststream.views.parts import Part, by_part, list_parts

#: Columns of a field's name; the longest of the format's own fit.
NAME = 28
Line = tuple[str, bool]


def tree(data: bytes, stream: Stream) -> Iterator[Line]:
    """Lines of text, and whether each tells of damage: offset and size in bytes, name, value; fields stand deeper."""
    parts, left_out = list_parts(data)
    findings = by_part(parts, stream.report.findings)
    wide = max(6, len(str(len(data))))
    yield f"{'offset':>{wide}}  {'size':>{wide}}", False
    for number, part in enumerate(parts):
        yield f"{part.start:{wide}}  {part.size:{wide}}  {_title(part, stream)}", part.state != "intact"
        for finding in findings.get(number, []):
            yield f"{'':{wide}}  {'':{wide}}  ! {finding}", True
        for field in dissect(data, part, stream.header, stream.stream_id):
            fault = f"  <- {field.fault}" if field.fault else ""
            place = f"{field.start:{wide}}  {field.end - field.start:{wide}}"
            yield f"{place}    {field.name:{NAME}}  {field.value}{fault}", bool(fault)
    if left_out:
        yield f"and {left_out} more packets", False


def plain_parts(data: bytes, stream: Stream) -> dict[str, Any]:
    """What --json -v adds to a report: `parts` and `parts_left_out` of `spec/report.schema.json`."""
    parts, left_out = list_parts(data)
    fields = dissect_all(data, parts, stream.header, stream.stream_id)
    return {"parts": list(map(_plain, parts, fields)), "parts_left_out": left_out}


def _title(part: Part, stream: Stream) -> str:
    if part.kind is None:
        return "gap: bytes of no packet"
    foreign = f" of stream {part.stream_id.hex()}" if part.stream_id != stream.stream_id else ""
    cut = f", {part.declared} bytes by its header" if part.declared > part.size else ""
    return f"{part.title}{foreign}, {'intact' if part.state == 'intact' else 'DAMAGED'}{cut}"


def _plain(part: Part, fields: Sequence[Field]) -> dict[str, Any]:
    packet = part.kind is not None
    return {
        "kind": part.name,
        "number": part.number if packet else None,
        "stream_id": part.stream_id.hex() if packet else None,
        "state": part.state,
        "start": part.start,
        "end": part.end,
        "fields": [asdict(field) for field in fields],
    }
