"""Both directions of a walk against each other, and against the format's rules written out once more."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from robuststream.entropy import rans
from robuststream.entropy.coder import REASONS
from robuststream.entropy.tables import CdfTables
from robuststream.networks.exact import ExactNetwork
from robuststream.networks.floating import FloatingNetwork
from robuststream.networks.graph import Network
from robuststream.networks.narrowing import freeze_exact
from robuststream.priors.factorized import Factorized
from robuststream.priors.gaussian import CHUNKS, Gaussian
from robuststream.priors.hyperprior import Hyperprior, Parallel
from robuststream.priors.walk import (
    DESYNC,
    ENDED,
    DecodingWalk,
    EncodingWalk,
    TileData,
    _packed,
    _unpacked,
    everything,
    z_only,
)
from tests.helpers import random_tables, slow_crc32c, slow_rans
from tests.networks import oracle

NAME = bytes(range(16))
ONE, LIMIT = 1 << 12, 1 << 24
CHANNELS, HYPER_CHANNELS = 2, 3
HEIGHT, WIDTH = 4, 8
THRESHOLDS = [-100, 500, 2000, 5000]


@dataclass
class Coded:
    """What an encoder made of some tiles."""

    prior: object
    tables: CdfTables
    y_hat: torch.Tensor
    data: list[TileData]

    def decode(self, data: list[TileData] | None = None) -> tuple[torch.Tensor, DecodingWalk]:
        walk = DecodingWalk(self.tables, NAME, data or self.data)
        return self.prior.walk(walk, HEIGHT, WIDTH), walk

    def faults(self, data: list[TileData]) -> list[str | None]:
        walk = self.decode(data)[1]
        return [walk.fault(tile) for tile in range(len(data))]


def encode(prior, tables, targets) -> Coded:
    walk = EncodingWalk(tables, NAME, targets)
    y_hat = prior.walk(walk, HEIGHT, WIDTH)
    data = [
        TileData(tile.words, digest, *tile.marks)
        for tile, digest in zip(walk.coder.finish(), walk.digest.values, strict=True)
    ]
    return Coded(prior, tables, y_hat, data)


def hyper_synthesis(means: bool = True) -> Network:
    outputs = CHANNELS * (2 if means else 1)
    return freeze_exact(oracle.small(np.random.default_rng(1), (HYPER_CHANNELS, 5, outputs), gain=1.5))


def hyperprior(means: bool = True) -> tuple[Hyperprior, CdfTables]:
    rng = np.random.default_rng(2)
    analysis = Network("h_a", [oracle.layer(rng, "conv2d", CHANNELS, HYPER_CHANNELS, 5, 4)])
    medians = torch.tensor([0, 1500, -70000], dtype=torch.int32)
    thresholds = torch.tensor(THRESHOLDS, dtype=torch.int32)
    gaussian = Gaussian(thresholds, CHUNKS[0] if means else CHUNKS[2])
    synthesis = ExactNetwork(hyper_synthesis(means))
    prior = Hyperprior(FloatingNetwork(analysis), synthesis, medians, gaussian.rows, 4, Parallel(gaussian))
    return prior, random_tables(rng, len(THRESHOLDS) + 1 + HYPER_CHANNELS)


def random_targets(tiles: int, spread: float = 6.0, seed: int = 3) -> dict[str, torch.Tensor]:
    """Latents on a grid of 2^-8, so that what they round to is beyond dispute."""
    rng = np.random.default_rng(seed)
    shapes = {"y": (tiles, CHANNELS, HEIGHT, WIDTH), "z": (tiles, HYPER_CHANNELS, HEIGHT // 4, WIDTH // 4)}
    return {
        name: torch.from_numpy(np.round(rng.normal(0, spread, shape) * 256) / 256).float()
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def coded() -> Coded:
    return encode(*hyperprior(), random_targets(3))


# --- Against the rules ---------------------------------------------------------------------------------------------


def nearest_symbols(target: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The nearest symbol, halves to even, for which nothing saturates and a decoder accepts it; in exact fractions."""
    symbols = []
    for value, mean in zip(target.ravel().tolist(), means.ravel().tolist(), strict=True):
        low = max(math.ceil(Fraction(-LIMIT - mean, ONE)), -(1 << 13))
        high = min(math.floor(Fraction(LIMIT - mean, ONE)), 1 << 13)
        symbols.append(min(max(round(Fraction(value) - Fraction(mean, ONE)), low), high))
    return np.array(symbols, np.int64).reshape(target.shape)


