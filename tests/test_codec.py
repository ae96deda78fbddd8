"""Whole encode and decode: exact round trips, containment, and what callers are told."""

from __future__ import annotations

import io
import pickle
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import robuststream as rs
from robuststream.container.layout import build_header, build_packet
from robuststream.container.packets import Colour, Header, Kind, Metadata, Mode, Packet
from robuststream.container.report import PROVEN, Outcome, Rule
from robuststream.container.scanner import scan
from robuststream.container.tiles import build_tile
from robuststream.container.writer import write_stream
from robuststream.faults import drop_tiles, flip_bits
from robuststream.latents import decode_latents, encode_latents
from robuststream.model.anatomy import ARCHITECTURES
from robuststream.networks.exact import ExactNetwork
from robuststream.picture.concealment import Mask
from robuststream.picture.grid import Grid
from robuststream.picture.transforms import analyse
from robuststream.picture.windows import synthesis_reach
from robuststream.transfers.reading import read_stream
from tests.small import SAMPLE, WIDE, model, net, picture


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For thousands of tiny networks: waking a second thread takes longer than they do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def quiet(data: bytes, small: rs.Model, **options: bool) -> rs.Decoded:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.DamageWarning)
        return rs.decode(data, small, **options)


def flip(data: bytes, *bits: int) -> bytes:
    hurt = bytearray(data)
    for bit in bits:
        hurt[bit >> 3] ^= 1 << (bit & 7)
    return bytes(hurt)


