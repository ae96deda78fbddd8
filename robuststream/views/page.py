"""The page of `robuststream inspect --html`: one file that needs no network and obeys nothing that a stream says.

All text from the stream reaches the page as JSON in a data block, and the page's script shows it as text only. A
content security policy allows no script but that one, by its hash, and no request at all.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING, Any

from robuststream.container.report import Finding, Outcome, StreamReport, TileReport, TileState
from robuststream.container.stream import Stream
from robuststream.errors import RobustStreamError
from robuststream.views.fields import Field, dissect_all
from robuststream.views.parts import Part, by_part, list_parts
from robuststream.views.summary import facts
from robuststream.views.text import one_line
from robuststream.views.tilemap import box, refuse_many

if TYPE_CHECKING:
    from PIL.Image import Image

    from robuststream.model.frozen import Model

#: Of the embedded picture, in pixels: larger ones are scaled down.
LONGEST = 2048
#: Up to so many parts are listed with all their fields; of more than the second, intact neighbours are shown as one.
DETAILED, LISTED = 300, 4000
LOOKS = {
    Outcome.EXACT: "fine",
    Outcome.VERIFIED: "fine",
    Outcome.REPAIRED: "repaired",
    Outcome.UNPROVEN: "unproven",
    Outcome.CONCEALED: "concealed",
    Outcome.MISSING: "missing",
}
STATES = {TileState.INTACT: "fine", TileState.DAMAGED: "damaged", TileState.MISSING: "missing"}

Rows = list[list[str]]


def write_page(data: bytes, stream: Stream, name: str, model: Model | None = None) -> bytes:
    """The page, in UTF-8. Where the picture cannot be decoded it says why, and shows the rest.

    Args:
        data: the file `stream` was read from.
        name: of the file.
        model: the decoder's; found by the digest in the stream when None.

    Raises:
        ImageError: the picture has more tiles than can be shown.
    """
    refuse_many(stream.header.tiles)
    picture, report, note = _decode(data, stream, model)
    return _fill(name, _values(data, stream, report, name, note), picture)


def _decode(data: bytes, stream: Stream, model: Model | None) -> tuple[Image | None, StreamReport, str]:
    from robuststream.codec import decode

    try:
        decoded = decode(data, model)
    except RobustStreamError as error:
        return None, stream.report, f"The picture could not be decoded: {error}"
    return decoded.image, decoded.report, ""


def _fill(name: str, values: dict[str, Any], picture: Image | None) -> bytes:
    template = resources.files("robuststream.views").joinpath("page.html").read_text("utf-8")
    own = {tag: re.findall(f"<{tag}>(.*?)</{tag}>", template, re.DOTALL)[0] for tag in ("script", "style")}
    sources = "; ".join(f"{tag}-src '{_hash(text)}'" for tag, text in own.items())
    places = {
        "policy": f"default-src 'none'; img-src data:; {sources}; base-uri 'none'; form-action 'none'",
        "title": html.escape(one_line(name)),
        "picture": "" if picture is None else _embedded(picture),
        # In a script element only "</" and "<!--" mean anything; without "<" there is neither.
        "data": json.dumps(values, separators=(",", ":")).replace("<", "\\u003c"),
    }
    # In one pass: what is filled in is never looked at for places again.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: places[place[1]], template).encode()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _embedded(picture: Image) -> str:
    """An element with the picture in it, at most LONGEST pixels on a side."""
    small = picture.copy()
    small.thumbnail((LONGEST, LONGEST))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=90, subsampling=0, icc_profile=picture.info.get("icc_profile"))
    source = base64.b64encode(buffer.getvalue()).decode()
    return f'<img id="picture" alt="The decoded picture" src="data:image/jpeg;base64,{source}">'


# --- What the script shows -----------------------------------------------------------------------------------------


def _values(data: bytes, stream: Stream, report: StreamReport, name: str, note: str) -> dict[str, Any]:
    header = report.header
    parts, left_out = list_parts(data)
    joined, more = _joined(parts)
    detailed = parts if len(parts) <= DETAILED else []
    fields = [list(map(_field, found)) for found in dissect_all(data, detailed, header, stream.stream_id)]
    parts = [part for part, _ in joined]
    fields += [[]] * (len(parts) - len(fields))
    owner = by_part(parts, report.findings)
    place = {id(finding): number for number, found in owner.items() for finding in found}
    known = {tile.index: tile for tile in report.tiles}
    tiles = [known.get(index) or TileReport(index, TileState.MISSING) for index in range(header.tiles)]
    home = {part.number: number for number, (part, count) in enumerate(joined) if count == 1 and _is_tile(part, stream)}
    about: dict[int, list[int]] = {}
    for number, finding in enumerate(report.findings):
        if finding.tile is not None:
            about.setdefault(finding.tile, []).append(number)
    numbers = {id(finding): number for number, finding in enumerate(report.findings)}
    return {
        "name": one_line(name),
        "intact": report.intact,
        "verdict": _verdict(report),
        "note": one_line(note),
        "facts": [[key, text] for key, text in facts(report).items()],
        "width": header.width,
        "height": header.height,
        "columns": header.columns,
        "bytes": report.file_bytes,
        "tiles": [
            {
                "look": _look(tile),
                "box": box(header, tile.index),
                "facts": _tile_facts(tile, report),
                "findings": about.get(tile.index, []),
                "part": home.get(tile.index),
            }
            for tile in tiles
        ],
        "parts": [
            {
                "kind": "gap" if part.kind is None else part.name.lower(),
                "title": part.title if count == 1 else f"{count} packets, from {part.title} on",
                "damaged": part.state != "intact",
                "start": part.start,
                "end": part.end,
                "fields": fields[number],
                "findings": [numbers[id(finding)] for finding in owner.get(number, [])],
                "tile": part.number if home.get(part.number) == number and part.number < header.tiles else None,
            }
            for number, (part, count) in enumerate(joined)
        ],
        "parts_left_out": left_out + more,
        "findings": [_finding(finding, place.get(id(finding))) for finding in report.findings],
        "findings_left_out": report.findings_left_out,
    }


def _joined(parts: list[Part]) -> tuple[list[tuple[Part, int]], int]:
    """Parts, each with the number of packets it stands for, and how many of all parts are not among them."""
    run = -(-len(parts) // LISTED)
    joined: list[tuple[Part, int]] = []
    for part in parts:
        last, count = joined[-1] if joined else (part, run)
        if last.state == part.state == "intact" and count < run:
            joined[-1] = (replace(last, end=part.end), count + 1)
        else:
            joined.append((part, 1))
    return joined[: 2 * LISTED], sum(count for _, count in joined[2 * LISTED :])


def _is_tile(part: Part, stream: Stream) -> bool:
    return part.name == "TILE" and part.stream_id == stream.stream_id


def _verdict(report: StreamReport) -> str:
    count = len(report.findings) + report.findings_left_out
    if not count:
        return "intact"
    return f"{'intact' if report.intact else 'damaged'}, {count} finding{'s' * (count != 1)}"


def _look(tile: TileReport) -> str:
    return STATES[tile.state] if tile.outcome is None else LOOKS[tile.outcome]


def _tile_facts(tile: TileReport, report: StreamReport) -> Rows:
    row, column = divmod(tile.index, report.header.columns)
    left, top, right, bottom = box(report.header, tile.index)
    rows = [
        ["state", tile.state.value],
        ["outcome", "not decoded" if tile.outcome is None else tile.outcome.value],
        ["place", f"row {row}, column {column}: pixels {left} to {right - 1}, {top} to {bottom - 1}"],
    ]
    if tile.offset is not None and tile.size is not None:
        rows += [["offset", f"byte {tile.offset}"], ["size", f"{tile.size} bytes"]]
    if tile.z_salvaged or tile.y_salvaged:
        parts = f"{tile.y_salvaged} of {report.header.checkpoints + 1} parts of y"
        rows.append(["salvaged", " and ".join(["z"] * tile.z_salvaged + [parts] * bool(tile.y_salvaged))])
    if tile.correctable:
        rows.append(["correctable", "one or two flipped bits would explain the damage"])
    return rows


def _field(field: Field) -> list[str | int]:
    return [field.name, field.start, field.end - field.start, field.value, field.fault]


def _finding(finding: Finding, part: int | None) -> dict[str, Any]:
    placed = finding.start is not None and finding.end is not None
    return {
        "rule": finding.rule.value,
        "message": one_line(finding.message),
        "bytes": f"bytes {finding.start}–{(finding.end or 1) - 1}" if placed else "",
        "tile": finding.tile,
        "part": part,
    }
