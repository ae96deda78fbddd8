"""Models of variable rate: gains, offsets and z's steps against CompressAI's own decoders and plain arithmetic."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

import robuststream as rs
from robuststream.container.layout import build_header, build_packet
from robuststream.container.packets import Kind
from robuststream.container.tiles import build_tile
from robuststream.entropy.tables import CdfTables
from robuststream.model.frozen import Model
from robuststream.priors.gain import Gain
from robuststream.priors.gaussian import Gaussian
from robuststream.priors.quantiser import Gained, Uniform
from robuststream.priors.walk import DecodingWalk, EncodingWalk, TileData, everything
from robuststream.transfers.reading import read_stream
from tests.small import compressai_latents, model, net, picture

VARIABLE = ["bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr", "mbt2018-vbr"]


@pytest.mark.parametrize("architecture", VARIABLE)
@pytest.mark.parametrize("quality", [0, 4, 7])
def test_latents_are_those_of_compressai(architecture: str, quality: int) -> None:
    original, frozen = net(architecture), model(architecture)
    image = picture(128, 192)
    if original.vr_entbttlnck:
        original.update(force=True, scale=original.Gain[quality].abs())
    ours = rs.decode(rs.encode(image, frozen, tile=256, quality=quality), frozen).latents / 4096
    same = ((ours - compressai_latents(original, image, s=quality)).abs() < 0.04).flatten(1).all(dim=0)
    assert ours.abs().max() > 1
    # From the first symbol that rounds the other way on, context differs; without context only that one does.
    assert same[:10].all()
    if architecture != "mbt2018-vbr":
        assert same.float().mean() > 0.9


@pytest.mark.parametrize("architecture", VARIABLE)
@pytest.mark.parametrize("mode", ["exact", "native"])
def test_round_trip_at_every_quality(architecture: str, mode: str) -> None:
    frozen = model(architecture)
    assert frozen.qualities == 8
    image, sizes = picture(100, 130), []
    for quality in range(8):
        data = rs.encode(image, frozen, tile=64, quality=quality, mode=mode)
        assert read_stream(data).header.quality == quality
        out = rs.decode(data, frozen, strict=True)
        assert out.report.verified
        sizes.append(len(data))
    assert sizes[0] < sizes[4] < sizes[7]
    assert rs.encode(image, frozen, tile=64, mode=mode) == rs.encode(image, frozen, tile=64, quality=4, mode=mode)


def test_batches_of_several_qualities() -> None:
    frozen = model("mbt2018-vbr")
    streams = [rs.encode(picture(64, 64), frozen, quality=quality) for quality in (1, 6, 1)]
    for out, data in zip(rs.decode_batch(streams, frozen), streams, strict=True):
        assert torch.equal(out.latents, rs.decode(data, frozen).latents)


def test_values_equal_int64() -> None:
    """Scales and values of gained symbols, written out once more in whole numbers."""
    gains = model("mbt2018-mean-vbr").parts.gains
    assert gains is not None
    rng = np.random.default_rng(1)
    scales, means = rng.integers(0, 1 << 20, 200), rng.integers(-(1 << 16), 1 << 16, 200)
    symbols = rng.integers(-300, 300, 200) * (rng.random(200) < 0.7)
    rows = rng.integers(0, gains.offsets.shape[1], 200)
    gain, inverse = int(gains.gains[2]), int(gains.inverse_gains[2])
    moved = symbols * 4096 + np.sign(symbols) * gains.offsets[2].numpy()[rows]
    expected = (moved * inverse + (1 << 15) >> 16) + means
    own = Gain.of(gains, 2, exact=True)
    assert (own.scales(torch.from_numpy(scales).double()).numpy() == scales * gain + (1 << 15) >> 16).all()
    inputs = (torch.from_numpy(values).double() for values in (symbols, means))
    values = own.quantiser.values(*inputs, rows.astype(np.uint16))
    assert (values.numpy() == expected.clip(-(1 << 24), 1 << 24)).all()


def test_values_at_every_limit_are_exact() -> None:
    """Model.md's limits keep all products of format.md, section 15.5, inside what float64 holds."""
    most = 1 << 24
    for gain, symbol, offset in product((1, most - 1, most), (-(1 << 13), 1, 1 << 13), (-most, most - 1, most)):
        moved = symbol * 4096 + (1 if symbol > 0 else -1) * offset
        expected = min(max(moved * gain + (1 << 15) >> 16, -most), most)
        quantiser = Gained(gain, gain, np.array([0.0, offset]), exact=True)
        symbols, none = torch.tensor([float(symbol)], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        assert int(quantiser.values(symbols, none, np.array([1], np.uint16))) == expected


def test_offsets_are_zeros_where_the_net_has_none() -> None:
    changed = copy.deepcopy(net("bmshj2018-hyperprior-vbr"))
    changed.no_quantoffset = True
    frozen, image = rs.freeze(changed), picture(128, 192)
    assert frozen.parts.gains is not None
    assert frozen.parts.gains.offsets.shape == (8, 64)
    assert not frozen.parts.gains.offsets.any()
    ours = rs.decode(rs.encode(image, frozen, tile=256, quality=4), frozen).latents / 4096
    assert ((ours - compressai_latents(changed, image, s=4)).abs() < 0.01).float().mean() > 0.9


def test_a_repaired_row_has_its_own_offset() -> None:
    """In native mode, where a scale lies on the other side of a threshold than it did at the encoder."""
    quantiser = Gained(1 << 16, 1 << 16, np.array([100.0, 200.0]), exact=False)
    gain = Gain(4096, torch.zeros(0), quantiser)
    gaussian = Gaussian(torch.tensor([4096], dtype=torch.int32), ("scales", "means"), gain=gain)
    cdf = np.array([[0, 20000, 40000, 60000, 65536]] * 2)
    tables = CdfTables.from_padded(cdf, np.array([5, 5]), np.array([-1, -1]))
    means = torch.zeros((1, 1, 1, 64), dtype=torch.float64)
    scales = torch.linspace(1, 8000, 64, dtype=torch.float64).reshape(1, 1, 1, 64)
    scales[0, 0, 0, 20] = 4096.0
    drifted = scales.clone()
    drifted[0, 0, 0, 20] += 1e-3
    target = torch.ones((1, 1, 1, 64))
    encoder = EncodingWalk(tables, b"", {"y": target}, native_steps=1)
    known = gaussian(torch.cat((scales, means), dim=1)).code(encoder, everything)
    data = TileData(encoder.coder.finish()[0].words, encoder.digests(0)[0])
    decoder = DecodingWalk(tables, b"", [data], native_steps=1)
    decoded = gaussian(torch.cat((drifted, means), dim=1)).code(decoder, everything)
    assert decoder.repaired[0]
    assert decoder.fault(0) is None
    assert torch.equal(decoded, known)
    assert decoded[0, 0, 0, 20] == 4196


def test_quantisers_limit_what_an_encoder_codes() -> None:
    huge, none = torch.tensor([1e9, -1e9], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    rows = np.zeros(2, np.uint16)
    gained = Gained(1 << 20, 1 << 12, np.zeros(1), exact=True)
    for quantiser, most in ((Uniform(), 1 << 12), (Uniform(2048), 1 << 13), (Uniform(100), 1 << 13), (gained, 1 << 12)):
        symbols = quantiser.symbols(huge, none)
        assert symbols.abs().max() == most
        assert quantiser.values(symbols, none, rows).abs().max() <= 1 << 24


@pytest.mark.parametrize("quality", [-1, 8])
def test_a_quality_the_model_has_not(quality: int) -> None:
    with pytest.raises(ValueError, match=rf"quality {quality} is not one of the model's: 0 to 7"):
        rs.encode(picture(64, 64), model("mbt2018-vbr"), quality=quality)
    with pytest.raises(ValueError, match="0 to 0"):
        rs.encode(picture(64, 64), model(), quality=1)


BROKEN = {
    "no gains": ("gains", lambda t: t[:0], "1 to 64"),
    "gain of 0": ("gains", lambda t: t * 0, "from 1 to"),
    "fewer inverse gains": ("inverse_gains", lambda t: t[:-1], "equally many"),
    "floats": ("z_steps", lambda t: t.float(), "int32"),
    "bias of other channels": ("context_bias", lambda t: t[:, :-1], "context biases of 23"),
    "offsets of a gain missing": ("offsets", lambda t: t[:-1], "not a list for each gain"),
    "offsets of other rows": ("offsets", lambda t: t[:, 1:], "63 offsets for each gain, not one for each of 64"),
    "offsets without rows": ("offsets", lambda t: t[:, 0], "not a list for each gain"),
    "offsets as floats": ("offsets", lambda t: t.double(), "int32"),
    "huge offset": ("offsets", lambda t: t * 0 - (1 << 24) - 1, "an offset is beyond 2\\^24"),
    "z tables, perhaps": ("z_tables", lambda t: int(t), "neither true nor false"),
    "huge bias": ("context_bias", lambda t: t * 0 + (1 << 25), "a context bias is beyond 2\\^24"),
}


@pytest.mark.parametrize(("name", "change", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_gains_are_refused(name, change, reason) -> None:
    parts = model("mbt2018-vbr").parts
    assert parts.gains is not None
    gains = replace(parts.gains, **{name: change(getattr(parts.gains, name))})
    with pytest.raises(rs.UnsupportedModel, match=reason):
        Model(replace(parts, gains=gains))


def test_the_quality_index_is_in_every_digest() -> None:
    """Another index in the header, all CRCs right: no tile may pass."""
    frozen = model("mbt2018-vbr")
    stream = read_stream(rs.encode(picture(128, 64), frozen, tile=64, quality=3))
    header = replace(stream.header, quality=4)
    identity = bytes.fromhex(stream.report.stream_id)
    packets = [build_packet(Kind.HEADER, identity, 0, build_header(header))]
    packets += [
        build_packet(Kind.TILE, identity, index, build_tile(stream.header, identity, tile))
        for index, tile in stream.tiles.items()
    ]
    with pytest.raises(rs.DamagedStream, match="none of the 2 tiles survived"):
        rs.decode(b"".join(packets), frozen)


def test_an_encoder_writes_nothing_its_decoder_refuses() -> None:
    parts = model("mbt2018-vbr").parts
    assert parts.gains is not None
    tiny = Model(replace(parts, gains=replace(parts.gains, z_steps=torch.ones_like(parts.gains.z_steps))))
    out = rs.decode(rs.encode(picture(64, 64), tiny), tiny, strict=True)
    assert out.report.exact