def per_tile_latents(image: np.ndarray, small: rs.Model, grid: Grid) -> torch.Tensor:
    """The latents the encoder meant, straight from CompressAI's formulas and one tile at a time."""
    y = analyse(torch.from_numpy(image).permute(2, 0, 1), small, grid)
    exact = torch.zeros(y.shape, dtype=torch.int64)
    for index in range(grid.tiles):
        place = (slice(None), *grid.latent_box(index).slices())
        piece = y[place][None].double()
        z = small.prior.analyse(y[place][None])["z"].double()
        medians = small.parts.medians.double()[None, :, None, None]
        z_hat = torch.round(z - medians / 4096) * 4096 + medians
        means = ExactNetwork(small.parts.network("h_s"))(z_hat).chunk(2, 1)[1]
        exact[place] = (torch.round(piece - means / 4096) * 4096 + means)[0].long()
    return exact


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", [(1, 1), (37, 150), (128, 64), (130, 129)])
def test_round_trip_is_exact(architecture: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    small = model(architecture)
    data = rs.encode(image, small, tile=64)
    out = rs.decode(data, small, strict=True)
    assert out.report.exact
    assert out.report.intact
    assert out.image.size == size[::-1]
    assert out.tensor.shape == (3, *size)
    assert out.mask.shape == size
    assert not out.mask.any()
    assert rs.encode(image, small, tile=64) == data


@pytest.mark.parametrize("architecture", ["bmshj2018-factorized", "mbt2018-mean", "mbt2018", "elic2022-official"])
@pytest.mark.parametrize("mode", ["exact", "native"])
def test_batches_give_what_singles_give(architecture: str, mode: str) -> None:
    small = model(architecture)
    images = [picture(*size, seed=seed) for seed, size in enumerate([(64, 64), (130, 200), (64, 128), (1, 1)])]
    streams = rs.encode_batch(images, small, tile=64, mode=mode)
    assert streams == [rs.encode(image, small, tile=64, mode=mode) for image in images]
    for out, data in zip(rs.decode_batch(streams, small), streams, strict=True):
        alone = rs.decode(data, small)
        assert torch.equal(out.latents, alone.latents)
        assert torch.equal(out.tensor, alone.tensor)
        assert out.report == alone.report


def test_a_batch_of_many_kinds() -> None:
    """Two models, both modes, damage in one of them."""
    one, two = model("mbt2018-mean"), model("bmshj2018-hyperprior")
    image = picture(128, 128)
    streams = [rs.encode(image, one, tile=64), rs.encode(image, one, tile=64, mode="native")]
    hurt = drop_tiles(streams[0], tiles=[1])
    with pytest.warns(rs.DamageWarning):
        outs = rs.decode_batch([*streams, hurt], one)
    assert [out.report.verified for out in outs] == [True, True, False]
    assert torch.equal(outs[0].latents[:, 4:], outs[2].latents[:, 4:])
    with pytest.raises(rs.ModelMismatch):
        rs.decode_batch([streams[0], rs.encode(image, two, tile=64)], one)
    assert rs.encode_batch([], one) == rs.decode_batch([], one) == []


def test_latents_are_those_of_a_straightforward_reference() -> None:
    image = picture(130, 200)
    small = model()
    grid = Grid(200, 130, 64, small.latent_stride, small.factor)
    out = rs.decode(rs.encode(image, small, tile=64), small)
    assert torch.equal(out.latents.long(), per_tile_latents(image, small, grid))


def test_pixels_are_compressais() -> None:
    """The same latents through CompressAI's own synthesis transform."""
    image = picture(128, 192)
    out = rs.decode(rs.encode(image, model(), tile=64), model())
    with torch.no_grad():
        expected = net("mbt2018-mean").g_s(out.latents[None].float() / 4096)[0].clamp(0, 1)
    assert torch.allclose(out.tensor, expected, atol=1e-5)


def test_tile_batches_do_not_matter() -> None:
    small = model()
    grid = Grid(320, 256, 64, small.latent_stride, small.factor)
    y = analyse(torch.from_numpy(picture(256, 320)).permute(2, 0, 1), small, grid)
    together = encode_latents(y, small, grid)
    stream = read_stream(rs.encode(picture(256, 320), small, tile=64))
    assert [tile.words for tile in together] == [stream.tiles[index].words for index in range(grid.tiles)]
    one_by_one = decode_latents(stream, small, grid, batch=1)
    assert torch.equal(decode_latents(stream, small, grid).latents, one_by_one.latents)


@pytest.mark.usefixtures("one_thread")
def test_every_bit_of_a_small_stream() -> None:
    """One flipped bit, whatever it hits: always told, put right, and all latents are the encoder's."""
    small = model(n=2, m=3)
    data = rs.encode(picture(128, 128), small, tile=64)
    grid = Grid(128, 128, 64, small.latent_stride, small.factor)
    whole = decode_latents(read_stream(data), small, grid).latents
    places = {tile.index: (tile.offset, tile.offset + tile.size) for tile in read_stream(data).report.tiles}
    for bit in range(8 * len(data)):
        decoded = decode_latents(read_stream(flip(data, bit)), small, grid)
        assert decoded.report.findings, bit
        assert not decoded.report.intact, bit
        assert torch.equal(decoded.latents, whole), bit
        for tile in decoded.report.tiles:
            hit = places[tile.index][0] <= bit >> 3 < places[tile.index][1]
            assert tile.outcome == (Outcome.REPAIRED if hit else Outcome.EXACT), bit
            said = [f for f in decoded.report.findings if f.rule == Rule.CORRECTED and f.tile == tile.index]
            assert len(said) == hit, bit
            assert all((f.start, f.end) == (bit >> 3, (bit >> 3) + 1) for f in said), bit


@pytest.mark.usefixtures("one_thread")
def test_every_truncation_of_a_small_stream() -> None:
    small = model(n=2, m=3)
    data = rs.encode(picture(128, 128), small, tile=64)
    grid = Grid(128, 128, 64, small.latent_stride, small.factor)
    places = {tile.index: tile.offset + tile.size for tile in read_stream(data).report.tiles if tile.size}
    for length in range(len(data)):
        try:
            stream = read_stream(data[:length])
        except (rs.NotARobustStream, rs.DamagedStream):
            assert length < 120  # inside the first header
            continue
        assert stream.report.findings
        decoded = decode_latents(stream, small, grid)
        for tile in decoded.report.tiles:
            assert (tile.outcome == Outcome.EXACT) == (places[tile.index] <= length)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name not in WIDE])
def test_lost_tiles_are_masked_and_the_rest_is_identical(architecture: str) -> None:
    small = model(architecture)
    data = rs.encode(picture(256, 256), small, tile=64)
    whole = rs.decode(data, small)
    out = quiet(drop_tiles(data, tiles=[5, 10]), small)
    missing = out.mask == Mask.MISSING
    assert missing[64:128, 64:128].all()
    assert missing[128:192, 128:192].all()
    assert missing.sum() == 2 * 64 * 64
    before, after = synthesis_reach(small.parts.networks["g_s"])
    assert out.mask[64 - before, 64] == Mask.TOUCHED
    assert out.mask[63 - before, 64] == Mask.EXACT
    assert out.mask[191 + after, 128] == Mask.TOUCHED
    assert out.mask[192 + after, 128] == Mask.EXACT
    # Nothing is wrong in silence: what the mask calls exact is equal, to the last bit of the float.
    exact = torch.from_numpy(out.mask == Mask.EXACT)
    assert torch.equal(out.tensor[:, exact], whole.tensor[:, exact])
    assert out.report.exact is False
    assert {f.tile for f in out.report.findings if f.rule == Rule.TILE_MISSING} == {5, 10}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_lost_tile_changes_no_other_latents(architecture: str) -> None:
    """Also where tiles go in lock-step: one less in the batch."""
    small = model(architecture)
    data = rs.encode(picture(192, 256), small, tile=64)
    whole = rs.decode(data, small).latents
    out = quiet(drop_tiles(data, tiles=[5]), small)
    lost = torch.zeros(whole.shape[1:], dtype=torch.bool)
    lost[4:8, 4:8] = True
    assert torch.equal(out.latents[:, ~lost], whole[:, ~lost])
    assert [tile.index for tile in out.report.tiles if tile.outcome != "exact"] == [5]


