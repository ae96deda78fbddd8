"""Decodes with a borrowed header: the same latents, and no more claimed than is proven."""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import robuststream as rs
from robuststream.container.packets import Metadata
from robuststream.container.report import Outcome, Rule
from robuststream.container.writer import write_stream
from robuststream.faults import drop_tiles
from robuststream.picture.concealment import Mask
from robuststream.transfers.reading import read_stream
from tests.helpers import without_headers
from tests.small import model, picture


def quiet(data: bytes, small: rs.Model | None, other: bytes) -> rs.Decoded:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.DamageWarning)
        return rs.decode(data, small, header_from=other)


def outcomes(out: rs.Decoded) -> set[Outcome | None]:
    return {tile.outcome for tile in out.report.tiles}


@pytest.mark.parametrize("architecture", ["bmshj2018-factorized", "mbt2018-mean", "mbt2018-mean-vbr"])
@pytest.mark.parametrize("mode", ["exact", "native"])
def test_the_same_picture(architecture: str, mode: str) -> None:
    small = model(architecture)
    data, other = rs.encode_batch([picture(100, 170, seed) for seed in (1, 2)], small, tile=64, mode=mode)
    whole = rs.decode(data, small)
    with pytest.raises(rs.DamagedStream, match="no HEADER"):
        rs.decode(without_headers(data), small)
    out = quiet(without_headers(data), small, other)
    # All tiles are there: the stream id proves the header.
    assert torch.equal(out.tensor, whole.tensor)
    assert not out.mask.any()
    assert out.report.verified
    assert out.report.header == whole.report.header
    out = quiet(drop_tiles(without_headers(data), tiles=[4]), small, other)
    assert outcomes(out) == {Outcome.UNPROVEN, Outcome.MISSING}
    assert set(np.unique(out.mask)) == {Mask.UNPROVEN, Mask.MISSING}
    assert (out.report.verified, out.report.exact) == (False, False)
    assert out.report.findings[0].rule == Rule.HEADER_BORROWED
    lost = torch.zeros(whole.latents.shape[1:], dtype=torch.bool)
    lost[4:8, 4:8] = True
    assert torch.equal(out.latents[:, ~lost], whole.latents[:, ~lost])


def test_flipped_bits_are_put_right_and_can_prove_it() -> None:
    small = model()
    data, other = (rs.encode(picture(64, 128, seed), small, tile=64) for seed in (1, 2))
    bare = without_headers(data)
    hurt = bytearray(bare)
    hurt[len(hurt) // 3] ^= 4
    assert outcomes(quiet(bytes(hurt), small, other)) == {Outcome.EXACT, Outcome.REPAIRED}


def test_another_size_of_as_many_tiles_is_never_called_exact() -> None:
    small = model()
    data = rs.encode(picture(128, 192), small, tile=64)
    out = quiet(without_headers(data), small, rs.encode(picture(192, 128), small, tile=64))
    assert outcomes(out) == {Outcome.UNPROVEN}
    assert (out.mask == Mask.UNPROVEN).all()
    assert out.image.size == (128, 192)
    # A tile that has another shape there does not decode to its end.
    data, other = (rs.encode(picture(128, width), small, tile=128) for width in (192, 256))
    out = quiet(without_headers(data), small, other)
    assert out.report.tiles[0].outcome == Outcome.UNPROVEN
    assert out.report.tiles[1].outcome in (Outcome.CONCEALED, Outcome.MISSING)
    assert (out.mask >= Mask.CONCEALED).all()


@pytest.mark.parametrize("architecture", ["bmshj2018-factorized", "mbt2018-mean"])
def test_another_model_or_mode_is_refused(architecture: str) -> None:
    """Without checkpoints the digests alone tell."""
    small, foreign = model(architecture), model(architecture, n=2, m=3)
    data = without_headers(rs.encode(picture(64, 128), small, tile=64))
    for other, using in (
        (rs.encode(picture(64, 128), foreign, tile=64), foreign),
        (rs.encode(picture(64, 128), small, tile=64, mode="native"), small),
    ):
        with pytest.raises(rs.DamagedStream, match=r"none of (the )?2 "):
            rs.decode(data, using, header_from=other)


def test_another_quality_is_refused() -> None:
    small = model("mbt2018-mean-vbr")
    data = without_headers(rs.encode(picture(64, 128), small, tile=64, quality=2))
    with pytest.raises(rs.DamagedStream, match="model, mode and quality"):
        rs.decode(data, small, header_from=rs.encode(picture(64, 128), small, tile=64, quality=1))


def test_sources_verify_batch_and_strict(tmp_path: Path) -> None:
    small = model()
    data, other = (rs.encode(picture(64, 128, seed), small, tile=64) for seed in (1, 2))
    (tmp_path / "other.robs").write_bytes(other)
    whole = rs.decode(data, small)
    for source in (other, tmp_path / "other.robs", str(tmp_path / "other.robs"), io.BytesIO(other)):
        assert torch.equal(rs.decode(without_headers(data), small, header_from=source).tensor, whole.tensor)
    assert rs.verify(without_headers(data), small, header_from=other).verified
    with pytest.raises(rs.DamagedStream, match="no HEADER"):
        rs.verify(without_headers(data), small)
    with pytest.raises(rs.DamagedStream, match="ROBS-HEADER-BORROWED"):
        rs.decode(without_headers(data), small, strict=True, header_from=other)
    for out in rs.decode_batch([data, without_headers(data)], small, header_from=other):
        assert torch.equal(out.tensor, whole.tensor)
    assert rs.repair(without_headers(data), header_from=other).data == data
    with pytest.raises(rs.NotARobustStream, match="there is no header to borrow: no robuststream packet"):
        rs.decode(without_headers(data), small, header_from=b"nothing")
    with pytest.raises(FileNotFoundError):
        rs.decode(without_headers(data), small, header_from=tmp_path / "none")


def test_a_header_of_its_own_is_used_and_said(caplog: pytest.LogCaptureFixture) -> None:
    small = model()
    data, other = rs.encode(picture(64, 128), small, tile=64), rs.encode(picture(64, 64), small, tile=64)
    with caplog.at_level(logging.WARNING):
        out = rs.decode(data, small, header_from=other)
    assert (out.report.intact, out.report.exact) == (True, True)
    assert f"stream {out.report.stream_id} has a HEADER of its own" in caplog.text


def test_metadata_comes_from_the_stream_itself() -> None:
    small = model()
    data, other = (rs.encode(picture(64, 128, seed), small, tile=64) for seed in (1, 2))
    ours, theirs = read_stream(data), read_stream(other)
    data = write_stream(ours.header, [ours.tiles[0], ours.tiles[1]], Metadata(icc=b"ours"))
    other = write_stream(
        replace(theirs.header, metadata_packets=0),
        [theirs.tiles[0], theirs.tiles[1]],
        Metadata(xmp=b"<theirs/>", icc=b"theirs"),
    )
    out = rs.decode(without_headers(data), small, header_from=other)
    assert out.report.verified
    assert out.image.info["icc_profile"] == b"ours"
    assert "xmp" not in out.image.info
