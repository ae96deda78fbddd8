"""Demands, met and not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from robuststream.container.packets import Mode
from robuststream.transfers.reading import read_stream
from robuststream.views.policy import PolicyError, read_policy
from tests.helpers import sample_header, sample_stream

EXAMPLE = """
# What an archive may ask for.
intact = true
mode = "exact"
colour = ["rgb", "grey"]
quality = 0
parameters_digest = "000102030405060708090a0b0c0d0e0f"
synthesis_digest = ["ffffffffffffffffffffffffffffffff", "101112131415161718191a1b1c1d1e1f"]
min_checkpoints = 3
max_tile = 256
max_pixels = 100_000_000
max_bits_per_pixel = 4.0
"""
REPORT = read_stream(sample_stream(sample_header(checkpoints=3))[2]).report


def test_all_demands_met() -> None:
    assert read_policy(EXAMPLE.encode()).violations(REPORT) == []


@pytest.mark.parametrize(
    ("text", "rule", "message"),
    [
        ("min_parity = 0.10", "POLICY-MIN-PARITY", "0, and the policy has min_parity = 0.1"),
        ('mode = ["native"]', "POLICY-MODE", "exact, and the policy has mode = native"),
        ("max_tile = 31", "POLICY-MAX-TILE", "32, and the policy has max_tile = 31"),
        ("min_checkpoints = 4", "POLICY-MIN-CHECKPOINTS", "3, and the policy has min_checkpoints = 4"),
        ("quality = [1, 2]", "POLICY-QUALITY", "0, and the policy has quality = 1 or 2"),
        ("max_pixels = 6143", "POLICY-MAX-PIXELS", "6144, and the policy has max_pixels = 6143"),
    ],
)
def test_a_demand_not_met(text: str, rule: str, message: str) -> None:
    (violation,) = read_policy(text.encode()).violations(REPORT)
    assert (violation.rule, violation.message) == (rule, message)


def test_damage_mode_and_parity_that_is_only_said() -> None:
    hurt = read_stream(sample_stream()[2] + b"junk").report
    assert [v.rule for v in read_policy(b"intact = true").violations(hurt)] == ["POLICY-INTACT"]
    native = replace(REPORT, header=replace(REPORT.header, mode=Mode.NATIVE))
    assert [v.rule for v in read_policy(b"mode = 'exact'").violations(native)] == ["POLICY-MODE"]
    said = replace(REPORT, header=replace(REPORT.header, parity=100))
    policy = read_policy(b"min_parity = 0.1")
    assert len(policy.violations(said)) == 1
    assert policy.violations(replace(said, packets={**said.packets, "PARITY": 3})) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"min_paritty = 0.1", "'min_paritty' is no demand this release knows: intact, mode"),
        (b"[archive]\nintact = true", "'archive' is no demand"),
        (b"intact = false", "intact has to be true"),
        (b"min_parity = '10 %'", "min_parity has to be a number"),
        (b"max_tile = true", "max_tile has to be a number"),
        (b"mode = 'lossless'", "mode has to be of exact, native"),
        (b"quality = []", "quality has to be a whole number"),
        (b"parameters_digest = 'f2c3'", "parameters_digest has to be of 32 hexadecimal digits"),
        (b"min_parity = ", "no TOML"),
        (b"\xff\xfe", "no TOML"),
    ],
)
def test_a_policy_that_cannot_be_used(text: bytes, words: str) -> None:
    with pytest.raises(PolicyError, match="(?s)^" + words.replace("(", r"\(").replace("[", r"\[")):
        read_policy(text)