def test_z_survives_a_hit_in_y() -> None:
    small = model()
    data = rs.encode(picture(128, 128), small, tile=64, checkpoints=0)
    hurt, _ = hit(data, tile=2, share=0)
    out = quiet(hurt, small)
    assert out.report.tiles[2].outcome == Outcome.CONCEALED
    assert out.report.tiles[2].z_salvaged
    assert (out.mask[64:128, 0:64] == Mask.CONCEALED).all()
    grid = Grid(128, 128, 64, small.latent_stride, small.factor)
    # But for the few symbols that the state still holds behind z.
    right = out.latents[(slice(None), *grid.latent_box(2).slices())] == means_from_z(small, grid, 2)
    assert 0.9 < right.double().mean() <= 1
    assert read_stream(data).salvaged == {}


def means_from_z(small: rs.Model, grid: Grid, tile: int) -> torch.Tensor:
    """Of a tile of picture(128, 128), straight from CompressAI's formulas."""
    y = analyse(torch.from_numpy(picture(128, 128)).permute(2, 0, 1), small, grid)
    z = small.prior.analyse(y[(slice(None), *grid.latent_box(tile).slices())][None])["z"].double()
    medians = small.parts.medians.double()[None, :, None, None]
    means = ExactNetwork(small.parts.network("h_s"))(torch.round(z - medians / 4096) * 4096 + medians).chunk(2, 1)[1]
    return means[0].int()


def hit(data: bytes, tile: int, share: float) -> tuple[bytes, int]:
    """One byte overwritten, so far into the tile's words of y; and which word of them that is."""
    stream = read_stream(data)
    report, whole = stream.report.tiles[tile], stream.tiles[tile]
    assert report.offset is not None
    assert report.size is not None
    words = len(whole.words) // 4 - (whole.z_words or 0)
    word = min(int(words * share), words - 1)
    at = report.offset + report.size - 4 - 4 * (words - word)
    return data[:at] + bytes((data[at] ^ 0x55,)) + data[at + 1 :], word


