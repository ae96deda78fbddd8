"""How many thresholds lie below, against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robuststream import workers
from robuststream.priors import thresholds as module
from robuststream.priors.thresholds import Thresholds

ASCENDING = st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(0, 99), max_size=70).map(sorted)
INTEGERS = st.integers(-(2**25), 2**25) | st.integers(-9, 99)


def agree(thresholds: list[int], scales: torch.Tensor) -> None:
    ascending = torch.tensor(thresholds, dtype=torch.int32)
    expected = torch.bucketize(scales.contiguous(), ascending.double())
    assert torch.equal(Thresholds(ascending).below(scales).long(), expected)


@given(ASCENDING, st.lists(INTEGERS, max_size=30))
def test_integers(thresholds: list[int], scales: list[int]) -> None:
    near = [threshold + step for threshold in thresholds for step in (-1, 0, 1)]
    agree(thresholds, torch.tensor(scales + near, dtype=torch.float64))


@given(ASCENDING, st.lists(st.floats(allow_nan=False), max_size=30))
def test_any_numbers(thresholds: list[int], scales: list[float]) -> None:
    """As native mode has them: infinite, denormal, between the thresholds by the least there is."""
    near = [np.nextafter(threshold, way) for threshold in thresholds for way in (-np.inf, np.inf)]
    agree(thresholds, torch.tensor([*scales, *near], dtype=torch.float64))


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_in_threads_and_in_any_order_of_memory(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "threads", lambda: threads)
    monkeypatch.setattr(module, "LEAST", 10)
    rng = np.random.default_rng(threads)
    scales = torch.from_numpy(np.floor(np.exp(rng.normal(8, 2, (3, 5, 7)))))
    for given_ in (scales, scales.transpose(0, 2), scales[:, ::2], scales[:0], scales.float()):
        agree([0, 400, 451, 510, 2000, 2000, 9000], given_.double())
