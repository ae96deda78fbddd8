"""What all injectors share: the seed decides, they compose, they refuse what cannot be done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given

from robuststream import faults, testing
from robuststream.faults import GilbertElliott
from tests.faults.common import DATA
from tests.helpers import sample_header, sample_stream

STREAM = sample_stream(words=40)[2]
OTHER = sample_stream(sample_header(40, 30), seed=2)[2]
CHANNEL = GilbertElliott(to_bad=0.01, to_good=0.1)

#: Of a stream, by its seed: each of these changes something.
DAMAGES: dict[str, Callable[[bytes, int], bytes]] = {
    "bits": lambda data, seed: faults.flip_bits(data, seed=seed, count=9),
    "rate": lambda data, seed: faults.flip_bits(data, seed=seed, rate=1e-2),
    "channel, bits": lambda data, seed: faults.channel_errors(data, seed=seed, channel=CHANNEL),
    "channel, bytes": lambda data, seed: faults.channel_errors(data, seed=seed, channel=CHANNEL, unit="bytes"),
    "burst": lambda data, seed: faults.burst(data, seed=seed, length=20, count=2),
    "sectors": lambda data, seed: faults.zero_sectors(data, seed=seed, count=2, size=32),
    "delete": lambda data, seed: faults.delete(data, seed=seed, length=9, count=2),
    "insert": lambda data, seed: faults.insert(data, seed=seed, length=9, count=2),
    "lost": lambda data, seed: faults.lose_datagrams(data, seed=seed, mtu=50, rate=0.3),
    "zeroed": lambda data, seed: faults.lose_datagrams(data, seed=seed, mtu=50, rate=0.3, lost="zeroed"),
    "lost in bursts": lambda data, seed: faults.lose_datagrams(data, seed=seed, mtu=9, channel=CHANNEL),
    "duplicate": lambda data, seed: faults.duplicate(data, seed=seed, count=3),
    "duplicate datagrams": lambda data, seed: faults.duplicate(data, seed=seed, count=3, mtu=50),
    "reorder": lambda data, seed: faults.reorder(data, seed=seed, count=4),
    "reorder datagrams": lambda data, seed: faults.reorder(data, seed=seed, count=4, mtu=50),
    "splice": lambda data, seed: faults.splice(data, other=OTHER, seed=seed, count=2),
    "splice bytes": lambda data, seed: faults.splice(data, other=OTHER, seed=seed, count=2, length=30),
    "tiles": lambda data, seed: faults.drop_tiles(data, seed=seed, count=3),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_the_seed_decides(name: str) -> None:
    damage = DAMAGES[name]
    before = bytes(STREAM)
    results = [damage(STREAM, seed) for seed in range(5)]
    assert results == [damage(STREAM, seed) for seed in range(5)]
    # Of chances like these at most two may meet.
    assert len(set(results)) >= 4
    assert before == STREAM


def test_every_injector_is_tried_here() -> None:
    tried = {name for damage in DAMAGES.values() for name in damage.__code__.co_names}
    seedless = {"truncate", "cut_start", "drifted", "GilbertElliott", "ETHERNET_MTU"}
    assert tried - {"faults"} >= set(faults.__all__) - seedless


@given(testing.streams(), testing.steps(), testing.steps())
def test_pure_and_composable(data: bytes, first: testing.Step, second: testing.Step) -> None:
    before = bytes(bytearray(data))
    once = first(data)
    assert data == before
    assert first(data) == once
    assert testing.Damage((first, second))(data) == testing.Damage((second,))(once)


def test_composition_by_hand() -> None:
    hurt = faults.truncate(faults.flip_bits(STREAM, seed=1, count=8 * len(STREAM)), 100)
    assert hurt == bytes(byte ^ 0xFF for byte in STREAM[:100])


def test_empty_data() -> None:
    assert faults.flip_bits(b"", seed=1, rate=0.5) == b""
    assert faults.channel_errors(b"", seed=1, channel=CHANNEL) == b""
    assert faults.burst(b"", seed=1, length=5) == b""
    assert faults.zero_sectors(b"", seed=1) == b""
    assert faults.truncate(b"", 3) == b""
    assert faults.cut_start(b"", length=3) == b""
    assert faults.delete(b"", seed=1, length=3) == b""
    assert len(faults.insert(b"", seed=1, length=3)) == 3
    assert faults.lose_datagrams(b"", seed=1, rate=0.5) == b""
    assert faults.duplicate(b"", seed=1, count=0) == b""
    assert faults.reorder(b"", seed=1, count=0) == b""
    assert faults.splice(b"", other=OTHER, seed=1, count=1) != b""
    assert faults.drop_tiles(b"", count=0) == b""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: faults.flip_bits(DATA, seed=1), "either a count"),
        (lambda: faults.flip_bits(DATA, seed=1, count=1, rate=0.1), "either a count"),
        (lambda: faults.flip_bits(DATA, seed=1, count=-1), "-1 bits"),
        (lambda: faults.flip_bits(DATA, seed=1, count=8 * len(DATA) + 1), "40001 bits"),
        (lambda: faults.flip_bits(DATA, seed=1, rate=1.1), "rate of 1.1"),
        (lambda: faults.flip_bits(DATA, seed=1, rate=float("nan")), "rate of nan"),
        (lambda: faults.flip_bits(DATA, seed=-1, count=1), "a seed of -1"),
        (lambda: faults.channel_errors(DATA, seed=1, channel=CHANNEL, unit="words"), "'words'"),
        (lambda: faults.burst(DATA, seed=1, length=-1), "-1 bytes"),
        (lambda: faults.burst(DATA, seed=1, length=1, count=-1), "-1 bursts"),
        (lambda: faults.zero_sectors(DATA, seed=1, count=-1), "-1 sectors"),
        (lambda: faults.zero_sectors(DATA, seed=1, size=0), "0 bytes"),
        (lambda: faults.truncate(DATA, -1), "-1 bytes"),
        (lambda: faults.cut_start(DATA, length=-1), "-1 bytes"),
        (lambda: faults.delete(DATA, seed=1, length=-1), "-1 bytes"),
        (lambda: faults.delete(DATA, seed=1, length=1, count=-2), "-2 runs"),
        (lambda: faults.insert(DATA, seed=1, length=-1), "-1 bytes"),
        (lambda: faults.insert(DATA, seed=1, length=1, count=-2), "-2 runs"),
        (lambda: faults.lose_datagrams(DATA, seed=1), "either a rate"),
        (lambda: faults.lose_datagrams(DATA, seed=1, rate=0.1, channel=CHANNEL), "either a rate"),
        (lambda: faults.lose_datagrams(DATA, seed=1, rate=-0.1), "-0.1"),
        (lambda: faults.lose_datagrams(DATA, seed=1, rate=0.1, mtu=0), "0 bytes"),
        (lambda: faults.lose_datagrams(DATA, seed=1, rate=0.1, lost="burnt"), "'burnt'"),
        (lambda: faults.duplicate(DATA, seed=1), "1 pieces cannot be doubled, there are 0"),
        (lambda: faults.duplicate(STREAM, seed=1, count=12), "there are 11"),
        (lambda: faults.duplicate(DATA, seed=1, count=-1, mtu=50), "-1 pieces"),
        (lambda: faults.duplicate(DATA, seed=1, mtu=-50), "-50 bytes"),
        (lambda: faults.reorder(STREAM, seed=1, count=12), "there are 11"),
        (lambda: faults.reorder(STREAM, seed=1, count=1), "2 or more"),
        (lambda: faults.reorder(STREAM, seed=1, count=-2), "-2 pieces"),
        (lambda: faults.reorder(STREAM, seed=1, mtu=0), "0 bytes"),
        (lambda: faults.splice(STREAM, other=DATA, seed=1), "there are 0"),
        (lambda: faults.splice(STREAM, other=STREAM, seed=1, count=12), "there are 11"),
        (lambda: faults.splice(DATA, other=DATA[:9], seed=1, length=10), "another stream of 9"),
        (lambda: faults.splice(DATA, other=DATA, seed=1, length=-1), "-1 bytes"),
        (lambda: faults.splice(DATA, other=DATA, seed=1, length=1, count=-1), "-1 runs"),
        (lambda: faults.drop_tiles(DATA), "either a count"),
        (lambda: faults.drop_tiles(DATA, count=1, tiles=[1]), "either a count"),
        (lambda: faults.drop_tiles(DATA, count=-1), "-1 tiles"),
        (lambda: faults.drop_tiles(STREAM, count=7), "the stream has 6"),
    ],
)
def test_refused(call: Callable[[], bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("module", ["faults", "testing"])
def test_imports_no_torch(module: str) -> None:
    code = f"import sys, robuststream.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