def steps_by_the_rules(prior_means: bool, targets: dict[str, torch.Tensor]):
    """For each tile the two steps, z and y: symbols, rows and means."""
    medians = np.array([0, 1500, -70000])[:, None, None]
    for tile in range(len(targets["y"])):
        z, y = targets["z"][tile].numpy(), targets["y"][tile].numpy()
        z_means = np.broadcast_to(medians, z.shape)
        z_rows = np.broadcast_to(len(THRESHOLDS) + 1 + np.arange(HYPER_CHANNELS)[:, None, None], z.shape)
        z_symbols = nearest_symbols(z, z_means)
        output = oracle.run(hyper_synthesis(prior_means), (z_symbols * ONE + z_means)[None])[0]
        scales, means = (output[:CHANNELS], output[CHANNELS:]) if prior_means else (output, np.zeros_like(output))
        y_rows = sum((scales > threshold).astype(int) for threshold in THRESHOLDS)
        y_symbols = nearest_symbols(y, means)
        yield (z_symbols, z_rows, z_means), (y_symbols, y_rows, means)


def highest_first(rows: np.ndarray) -> list[int]:
    """Places from the highest row down; Python's sort keeps the order of equal ones."""
    return sorted(range(rows.size), key=lambda place: -int(rows.ravel()[place]))


def by_the_rules(prior_means: bool, targets: dict[str, torch.Tensor], tables: CdfTables):
    """For each tile: y_hat, rANS string, digest."""
    for (z_symbols, z_rows, z_means), (y_symbols, y_rows, means) in steps_by_the_rules(prior_means, targets):
        parameters = NAME
        for rows, centre in ((z_rows, z_means), (y_rows, means)):
            parameters += struct.pack(f"<{rows.size}H", *rows.ravel()) + struct.pack(f"<{rows.size}i", *centre.ravel())
        falling = highest_first(y_rows)
        symbols = np.concatenate([z_symbols.ravel(), y_symbols.ravel()[falling]])
        rows = np.concatenate([z_rows.ravel(), y_rows.ravel()[falling]])
        yield y_symbols * ONE + means, slow_rans(symbols.tolist(), rows.tolist(), tables), slow_crc32c(parameters)


@pytest.mark.parametrize("means", [True, False], ids=["mean and scale", "scale only"])
@pytest.mark.parametrize("spread", [6.0, 3000.0], ids=["usual", "beyond the limits"])
def test_hyperprior_follows_the_rules(means, spread):
    prior, tables = hyperprior(means)
    targets = random_targets(2, spread)
    made = encode(prior, tables, targets)
    for tile, (y_hat, words, digest) in enumerate(by_the_rules(means, targets, tables)):
        assert (made.y_hat[tile].numpy() == y_hat).all()
        assert made.data[tile].words == words
        assert made.data[tile].digest == digest
    decoded, walk = made.decode()
    assert torch.equal(decoded, made.y_hat)
    assert [walk.fault(tile) for tile in range(2)] == [None, None]


def test_the_samples_meet_many_rows_and_means(coded):
    prior, tables = hyperprior()
    rows = set()
    for tile in range(3):
        words = coded.data[tile].words
        walk = DecodingWalk(tables, NAME, [TileData(words, coded.data[tile].digest, coded.data[tile].z_words)])
        real = walk.coder.code
        walk.coder.code = lambda given, *how, real=real: rows.update(given.ravel().tolist()) or real(given, *how)
        prior.walk(walk, HEIGHT, WIDTH)
    assert rows == set(range(len(THRESHOLDS) + 1 + HYPER_CHANNELS))


def test_row_is_the_number_of_thresholds_below_the_scale():
    scales = torch.tensor([-LIMIT, -101, -100, -99, 0, 499, 500, 501, 2000, 2001, 5000, 5001, LIMIT]).double()
    assert Gaussian(torch.tensor(THRESHOLDS), CHUNKS[2]).indexes(scales).tolist() == [
        0,
        0,
        0,
        1,
        1,
        1,
        1,
        2,
        2,
        3,
        3,
        4,
        4,
    ]


