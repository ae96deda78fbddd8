"""A header whose CRCs hold and that no model decodes: refused before anything is decoded (section 5)."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest

import robuststream as rs
from robuststream.container import collect
from robuststream.container.scanner import scan
from robuststream.container.writer import write_stream
from robuststream.transfers.reading import read_stream
from tests.helpers import without_headers
from tests.small import model, picture

BAD = {
    "parameters": ("mbt2018-mean", {"parameters_digest": bytes(16)}, rs.ModelMismatch, "use the one that encoded it"),
    "synthesis": ("mbt2018-mean", {"synthesis_digest": bytes(16)}, rs.ModelMismatch, "another synthesis transform"),
    "tile": ("mbt2018-mean", {"tile": 65}, rs.DamagedStream, "a tile of 65 pixels"),
    "no checkpoint": ("mbt2018-mean", {"z_checkpoint": False}, rs.DamagedStream, "with no checkpoint after z"),
    "a checkpoint": ("bmshj2018-factorized", {"z_checkpoint": True}, rs.DamagedStream, "with a checkpoint after z"),
    "a quality": ("mbt2018-mean", {"quality": 1}, rs.DamagedStream, "quality index 1 does not fit"),
    "quality 8 of 8": ("mbt2018-mean-vbr", {"quality": 8}, rs.DamagedStream, "quality index 8 does not fit"),
}


@pytest.mark.parametrize(("architecture", "changes", "error", "message"), BAD.values(), ids=BAD)
def test_a_header_that_does_not_fit_its_model(
    architecture: str, changes: dict[str, int], error: type[Exception], message: str
) -> None:
    stream = read_stream(rs.encode(picture(64, 64), model(architecture), tile=64))
    tile = stream.tiles[0]
    if "z_checkpoint" in changes:
        tile = replace(tile, z_words=2 if changes["z_checkpoint"] else None)
    data = write_stream(replace(stream.header, **changes), [tile])  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        rs.decode(data, model(architecture))


def test_a_lender_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many streams, and however many regions of one, borrow its header."""
    lender = rs.encode(picture(100, 90), model(), tile=64)
    bare = without_headers(rs.encode(picture(100, 90, seed=1), model(), tile=64))
    scanned: list[bytes] = []
    monkeypatch.setattr(collect, "scan", lambda data: scanned.append(bytes(data)) or scan(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(rs.decode_batch([bare] * 3, model(), header_from=lender)) == 3
        assert scanned.count(lender) == 1
        with rs.open(bare, model(), header_from=lender) as file:
            for left in (0, 20):
                file.decode((left, 0, left + 30, 30))
        assert scanned.count(lender) == 2
        rs.repair(without_headers(lender), header_from=lender)
    assert scanned.count(lender) == 3