@pytest.mark.parametrize("mode", ["exact", "native"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_stands_before_a_hit_in_y_is_kept(architecture: str, mode: str) -> None:
    """The latents kept are the encoder's and grow with the hit's place; the others are the means."""
    small = model(architecture)
    data = rs.encode(picture(128, 128), small, tile=64, checkpoints=7, mode=mode)
    whole = rs.decode(data, small)
    box = (slice(None), *Grid(128, 128, 64, small.latent_stride, small.factor).latent_box(2).slices())
    before = -1
    for eighth in range(8):
        hurt, word = hit(data, 2, eighth / 8)
        out = quiet(hurt, small)
        report = out.report.tiles[2]
        lost = report.outcome == Outcome.MISSING
        assert lost == (report.y_salvaged == 0 and not report.z_salvaged)
        assert report.outcome in (Outcome.CONCEALED, Outcome.MISSING)
        words = len(read_stream(data).tiles[2].words) // 4 - (read_stream(data).tiles[2].z_words or 0)
        assert report.y_salvaged == word // -(-words // 8)
        assert (out.mask[64:128, 0:64] == (Mask.MISSING if lost else Mask.CONCEALED)).all()
        kept = int((out.latents[box] == whole.latents[box]).sum())
        assert kept >= 0.97 * before
        before = kept
        others = torch.ones(whole.latents.shape[1:], dtype=torch.bool)
        others[box[1:]] = False
        assert torch.equal(out.latents[:, others], whole.latents[:, others])
    # In native mode a step of y counts only where it has a digest of its own.
    steps = small.prior_for(Mode[mode.upper()]).steps(4, 4)
    assert (before > 0.6 * whole.latents[box].numel()) == (mode == "exact" or steps <= 12)


def test_native_mode_takes_no_symbol_of_y_without_a_proven_digest() -> None:
    small = model()
    data = rs.encode(picture(128, 128), small, tile=64, mode="native", checkpoints=1)
    hurt, _ = hit(data, 2, 0)
    assert read_stream(hurt).salvaged[2].pieces == 0
    grid = Grid(128, 128, 64, small.latent_stride, small.factor)
    box = (slice(None), *grid.latent_box(2).slices())
    # z says of each latent where it lies, within the noise of float32; a symbol would move it by 4096.
    assert (quiet(hurt, small).latents[box] - means_from_z(small, grid, 2)).abs().max() <= 16


@pytest.mark.parametrize("checkpoints", [-1, 16, 1.5, "3"])
def test_impossible_checkpoints_are_refused(checkpoints: object) -> None:
    with pytest.raises(ValueError, match="checkpoints"):
        rs.encode(picture(64, 64), model(), tile=64, checkpoints=checkpoints)  # type: ignore[arg-type]


def test_damage_warns_and_strict_refuses() -> None:
    data = drop_tiles(rs.encode(picture(128, 128), model(), tile=64), tiles=[1])
    with pytest.warns(rs.DamageWarning, match="1 of 4 tiles"):
        rs.decode(data, model())
    with pytest.raises(rs.DamagedStream, match="ROBS-TILE-MISSING"):
        rs.decode(data, model(), strict=True)


def test_exact_but_not_intact() -> None:
    data = rs.encode(picture(64, 64), model(), tile=64) + b"trailing"
    out = rs.decode(data, model())
    assert out.report.exact
    assert not out.report.intact
    assert not out.mask.any()


def test_desync_is_found_before_symbols_are_trusted() -> None:
    """An encoder with other parameters: its stream is whole, its CRCs hold, and only the digest tells."""
    small = model()
    stream = read_stream(rs.encode(picture(128, 128), small, tile=64))
    tiles = [stream.tiles[index] for index in range(4)]
    forged = replace(tiles[1], digest=tiles[1].digest ^ 1)
    data = write_stream(stream.header, [tiles[0], forged, *tiles[2:]])
    out = quiet(data, small)
    assert out.report.tiles[1].outcome == Outcome.CONCEALED
    assert [f.rule for f in out.report.findings] == [Rule.DESYNC]
    with pytest.raises(rs.ContextDesync, match="tile 1"):
        rs.decode(data, small, strict=True)


def test_words_that_do_not_end_right_are_not_trusted() -> None:
    small = model()
    stream = read_stream(rs.encode(picture(64, 128), small, tile=64))
    tiles = [stream.tiles[0], stream.tiles[1]]
    longer = replace(tiles[1], words=bytes(tiles[1].words) + bytes(4))
    out = quiet(write_stream(stream.header, [tiles[0], longer]), small)
    assert out.report.tiles[1].outcome == Outcome.CONCEALED
    assert [f.rule for f in out.report.findings] == [Rule.ENTROPY]


def test_wrong_models_are_named() -> None:
    data = rs.encode(picture(64, 64), model(), tile=64)
    with pytest.raises(rs.ModelMismatch, match="use the one that encoded it"):
        rs.decode(data, model(n=2, m=3))
    with pytest.raises(rs.ModelNotFound, match="no installed model"):
        rs.decode(data)


def test_another_synthesis_transform_is_named_as_such() -> None:
    small = model()
    header = read_stream(rs.encode(picture(64, 64), small, tile=64))
    data = write_stream(replace(header.header, synthesis_digest=bytes(16)), [header.tiles[0]])
    with pytest.raises(rs.ModelMismatch, match="another synthesis transform"):
        rs.decode(data, small)


def test_declared_sizes_are_checked_before_anything_is_made() -> None:
    small = model()
    header = Header(1 << 31, 1 << 31, 64, small.parameters_digest, small.synthesis_digest)
    tile = read_stream(rs.encode(picture(64, 64), small, tile=64)).tiles[0]
    one = write_stream(Header(64, 64, 64, header.parameters_digest, header.synthesis_digest), [tile])
    data = build_packet(ord("H"), read_stream(one).stream_id, 0, build_header(header)) + one
    with pytest.raises(rs.ImageError, match="2147483648 x 2147483648"):
        rs.decode(data, small)
    assert rs.decode(one, small, max_pixels=64 * 64).report.exact
    for call in (rs.decode, rs.verify):
        with pytest.raises(rs.ImageError, match="64 x 64 pixels are more than the limit of 4095"):
            call(one, small, max_pixels=64 * 64 - 1)
    with pytest.raises(rs.ImageError, match="limit of 1000"):
        rs.encode(picture(64, 64), small, max_pixels=1000)


def test_more_tiles_than_bytes_are_not_called_exact() -> None:
    """The container does not list what it never saw; the mask and the outcomes must."""
    small = model()
    stream = read_stream(rs.encode(picture(64, 64), small, tile=64))
    header = replace(stream.header, width=64 * 64, height=64 * 64)
    identity = bytes(4)
    data = build_packet(ord("H"), identity, 0, build_header(header)) + build_packet(
        ord("T"), identity, 0, build_tile(header, identity, stream.tiles[0])
    )
    assert len(data) < header.tiles
    with pytest.warns(rs.DamageWarning, match="4095 of 4096 tiles"):
        out = rs.decode(data, small)
    assert out.report.exact is False
    assert (out.mask == Mask.MISSING).sum() == 4095 * 64 * 64
    assert (out.mask == Mask.EXACT).sum() < 64 * 64


def test_z_that_does_not_decode_is_missing() -> None:
    """A forged tile whose words are noise from the start: neither y nor z is trusted."""
    small = model()
    stream = read_stream(rs.encode(picture(64, 128), small, tile=64))
    tile = stream.tiles[1]
    forged = replace(tile, words=bytes(4) + b"\x01" + bytes(3) + tile.words[8:])
    out = quiet(write_stream(stream.header, [stream.tiles[0], forged]), small)
    assert out.report.tiles[1].outcome in (Outcome.MISSING, Outcome.CONCEALED)
    seam = replace(tile, z_words=tile.z_words - 1 if tile.z_words and tile.z_words > 2 else 3)
    out = quiet(write_stream(stream.header, [stream.tiles[0], seam]), small)
    assert out.report.tiles[1].outcome == Outcome.MISSING
    assert [finding.rule for finding in out.report.findings] == [Rule.ENTROPY, Rule.ENTROPY]


def forge(data: bytes, other: bytes) -> bytes:
    """`data` with the other stream's tile 0 in the place of its own, all CRCs valid."""
    ours, theirs = read_stream(data), read_stream(other)
    swapped = build_tile(ours.header, ours.stream_id, theirs.tiles[0])
    return b"".join(
        build_packet(p.kind, p.stream_id, p.number, swapped if (p.kind, p.number) == (Kind.TILE, 0) else p.payload)
        for p in scan(data)
        if isinstance(p, Packet)
    )


def test_tiles_that_do_not_hash_to_the_stream_id_are_not_called_exact() -> None:
    small = model()
    data, other = (rs.encode(picture(128, 192, seed), small, tile=64) for seed in (1, 2))
    out = quiet(forge(data, other), small)
    assert out.report.exact is False
    assert {tile.outcome for tile in out.report.tiles} == {Outcome.UNPROVEN}
    assert not (out.mask == Mask.EXACT).any()
    with pytest.raises(rs.DamagedStream):
        rs.decode(forge(data, other), small, strict=True)


def test_a_forged_copy_before_the_true_tile() -> None:
    small = model()
    data, other = (rs.encode(picture(128, 192, seed), small, tile=64) for seed in (1, 2))
    ours, theirs = read_stream(data), read_stream(other)
    forged = build_packet(ord("T"), ours.stream_id, 0, build_tile(ours.header, ours.stream_id, theirs.tiles[0]))
    out = quiet(forged + data, small)
    assert out.report.exact is False
    assert not (out.mask == Mask.EXACT).any()
    # The true one first: the stream id proves it, whatever comes after.
    out = rs.decode(data + forged, small)
    assert out.report.exact
    assert not out.report.intact
    # Another tile lost: the id cannot decide, so the contested tile alone is unproven.
    out = quiet(drop_tiles(data + forged, tiles=[3]), small)
    outcomes = [tile.outcome for tile in out.report.tiles]
    assert outcomes[0] == Outcome.UNPROVEN
    assert outcomes[3] == Outcome.MISSING
    assert set(outcomes[1:3] + outcomes[4:]) == {Outcome.EXACT}


def test_a_forged_header_first() -> None:
    small = model()
    data = rs.encode(picture(128, 192), small, tile=64)
    stream = read_stream(data)
    turned = replace(stream.header, width=stream.header.height, height=stream.header.width)
    out = quiet(build_packet(ord("H"), stream.stream_id, 0, build_header(turned)) + data, small)
    assert out.report.exact is False
    assert not (out.mask == Mask.EXACT).any()


def test_padding_cannot_get_around_the_limit() -> None:
    small = model()
    one = read_stream(rs.encode(picture(64, 64), small, tile=64))
    thin = replace(one.header, width=1 << 28, height=1)
    packets = [(ord("H"), build_header(thin)), (ord("T"), build_tile(thin, bytes(4), one.tiles[0]))]
    data = b"".join(build_packet(kind, bytes(4), 0, payload) for kind, payload in packets)
    with pytest.raises(rs.ImageError, match="268435456 x 64"):
        rs.decode(data, small)


def test_latents_that_are_not_finite_are_refused() -> None:
    small = model()
    grid = Grid(64, 64, 64, small.latent_stride, small.factor)
    with pytest.raises(rs.ImageError, match="not finite"):
        encode_latents(torch.full((12, 4, 4), float("nan")), small, grid)


def test_nothing_left() -> None:
    data = drop_tiles(rs.encode(picture(64, 64), model(), tile=64), count=1)
    with pytest.raises(rs.DamagedStream, match="none of the 1 tiles"):
        rs.decode(data, model())


@pytest.mark.parametrize(
    ("tile", "mode"), [(0, "exact"), (-64, "exact"), (100, "exact"), (64, "fast"), (1 << 32, "exact")]
)
def test_impossible_settings(tile: int, mode: str) -> None:
    with pytest.raises(ValueError, match=r"tile|mode"):
        rs.encode(picture(64, 64), model(), tile=tile, mode=mode)


def test_sources_and_metadata(tmp_path: Path) -> None:
    from robuststream.picture.io import to_image

    exif = b"MM\0*\0\0\0\x08\0\0\0\0\0\0"
    grey = to_image(np.repeat(picture(64, 64)[..., :1], 3, axis=2), Colour.GREY, Metadata(b"icc", exif, b"<x/>"))
    data = rs.encode(grey, model(), tile=64)
    (tmp_path / "a.robs").write_bytes(data)
    path = tmp_path / "a.robs"
    for source in (data, bytearray(data), memoryview(data), path, str(path), io.BytesIO(data)):
        out = rs.decode(source, model())
        assert out.image.mode == "L"
        assert out.image.info["icc_profile"] == b"icc"
        assert out.image.info["exif"] == b"Exif\0\0" + exif
        assert out.image.info["xmp"] == b"<x/>"


def test_threads_share_a_model_and_pickles_equal_it() -> None:
    small = model()
    data = rs.encode(picture(128, 128), small, tile=64)
    wanted = rs.decode(data, small).latents
    again = pickle.loads(pickle.dumps(small))
    got: list[torch.Tensor] = []
    threads = [threading.Thread(target=lambda: got.append(rs.decode(data, again).latents)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4
    assert all(torch.equal(latents, wanted) for latents in got)


def test_the_bundled_model_decodes_by_digest() -> None:
    data = rs.encode(SAMPLE)
    out = rs.decode(data)
    assert out.report.exact
    original = np.asarray(Image.open(SAMPLE).convert("RGB"), float)
    error = np.mean((np.asarray(out.image, float) - original) ** 2)
    assert 10 * np.log10(255**2 / error) > 33
    assert rs.verify(data).exact
    assert rs.inspect(data).exact is None


@pytest.mark.parametrize("architecture", ["bmshj2018-factorized", "mbt2018-mean", "mbt2018"])
def test_random_damage_is_never_silent(architecture: str) -> None:
    """One to twelve flips: what the mask calls exact or repaired is what was written."""
    small = model(architecture, n=2, m=3) if architecture != "mbt2018" else model(architecture)
    data = rs.encode(picture(192, 192), small, tile=64)
    grid = Grid(192, 192, 64, small.latent_stride, small.factor)
    whole = rs.decode(data, small)
    for seed in range(60):
        hurt = flip_bits(data, seed=seed, count=1 + seed % 12)
        try:
            out = quiet(hurt, small)
        except rs.RobustStreamError:
            continue
        exact = torch.from_numpy(out.mask == Mask.EXACT)
        assert torch.equal(out.tensor[:, exact], whole.tensor[:, exact])
        for tile in out.report.tiles:
            if tile.outcome in PROVEN:
                place = (slice(None), *grid.latent_box(tile.index).slices())
                assert torch.equal(out.latents[place], whole.latents[place]), seed
        assert out.report.findings
