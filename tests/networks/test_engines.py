"""Every engine gives the integers of the definition; int8 kernels only because one factor is narrow."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robuststream.networks.engines import BANDS, ENGINES, banded, bands_of, value_limbs
from robuststream.networks.fixedpoint import LIMITS, WEIGHT_LIMIT

CPU = torch.device("cpu")
#: Settings that make another machine of this one, to be set before a process starts.
MACHINES: dict[str, dict[str, str]] = {
    "itself": {},
    "AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
}


@pytest.mark.parametrize("name", ENGINES)
@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 70),
    st.sampled_from([1, 3, 8, 75, 2047, 2048, 2049, 4500]),
    st.integers(1, 20),
    st.sampled_from([100, LIMITS[16], LIMITS[24]]),
    st.booleans(),
)
def test_sums_are_those_of_int64(name, seed, rows, inner, outputs, limit, extreme):
    rng = np.random.default_rng(seed)
    columns = rng.integers(-limit, limit + 1, (rows, inner))
    weight = rng.integers(-WEIGHT_LIMIT, WEIGHT_LIMIT + 1, (inner, outputs))
    if extreme:
        columns, weight = np.where(columns < 0, -limit, limit), np.where(weight < 0, -WEIGHT_LIMIT, WEIGHT_LIMIT)
    engine = ENGINES[name]
    prepared = engine.prepare(torch.from_numpy(weight).to(torch.int16), CPU)
    sums = engine.sums(torch.from_numpy(columns).to(torch.int32), prepared)[:, :outputs]
    assert sums.dtype == torch.int64
    assert (sums.numpy() == columns @ weight).all()


def test_limbs_of_values_give_them_back():
    values = torch.tensor([0, 1, -1, 127, 128, -128, -129, 32639, 32640, -32640, LIMITS[24], -LIMITS[24]])
    for count in range(1, len(values) + 1):
        limbs = list(value_limbs(values[:count].to(torch.int32)))
        assert all(limb.dtype == torch.int8 for _, limb in limbs)
        assert sum(limb.long() << place for place, limb in limbs).tolist() == values[:count].tolist()
    assert len(list(value_limbs(torch.tensor([LIMITS[16], -LIMITS[16]], dtype=torch.int32)))) == 2


def test_rows_are_made_up_to_a_few_bands():
    rows = (0, 1, 32, 33, 700, 2048, 2049, 5000)
    assert [banded(number, 2048) for number in rows] == [0, 32, 32, 64, 1024, 2048, 2080, 5120]
    assert {banded(number, 512) % 512 for number in range(1, 5000)} <= {0, *BANDS}


def test_long_sums_have_smaller_bands():
    """A small model file must not make large matrices: a kernel of 31 x 31 over 2,000 channels has two million taps."""
    assert bands_of(1152, 768) == bands_of(5600, 640) == list(BANDS)
    assert bands_of(1 << 17, 1) == [32, 64, 128]
    assert bands_of(1, 1 << 16) == [32]
    assert bands_of(31 * 31 * 2000, 1) == [32]
    for name in ("int8", "float64"):
        engine = ENGINES[name]
        weight = torch.full((1 << 17, 1), -3, dtype=torch.int16)
        columns = torch.full((40, 1 << 17), 7, dtype=torch.int32)
        assert (engine.sums(columns, engine.prepare(weight, CPU))[:, :1] == -21 << 17).all()


#: Of each pair: whether all sums of products of such limbs are right.
PRODUCTS = """
import torch
torch.backends.mkldnn.set_flags({onednn})
for first, second in {pairs}:
    a, b = torch.full((512, 1152), first, dtype=torch.int8), torch.full((1152, 128), second, dtype=torch.int8)
    print(bool((torch._int_mm(a, b) == first * second * 1152).all()))
"""


def right_products(pairs: list[tuple[int, int]], machine: str, onednn: bool = True) -> list[bool]:
    program = PRODUCTS.format(pairs=pairs, onednn=onednn)
    child = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | MACHINES[machine], capture_output=True, text=True, check=True
    )
    return [line == "True" for line in child.stdout.split()]


@pytest.mark.parametrize("onednn", [True, False], ids=["oneDNN", "without"])
@pytest.mark.parametrize("machine", MACHINES)
def test_a_narrow_second_factor_is_exact_on_every_machine(machine, onednn):
    pairs = [(-128, -64), (-128, 63), (127, -64), (127, 63)]
    assert right_products(pairs, machine, onednn) == [True] * 4


def test_a_wide_second_factor_is_wrong_without_vnni():
    """Why limbs are so narrow. If this ever passes everywhere, they may be wider."""
    if "avx2" not in numpy_features():
        pytest.skip("this processor has no AVX2, so oneDNN has no such kernel to try")
    assert right_products([(127, 127), (63, 127)], "AVX2") == [False, False]


def numpy_features() -> set[str]:
    """Of this processor, as NumPy found them."""
    found = np.core._multiarray_umath.__cpu_features__
    return {name.lower() for name, there in found.items() if there}
