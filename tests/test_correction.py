"""Bits put right, through to the latents: what is accepted is what was written, and the rest is concealed and told."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import robuststream as rs
from robuststream.codec import decode_batch
from robuststream.container.layout import build_packet
from robuststream.container.packets import Candidate, Kind, Packet
from robuststream.container.report import Outcome, Rule
from robuststream.container.scanner import scan
from robuststream.container.stream import Stream
from robuststream.faults import drop_tiles
from robuststream.latents import DecodedLatents, decode_latents
from robuststream.model.anatomy import ARCHITECTURES
from robuststream.picture.concealment import Mask
from robuststream.picture.grid import Grid
from robuststream.transfers.reading import read_stream
from tests.small import WIDE, model, picture


def flip(data: bytes, *bits: int) -> bytes:
    hurt = bytearray(data)
    for bit in bits:
        hurt[bit >> 3] ^= 1 << (bit & 7)
    return bytes(hurt)


def tiles_of(data: bytes) -> list[Packet]:
    return [event for event in scan(data) if isinstance(event, Packet) and event.kind == Kind.TILE]


def decode(data: bytes, small: rs.Model) -> DecodedLatents:
    stream = read_stream(data)
    return decode_latents(stream, small, Grid.of(stream.header, small.latent_stride, small.factor))


def outcomes(decoded: DecodedLatents) -> list[Outcome | None]:
    return [tile.outcome for tile in decoded.report.tiles]


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name not in WIDE])
@pytest.mark.parametrize("mode", ["exact", "native"])
@pytest.mark.parametrize("flips", [1, 2])
def test_flips_in_every_tile_are_put_right(architecture: str, mode: str, flips: int) -> None:
    small = model(architecture)
    data = rs.encode(picture(200, 256), small, tile=64, mode=mode)
    rng = np.random.default_rng(1)
    bits = [8 * tile.offset + rng.choice(8 * tile.size, flips, replace=False) for tile in tiles_of(data)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", rs.DamageWarning)  # nothing is lost, so nothing is warned of
        out = rs.decode(flip(data, *map(int, np.concatenate(bits))), small)
    whole = rs.decode(data, small)
    assert torch.equal(out.latents, whole.latents)
    assert torch.equal(out.tensor, whole.tensor)
    assert {tile.outcome for tile in out.report.tiles} == {Outcome.REPAIRED}
    assert {tile.state.value for tile in out.report.tiles} == {"damaged"}
    assert (out.report.intact, out.report.exact, out.report.verified) == (False, False, True)
    assert (out.mask == Mask.REPAIRED).all()
    assert sum(finding.rule == Rule.CORRECTED for finding in out.report.findings) == len(bits)


def test_strict_refuses_what_had_to_be_put_right() -> None:
    data = rs.encode(picture(64, 128), model(), tile=64)
    hurt = flip(data, 8 * tiles_of(data)[0].offset + 300)
    with pytest.raises(rs.DamagedStream, match=r"ROBS-TILE-CRC, tile 0.* would explain it"):
        rs.decode(hurt, model(), strict=True)
    assert rs.verify(hurt, model()).verified
    assert rs.inspect(hurt).tiles[0].correctable


def test_every_packet_hit_at_once() -> None:
    """Headers and index too: no packet is intact, and the picture is whole."""
    small = model()
    data = rs.encode(picture(128, 128), small, tile=64)
    packets = [event for event in scan(data) if isinstance(event, Packet)]
    out = rs.decode(flip(data, *[8 * item.offset + 8 * 13 + 5 for item in packets]), small)
    assert torch.equal(out.latents, rs.decode(data, small).latents)
    assert {tile.outcome for tile in out.report.tiles} == {Outcome.REPAIRED}


def test_a_corrected_header_that_nothing_confirms_leaves_tiles_unproven() -> None:
    small = model()
    data = rs.encode(picture(128, 128), small, tile=64)
    packets = [event for event in scan(data) if isinstance(event, Packet)]
    header = flip(build_packet(Kind.HEADER, packets[0].stream_id, 0, packets[0].payload), 200)
    tiles = [data[item.offset : item.offset + item.size] for item in tiles_of(data)]
    # With all tiles the stream id confirms it, also through a tile that is put right; with one gone nothing does.
    assert outcomes(decode(header + b"".join(tiles), small)) == [Outcome.EXACT] * 4
    tiles[1] = flip(tiles[1], 300)
    assert outcomes(decode(header + b"".join(tiles), small)) == [Outcome.EXACT, Outcome.REPAIRED, *["exact"] * 2]
    assert outcomes(decode(header + b"".join(tiles[:3]), small)) == ["unproven"] * 3 + ["missing"]


def test_a_loss_beside_a_repaired_tile_touches_it() -> None:
    """What the mask calls repaired is what was written, to the last bit of the float."""
    small = model(n=2, m=3)
    data = rs.encode(picture(128, 192), small, tile=64)
    hurt = drop_tiles(flip(data, 8 * tiles_of(data)[0].offset + 300), tiles=[1])
    with pytest.warns(rs.DamageWarning):
        out = rs.decode(hurt, small)
    whole = rs.decode(data, small)
    assert out.report.tiles[0].outcome == Outcome.REPAIRED
    assert set(np.unique(out.mask[:64, :64])) == {Mask.REPAIRED, Mask.TOUCHED}
    sure = torch.from_numpy(out.mask <= Mask.REPAIRED)
    assert torch.equal(out.tensor[:, sure], whole.tensor[:, sure])


def heavier(payload: bytes, rng: np.random.Generator) -> bytes:
    bits = rng.choice(8 * len(payload), rng.integers(4, 10), replace=False)
    return flip(payload, *map(int, bits))


@pytest.mark.parametrize("architecture", ["bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "mbt2018"])
def test_heavier_damage_that_flips_explain_is_not_accepted(architecture: str) -> None:
    """Made so that the CRC names one or two flipped bits, which lead to another tile than was written."""
    small = model(architecture)
    data = drop_tiles(rs.encode(picture(256, 256), small, tile=64), tiles=[0])
    rng = np.random.default_rng(2)
    whole = decode(data, small).latents
    guesses = 0
    for _ in range(10):
        hurt = bytearray(data)
        for item in tiles_of(data):
            packet = build_packet(item.kind, item.stream_id, item.number, heavier(item.payload, rng))
            bits = 8 * (item.size - 4 - len(item.payload)) + rng.choice(8 * len(item.payload), 2, replace=False)
            hurt[item.offset : item.offset + item.size] = flip(packet, *map(int, bits))
        stream = read_stream(bytes(hurt))
        guesses += len(stream.candidates)
        grid = Grid.of(stream.header, small.latent_stride, small.factor)
        decoded = decode_latents(stream, small, grid)
        assert not {Outcome.EXACT, Outcome.REPAIRED} & set(outcomes(decoded))
        for index, salvage in stream.salvaged.items():
            assert decoded.report.tiles[index].outcome == Outcome.CONCEALED, salvage
    assert guesses > 50, "no candidate got as far as the decoder: the test proves nothing"
    assert whole.any()


# --- Candidates made by hand: what the decoder asks of them -----------------------------------------------------------


@pytest.fixture
def stream() -> Stream:
    return read_stream(drop_tiles(rs.encode(picture(64, 192), model(), tile=64), tiles=[2]))


def with_candidates(stream: Stream, *candidates: Candidate) -> Stream:
    """Tile 0 is damaged, and may be one of these."""
    tiles = {index: tile for index, tile in stream.tiles.items() if index}
    return replace(stream, tiles=tiles, candidates={0: candidates})


def judged(stream: Stream) -> Outcome | None:
    small = model()
    return outcomes(decode_latents(stream, small, Grid.of(stream.header, small.latent_stride, small.factor)))[0]


def test_of_two_that_decode_neither_is_taken(stream: Stream) -> None:
    tile = stream.tiles[0]
    wrong = replace(tile, words=bytes(tile.words[:-1]) + bytes((tile.words[-1] ^ 1,)))
    assert judged(with_candidates(stream, Candidate(tile, (1,)))) == Outcome.REPAIRED
    assert judged(with_candidates(stream, Candidate(tile, (1,)), Candidate(wrong, (2,)))) == Outcome.REPAIRED
    assert judged(with_candidates(stream, Candidate(tile, (1,)), Candidate(tile, (2,)))) == Outcome.MISSING
    assert judged(with_candidates(stream, Candidate(wrong, (2,)))) == Outcome.MISSING


def test_a_pair_is_not_taken_where_the_tile_decodes_as_it_stands(stream: Stream) -> None:
    """Then all that differs is in what the end state does not bind, and a decode is no proof."""
    tile = stream.tiles[0]
    wrong = replace(tile, words=bytes(tile.words[:-1]) + bytes((tile.words[-1] ^ 1,)))
    assert judged(with_candidates(stream, Candidate(tile, (1, 2)), Candidate(wrong, ()))) == Outcome.REPAIRED
    assert judged(with_candidates(stream, Candidate(tile, (1, 2)), Candidate(tile, ()))) == Outcome.MISSING
    assert judged(with_candidates(stream, Candidate(tile, ()))) == Outcome.MISSING


def test_the_stream_id_has_the_last_word() -> None:
    whole = read_stream(rs.encode(picture(64, 128), model(), tile=64))
    other = read_stream(rs.encode(picture(64, 128, seed=1), model(), tile=64))
    tile, false = whole.tiles[0], other.tiles[0]
    # It confirms a pair that the decode cannot.
    assert judged(with_candidates(whole, Candidate(tile, (1, 2)), Candidate(tile, ()))) == Outcome.REPAIRED
    # It refutes what decodes to its end; without all tiles nothing could.
    assert judged(with_candidates(whole, Candidate(false, (1,)))) == Outcome.MISSING


def test_a_refuted_tile_falls_back_to_its_z() -> None:
    small = model()
    data = rs.encode(picture(64, 128), small, tile=64)
    stream = read_stream(flip(data, 8 * (tiles_of(data)[0].offset + tiles_of(data)[0].size - 6)))
    assert set(stream.salvaged) == set(stream.candidates) == {0}
    wrong = tuple(replace(item, tile=replace(item.tile, digest=1)) for item in stream.candidates[0])
    decoded = decode_latents(
        replace(stream, candidates={0: wrong}), small, Grid.of(stream.header, small.latent_stride, small.factor)
    )
    assert outcomes(decoded) == [Outcome.CONCEALED, Outcome.EXACT]
    # A candidate that fails is no finding of the tile, and says nothing of the machine.
    assert [finding.rule for finding in decoded.report.findings] == [Rule.TILE_CRC]


def test_escaped_values_are_not_bound_and_so_not_guessed_at() -> None:
    """Two digits of one tile flipped: as it stands it decodes, so only the stream id can tell what was written."""
    small = model()
    data = rs.encode(picture(64, 128), small, tile=64)
    item = tiles_of(data)[0]
    start = 8 * (item.offset + item.size - 4 - len(item.payload))
    header = read_stream(data)
    free = [
        bit
        for bit in range(8 * len(item.payload) - 600, 8 * len(item.payload))
        if _decodes(header, flip(item.payload, bit), small)
    ]
    assert len(free) >= 2, "no bit is free: the test proves nothing"
    hurt = flip(data, start + free[0], start + free[-1])
    assert outcomes(decode(hurt, small)) == [Outcome.REPAIRED, Outcome.EXACT]
    assert outcomes(decode(drop_tiles(hurt, tiles=[1]), small)) == [Outcome.CONCEALED, Outcome.MISSING]
    # A single one is put right nevertheless: no other flip explains it, and heavier damage hardly looks like one.
    hurt = drop_tiles(flip(data, start + free[0]), tiles=[1])
    assert outcomes(decode(hurt, small)) == [Outcome.REPAIRED, Outcome.MISSING]


def _decodes(stream: Stream, payload: bytes, small: rs.Model) -> bool:
    packet = build_packet(Kind.TILE, stream.stream_id, 0, payload)
    tile = build_packet(Kind.HEADER, stream.stream_id, 0, stream.header_payload) + packet
    return outcomes(decode(tile, small))[0] == Outcome.EXACT


def test_nothing_but_a_false_candidate_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    small = model("bmshj2018-factorized")
    data = rs.encode(picture(64, 64), small, tile=64)
    item = tiles_of(data)[0]
    packet = build_packet(item.kind, item.stream_id, 0, heavier(item.payload, np.random.default_rng(1)))
    hurt = data[: item.offset] + flip(packet, 300, 400) + data[item.offset + item.size :]
    assert read_stream(hurt).candidates
    for call in (rs.decode, rs.verify, lambda data, small: decode_batch([data], small)):
        with pytest.raises(rs.DamagedStream, match="none of the 1 tiles"):
            call(hurt, small)


def test_a_batch_puts_right_what_single_decodes_do() -> None:
    small = model()
    data = rs.encode(picture(128, 128), small, tile=64)
    hurt = flip(data, *[8 * item.offset + 400 for item in tiles_of(data)])
    for out, alone in zip(
        rs.decode_batch([data, hurt], small), [rs.decode(data, small), rs.decode(hurt, small)], strict=True
    ):
        assert torch.equal(out.latents, alone.latents)
        assert out.report == alone.report
