"""Both checksums against their published check values, each other's kernels, and a bit-by-bit computation."""

from __future__ import annotations

import binascii
import importlib
import sys

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream import checksum
from tests.helpers import slow_crc16, slow_crc32c

DATA = st.binary(max_size=300)


def test_check_values():
    assert checksum.crc32c(b"123456789") == 0xE3069283
    assert checksum.crc16(b"123456789") == 0x29B1
    assert checksum.crc32c(b"") == 0
    assert checksum.crc16(b"") == 0xFFFF


def test_vectors_of_rfc_3720():
    """iSCSI, appendix B.4."""
    assert checksum.crc32c(bytes(32)) == 0x8A9136AA
    assert checksum.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert checksum.crc32c(bytes(range(32))) == 0x46DD794E


@given(DATA, st.integers(0, 2**32 - 1))
def test_all_crc32c_kernels_are_equal(data, seed):
    expected = slow_crc32c(data, seed)
    assert checksum.crc32c(data, seed) == expected
    assert checksum.crcmod_crc32c(data, seed) == expected
    assert google_crc32c.extend(seed, data) == expected


@given(DATA)
def test_all_crc16_kernels_are_equal(data):
    expected = slow_crc16(data)
    assert checksum.crc16(data) == expected
    assert checksum.crcmod_crc16(data) == expected
    assert binascii.crc_hqx(data, 0xFFFF) == expected


@given(DATA, DATA)
def test_crc_goes_on_from_what_came_before(first, second):
    assert checksum.crc32c(second, checksum.crc32c(first)) == checksum.crc32c(first + second)


@given(DATA, st.binary(max_size=3000), st.integers(0, 2**32 - 1))
def test_shift_joins_two_crcs(first, second, seed):
    left = checksum.crc32c(first, seed)
    assert checksum.crc32c_shift(left, len(second)) ^ checksum.crc32c(second) == checksum.crc32c(first + second, seed)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**40), st.integers(0, 2**40))
def test_shifts_add_up(crc, first, second):
    """Also far beyond any length that could be summed byte by byte."""
    shifted_twice = checksum.crc32c_shift(checksum.crc32c_shift(crc, first), second)
    assert shifted_twice == checksum.crc32c_shift(crc, first + second)


def test_shift_by_nothing_changes_nothing():
    assert checksum.crc32c_shift(0xDEADBEEF, 0) == 0xDEADBEEF


@pytest.fixture
def without_google(monkeypatch):
    """The module as it is where google-crc32c is not installed."""
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    spec = importlib.util.find_spec("robuststream.checksum")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_google_crc32c_crcmod_does_it(without_google):
    assert without_google.kernel.startswith("crcmod")
    assert without_google.crc32c(b"123456789") == 0xE3069283
    assert without_google.crc32c(b"6789", without_google.crc32c(b"12345")) == 0xE3069283