def test_factorized_follows_the_rules():
    medians = torch.tensor([300, -5000], dtype=torch.int32)
    tables = random_tables(np.random.default_rng(4), CHANNELS)
    targets = {"y": random_targets(2)["y"]}
    made = encode(Factorized(medians), tables, targets)
    shape = (CHANNELS, HEIGHT, WIDTH)
    rows = np.broadcast_to(np.arange(CHANNELS)[:, None, None], shape).ravel()
    means = np.broadcast_to(medians.numpy()[:, None, None], shape)
    packed = struct.pack(f"<{rows.size}H", *rows) + struct.pack(f"<{rows.size}i", *means.ravel())
    for tile in range(2):
        symbols = nearest_symbols(targets["y"][tile].numpy(), means)
        assert (made.y_hat[tile].numpy() == symbols * ONE + means).all()
        assert made.data[tile] == TileData(
            slow_rans(symbols.ravel().tolist(), rows.tolist(), tables), slow_crc32c(NAME + packed)
        )
    decoded, walk = made.decode()
    assert torch.equal(decoded, made.y_hat)
    assert [walk.fault(tile) for tile in range(2)] == [None, None]


# --- Limits ---------------------------------------------------------------------------------------------------------

EXTREMES = [0.0, -0.0, 4095.5, 4096.0, -4096.0, 4096.5, 8191.75, -8192.0, 8193.0, 1e6, -1e6, 2.0**40, 3e38, -3e38]


def test_extreme_targets_are_limited_so_that_the_decoder_accepts_them():
    prior, tables = hyperprior()
    targets = random_targets(2)
    for latent, target in targets.items():
        flat = target.view(-1)
        count = min(len(EXTREMES), len(flat))
        flat[:count] = torch.tensor(EXTREMES[:count] if latent == "y" else EXTREMES[-count:])
    made = encode(prior, tables, targets)
    decoded, walk = made.decode()
    assert torch.equal(decoded, made.y_hat)
    assert [walk.fault(tile) for tile in range(2)] == [None, None]
    assert int(decoded.abs().max()) > LIMIT - ONE


