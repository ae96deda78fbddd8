"""The bytes at a finding, with what is wrong among them marked: `robuststream inspect --hex`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from robuststream.container.report import Finding
from robuststream.container.stream import Stream
from robuststream.views.fields import Field, dissect
from robuststream.views.parts import Part, list_parts

#: Of a long list of findings, as many are shown, in so many rows of so many bytes each.
FINDINGS, ROWS, ROW = 20, 5, 16


def hexdump(data: bytes, stream: Stream) -> Iterator[tuple[str, bool]]:
    """Lines of text, and whether each is a finding. Rows count from a finding's first byte; carets mark the fields that
    are wrong, where these can be told, with their names behind."""
    parts, _ = list_parts(data)
    starts = [part.start for part in parts]
    flips = {
        number: sorted({flip >> 3 for item in items for flip in item.flips})
        for number, items in stream.candidates.items()
    }
    findings = stream.report.findings
    for finding in findings[:FINDINGS]:
        yield str(finding), True
        if finding.start is None or finding.end is None or finding.start >= finding.end:
            continue
        place = bisect_right(starts, finding.start) - 1
        fields = dissect(data, parts[place], stream.header, stream.stream_id) if place >= 0 else []
        marks = _marks(finding, parts[place] if place >= 0 else None, fields, flips)
        for line in _rows(data, finding.start, finding.end, marks):
            yield line, False
    more = len(findings[FINDINGS:]) + stream.report.findings_left_out
    if more:
        yield f"and {more} more findings (--json lists them)", False


def _marks(
    finding: Finding, part: Part | None, fields: Sequence[Field], flips: dict[int, list[int]]
) -> list[tuple[int, int, str]]:
    """What to mark: file positions from, to, and a name. Flipped bits say most; then the fields that are wrong."""
    flipped = flips.get(finding.tile, []) if finding.tile is not None else []
    if flipped:
        return [(at, at + 1, "flipped bit") for at in flipped]
    wrong = [(field.start, field.end, f"{field.name}: {field.fault}") for field in fields if field.fault]
    if wrong:
        return wrong
    if part is not None and part.kind is not None:
        named = [field for field in fields if field.name in ("kind", "number")]
        return [(field.start, field.end, f"{field.name} {field.value}") for field in named]
    return [(finding.start or 0, finding.end or 0, "no packet")]


def _rows(data: bytes, start: int, end: int, marks: Iterable[tuple[int, int, str]]) -> Iterator[str]:
    """The first row, then those where a mark begins, then the next ones, as many as may be, in file order."""
    marks = [mark for mark in marks if mark[0] < end and mark[1] > start]
    rows = -(-(end - start) // ROW)
    wanted = chain([0], ((max(at, start) - start) // ROW for at, _, _ in marks), range(min(rows, ROWS)))
    chosen = sorted(list(dict.fromkeys(row for row in wanted if row < rows))[:ROWS])
    wide = len(str(end))
    before = -1
    for row in chosen:
        if row > before + 1:
            yield f"  {'...':>{wide}}"
        before = row
        at = start + row * ROW
        raw = data[at : min(at + ROW, end)]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in raw)
        yield f"  {at:{wide}}  {raw.hex(' '):{3 * ROW - 1}}  {text}"
        here = [mark for mark in marks if mark[0] < at + len(raw) and mark[1] > at]
        if here:
            marked = "".join(
                "^^ " if any(first <= place < last for first, last, _ in here) else "   "
                for place in range(at, at + len(raw))
            )
            names = [name for first, _, name in here if first >= at or row == 0]
            yield f"  {'':{wide}}  {marked:{3 * ROW - 1}}  {', '.join(names)}".rstrip()
    if before < rows - 1:
        yield f"  {'...':>{wide}}"
