"""Salvaged tiles made by hand: which of a tile's digests are asked, and what is kept where they differ."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import robuststream as rs
from robuststream.container.packets import Salvage
from robuststream.container.report import Outcome, Rule
from robuststream.container.stream import Stream
from robuststream.latents import DecodedLatents, decode_latents
from robuststream.picture.grid import Grid
from robuststream.transfers.reading import read_stream
from tests.small import model, picture


def decode(stream: Stream) -> DecodedLatents:
    return decode_latents(stream, model(), Grid.of(stream.header, model().latent_stride, model().factor))


def salvaged(mode: str, pieces: int, flipped: int, words: int | None = None) -> tuple[Stream, torch.Tensor]:
    """A stream whose tile 0 is damaged, all its words proven or so many, its digest with bits flipped; and the latents
    of the whole stream."""
    stream = read_stream(rs.encode(picture(64, 128), model(), tile=64, mode=mode))
    tile = stream.tiles[0]
    left = Salvage(0, bytes(tile.words)[: words and 4 * words], tile.digest ^ flipped, tile.z_words, (), pieces)
    return replace(stream, tiles={1: stream.tiles[1]}, salvaged={0: left}), decode(stream).latents


def test_a_digest_that_no_piece_of_y_proves_is_not_used() -> None:
    """The damage may have hit it: then it says nothing of this machine's entropy parameters."""
    stream, whole = salvaged("exact", pieces=0, flipped=1)
    decoded = decode(stream)
    assert decoded.report.outcomes() == {0: Outcome.CONCEALED, 1: Outcome.EXACT}
    assert decoded.report.findings == ()
    assert torch.equal(decoded.latents, whole)


@pytest.mark.parametrize("mode", ["exact", "native"])
@pytest.mark.parametrize("flipped", [0, 1])
def test_a_digest_that_is_proven_is_compared(mode: str, flipped: int) -> None:
    stream, whole = salvaged(mode, pieces=3, flipped=flipped)
    decoded = decode(stream)
    assert decoded.report.outcomes()[0] == Outcome.CONCEALED
    assert [finding.rule for finding in decoded.report.findings] == [Rule.DESYNC] * flipped
    # Symbols of y count where it is equal, else z alone does.
    assert torch.equal(decoded.latents, whole) == (not flipped)


def test_what_breaks_off_is_compared_as_well_in_native_mode() -> None:
    stream, _ = salvaged("native", pieces=1, flipped=1, words=30)
    assert [finding.rule for finding in decode(stream).report.findings] == [Rule.DESYNC]
    stream, _ = salvaged("native", pieces=1, flipped=0, words=30)
    assert decode(stream).report.findings == ()