@pytest.mark.parametrize("mean", [LIMIT, -LIMIT, LIMIT - 1, 1 - LIMIT, ONE // 2, 0])
def test_limits_at_extreme_means(mean):
    """From one end of the range to the other: symbols up to 2^13, and no saturation."""
    prior = Factorized(torch.tensor([mean] * CHANNELS, dtype=torch.int32))
    tables = random_tables(np.random.default_rng(5), CHANNELS)
    target = torch.tensor(EXTREMES + [0.0] * (CHANNELS * HEIGHT * WIDTH - len(EXTREMES)))
    made = encode(prior, tables, {"y": target.reshape(1, CHANNELS, HEIGHT, WIDTH)})
    symbols = nearest_symbols(target.numpy(), np.full(len(target), mean))
    assert made.y_hat.flatten().tolist() == (symbols * ONE + mean).tolist()
    decoded, walk = made.decode()
    assert torch.equal(decoded, made.y_hat)
    assert walk.fault(0) is None


def test_halves_round_to_even():
    prior = Factorized(torch.tensor([0, 0], dtype=torch.int32))
    tables = random_tables(np.random.default_rng(5), CHANNELS)
    target = torch.zeros(CHANNELS * HEIGHT * WIDTH)
    target[:6] = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5])
    made = encode(prior, tables, {"y": target.reshape(1, CHANNELS, HEIGHT, WIDTH)})
    assert (made.y_hat.flatten()[:6] // ONE).tolist() == [0, 2, 2, 0, -2, -2]


# --- Many tiles -----------------------------------------------------------------------------------------------------


def test_tiles_together_equal_tiles_alone(coded):
    prior, tables = hyperprior()
    targets = random_targets(3)
    for tile in range(3):
        alone = encode(prior, tables, {name: target[tile : tile + 1] for name, target in targets.items()})
        assert torch.equal(alone.y_hat[0], coded.y_hat[tile])
        assert alone.data[0] == coded.data[tile]
        decoded, walk = coded.decode([coded.data[tile]])
        assert torch.equal(decoded[0], coded.y_hat[tile])
        assert walk.fault(0) is None


def test_a_faulty_tile_changes_no_other(coded):
    broken = TileData(coded.data[1].words[:-8] + b"\xff" * 8, coded.data[1].digest, coded.data[1].z_words)
    decoded, walk = coded.decode([coded.data[0], broken, coded.data[2]])
    assert walk.fault(1) is not None
    for tile in (0, 2):
        assert torch.equal(decoded[tile], coded.y_hat[tile])
        assert walk.fault(tile) is None


# --- Faults ---------------------------------------------------------------------------------------------------------


def test_a_tile_with_z_only_yields_the_means(coded):
    seam = coded.data[1].z_words
    decoded, walk = coded.decode([coded.data[0], z_only(coded.data[1].words[: 4 * seam]), coded.data[2]])
    assert [walk.fault(tile) for tile in range(3)] == [None, ENDED, None]
    assert torch.equal(decoded[0], coded.y_hat[0])
    targets = random_targets(3)
    medians = np.array([0, 1500, -70000])[:, None, None]
    z_means = np.broadcast_to(medians, targets["z"][1].shape)
    z_hat = nearest_symbols(targets["z"][1].numpy(), z_means) * ONE + z_means
    means = oracle.run(hyper_synthesis(), z_hat[None])[0, CHANNELS:]
    assert (decoded[1].numpy() == means).all()
    assert len(np.unique(means)) > 10


def test_a_tile_that_breaks_off_keeps_the_largest_scales(coded):
    """Every length: a prefix of the coding order is the encoder's, the rest are the means."""
    seam, words = coded.data[1].z_words, coded.data[1].words
    means, _ = coded.decode([coded.data[0], z_only(words[: 4 * seam]), coded.data[2]])
    _, rows, _ = list(steps_by_the_rules(True, random_targets(3)))[1][1]
    falling = highest_first(rows)
    kept_before = 0
    for end in range(seam, len(words) // 4):
        part = replace(coded.data[1], words=words[: 4 * end], partial=True)
        decoded, walk = coded.decode([coded.data[0], part, coded.data[2]])
        assert [walk.fault(tile) for tile in range(3)] == [None, ENDED, None]
        right = (decoded[1] == coded.y_hat[1]).numpy().ravel()[falling]
        concealed = (decoded[1] == means[1]).numpy().ravel()[falling]
        kept = int(np.argmin(right)) if not right.all() else right.size
        assert concealed[kept:].all(), end
        assert kept >= kept_before, end
        kept_before = kept
        assert torch.equal(decoded[[0, 2]], coded.y_hat[[0, 2]])
    assert kept_before > right.size // 2


def test_z_only_counts_its_words():
    assert z_only(bytes(20)) == TileData(bytes(20), None, 5)


def test_wrong_digest_is_desync(coded):
    data = [replace(coded.data[0], digest=coded.data[0].digest ^ 1), *coded.data[1:]]
    assert coded.faults(data) == [DESYNC, None, None]


def test_another_models_digest_is_desync(coded):
    walk = DecodingWalk(coded.tables, bytes(16), coded.data)
    coded.prior.walk(walk, HEIGHT, WIDTH)
    assert [walk.fault(tile) for tile in range(3)] == [DESYNC] * 3


def test_parameters_that_differ_by_one_are_desync(coded):
    """The fault that CompressAI never sees: one median off by 2^-12, every symbol still in range."""
    prior, tables = hyperprior()
    prior._medians = prior._medians + torch.tensor([0, 1, 0], dtype=torch.int32)
    walk = DecodingWalk(tables, NAME, coded.data)
    prior.walk(walk, HEIGHT, WIDTH)
    assert all(walk.fault(tile) is not None for tile in range(3))


def test_words_that_end_too_soon(coded):
    reason = REASONS[rans.TRUNCATED]
    for words in (0, 1, 2, coded.data[0].z_words - 1, len(coded.data[0].words) // 4 - 1):
        data = [replace(coded.data[0], words=coded.data[0].words[: 4 * words]), *coded.data[1:]]
        assert coded.faults(data) == [reason, None, None], words


def test_words_too_many(coded):
    data = [replace(coded.data[0], words=coded.data[0].words + bytes(4)), *coded.data[1:]]
    assert "does not end where" in coded.faults(data)[0]


@pytest.mark.parametrize("shift", [-1, 1])
def test_seam_in_another_place(coded, shift):
    data = [replace(coded.data[0], z_words=coded.data[0].z_words + shift), *coded.data[1:]]
    assert coded.faults(data) == [REASONS[rans.SEAM], None, None]


def test_no_flipped_bit_before_the_seam_passes(coded):
    """The checkpoint's CRC is not even asked: seam, digest and end state tell every one of them.

    Behind the seam they need not: a bypass digit of y moves no state, and only the container's CRC sees it change.
    """
    words = coded.data[0].words
    for bit in range(8 * 4 * coded.data[0].z_words):
        flipped = bytearray(words)
        flipped[bit // 8] ^= 1 << bit % 8
        assert coded.faults([replace(coded.data[0], words=bytes(flipped))]) != [None], bit


def test_every_fault_is_one_line(coded):
    assert all(reason and "\n" not in reason for reason in (DESYNC, ENDED, *REASONS.values()))


# --- Steps ----------------------------------------------------------------------------------------------------------


class Checkerboard:
    """A prior as those to come: two steps of one latent, the second with means from the first."""

    hyper_factor = 1
    has_z = False

    def walk(self, walk, height, width):
        def even(latent):
            return latent.reshape(len(latent), CHANNELS, -1)[..., ::2]

        def odd(latent):
            return latent.reshape(len(latent), CHANNELS, -1)[..., 1::2]

        shape = (walk.tiles, CHANNELS, height * width // 2)
        first = walk.code("y", even, torch.zeros(shape, dtype=torch.int64), torch.zeros(()))
        rows = 1 + (first.abs() > 3 * ONE).long()
        second = walk.code("y", odd, rows, first // 2)
        return torch.stack([first, second], dim=-1).reshape(walk.tiles, CHANNELS, height, width)


def test_a_prior_of_several_steps_goes_both_ways():
    tables = random_tables(np.random.default_rng(6), 3)
    targets = {"y": random_targets(3)["y"]}
    made = encode(Checkerboard(), tables, targets)
    assert ((made.y_hat / ONE - targets["y"]).abs() <= 0.5).all()
    decoded, walk = made.decode()
    assert torch.equal(decoded, made.y_hat)
    assert [walk.fault(tile) for tile in range(3)] == [None] * 3


@pytest.mark.parametrize("wrong", [0, 1])
def test_native_digests_are_compared_before_their_symbols(wrong):
    """From the step on whose digest differs every symbol is 0."""
    tables = random_tables(np.random.default_rng(6), 3)
    prior, targets = Checkerboard(), {"y": random_targets(1)["y"]}
    walk = EncodingWalk(tables, NAME, targets, native_steps=2)
    y_hat = prior.walk(walk, HEIGHT, WIDTH).reshape(CHANNELS, -1, 2)
    digests = walk.digests(0)
    words = walk.coder.finish()[0].words

    def decode(*stored: int) -> tuple[torch.Tensor, str | None]:
        walk = DecodingWalk(tables, NAME, [TileData(words, stored[-1], earlier=stored[:-1])], native_steps=2)
        return prior.walk(walk, HEIGHT, WIDTH).reshape(CHANNELS, -1, 2), walk.fault(0)

    decoded, fault = decode(*digests)
    assert torch.equal(decoded, y_hat)
    assert fault is None
    decoded, fault = decode(*(digest ^ (number == wrong) for number, digest in enumerate(digests)))
    first = y_hat[..., 0] if wrong else torch.zeros_like(y_hat[..., 0])
    assert torch.equal(decoded, torch.stack([first, first // 2], dim=-1))
    assert fault == DESYNC
    for stored in (digests[:1], digests[1:], (*digests, digests[-1])):
        assert decode(*stored)[1] == DESYNC


def test_coding_order_is_the_memory_order_of_a_step_whatever_the_strides():
    tables = random_tables(np.random.default_rng(7), 2)
    targets = {"y": random_targets(1)["y"]}

    def coded_words(rows: torch.Tensor, means: torch.Tensor) -> bytes:
        walk = EncodingWalk(tables, NAME, targets)
        walk.code("y", everything, rows, means)
        return walk.coder.finish()[0].words

    rows = torch.from_numpy(np.random.default_rng(8).integers(0, 2, (1, CHANNELS, HEIGHT, WIDTH)))
    means = torch.arange(rows.numel()).reshape(rows.shape) * 100
    turned = (rows.transpose(2, 3).contiguous().transpose(2, 3), means.transpose(1, 3).contiguous().transpose(1, 3))
    assert not turned[0].is_contiguous()
    assert coded_words(*turned) == coded_words(rows, means)


def test_rows_and_means_in_one_transfer():
    """As they come from a device: rows are of 16 bits without a sign, means of 32 with one."""
    rows = torch.tensor([[0, 1, 255, 256], [32767, 32768, 40000, 65535]], dtype=torch.int32)
    means = torch.tensor([[0, -1, 1, 1 << 24], [-(1 << 24), 4096, -4096, 255]], dtype=torch.float64)
    packed = _packed(rows, means)
    assert (packed.dtype, len(packed)) == (torch.uint8, 6 * 8)
    row_array, mean_array = _unpacked(packed, rows.shape)
    assert row_array.dtype == np.uint16
    assert row_array.tolist() == rows.tolist()
    assert mean_array.dtype == torch.float64
    assert mean_array.tolist() == means.tolist()
