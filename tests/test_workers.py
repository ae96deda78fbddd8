"""Work shared out among threads: what comes out, in which order, and that nothing waits for ever or goes on unseen."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import robuststream as rs
from robuststream import workers
from robuststream.entropy import coder
from robuststream.entropy.coder import TileDecoder, TileEncoder
from robuststream.workers import ahead, at_once, shares
from tests.helpers import random_tables


@pytest.fixture(autouse=True)
def _many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipelines as where cores are many, on any machine."""
    monkeypatch.setattr(workers, "MANY", 1)


#: Nothing here takes so long, unless a thread waits for ever.
PATIENCE = 60


@pytest.fixture(params=[1, 2, 8])
def several(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """As on a machine of so many cores, where any work is worth a thread."""
    monkeypatch.setattr(workers, "threads", lambda: request.param)
    monkeypatch.setattr(coder, "LEAST", 1)
    return int(request.param)


def test_threads_are_this_processs_cores_or_fewer_where_torch_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5, 7}, raising=False)
    for told, expected in ((1, 1), (2, 2), (4, 4), (64, 4)):
        monkeypatch.setattr(torch, "get_num_threads", lambda told=told: told)
        assert workers.threads() == expected
    monkeypatch.delitem(sys.modules, "torch")
    assert workers.threads() == 4
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert workers.threads() == 1


def test_shares_are_all_items_once(several: int) -> None:
    for items in range(20):
        cut = shares(items, work=100 * items, least=300)
        assert [place for share in cut for place in range(items)[share]] == list(range(items))
        assert len(cut) == max(1, min(several, items // 3))


# --- At once ----------------------------------------------------------------------------------------------------------


def test_results_stand_in_the_order_of_their_items() -> None:
    assert at_once(lambda item: item * item, range(100)) == [item * item for item in range(100)]
    assert at_once(str, []) == []


def test_they_are_at_once() -> None:
    """Each waits for the other: alone none would end."""
    both = threading.Barrier(2, timeout=PATIENCE)
    assert sorted(at_once(lambda _: both.wait(), range(2))) == [0, 1]


def test_nested_deeper_than_there_are_threads() -> None:
    def total(depth: int) -> int:
        return sum(at_once(total, [depth - 1] * 3)) if depth else 1

    assert at_once(total, [4, 5]) == [3**4, 3**5]


def test_an_error_is_raised_when_no_thread_is_at_work() -> None:
    begun, ended = threading.Event(), []

    def work(item: int) -> None:
        if item == 0:
            assert begun.wait(PATIENCE)
            raise KeyError(item)
        begun.set()
        ended.append(item)

    with pytest.raises(KeyError):
        at_once(work, [0, 1])
    assert ended == [1]


def test_without_another_thread_all_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def submit(self, call: object) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(workers, "_pool", Full())
    where = at_once(lambda _: threading.get_ident(), range(5))
    assert where == [threading.get_ident()] * 5
    assert list(ahead(lambda _: threading.get_ident(), range(5))) == where


# --- Ahead ------------------------------------------------------------------------------------------------------------


def test_the_next_is_at_work_while_the_last_is_used() -> None:
    begun = [threading.Event() for _ in range(4)]

    def work(number: int) -> int:
        begun[number].set()
        return number

    for number in ahead(work, range(3)):
        assert number == 2 or begun[number + 1].wait(PATIENCE)
    assert list(ahead(work, [])) == []


def test_no_more_than_three_are_held() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(9):
            taken.append(number)
            yield number

    for number in ahead(lambda item: item, items()):
        assert len(taken) <= number + 2


def test_an_error_stands_in_the_place_of_its_result() -> None:
    results = ahead(lambda item: 6 // item, [3, 2, 0, 1])
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_caller_that_goes_leaves_nothing_at_work() -> None:
    done, begun = [], threading.Event()

    def work(item: int) -> int:
        if item:
            begun.set()
        done.append(item)
        return item

    results = ahead(work, range(9))
    next(results)
    assert begun.wait(PATIENCE)
    results.close()
    assert done == [0, 1]


# --- Tiles ------------------------------------------------------------------------------------------------------------


def coded(tiles: int = 7) -> list[object]:
    """Words of some steps, their marks, what is decoded from them, and from damaged ones."""
    rng = np.random.default_rng(tiles)
    tables = random_tables(rng, 5)
    rows = rng.integers(0, 5, (2, tiles, 40)).astype(np.uint16)
    symbols = rng.integers(-30, 30, rows.shape).astype(np.int32)
    encoder = TileEncoder(tables, tiles)
    for step in range(2):
        encoder.code(rows[step], symbols[step], by_scale=step > 0)
        encoder.mark()
    strings = [tile.words for tile in encoder.finish()]
    whole, broken = (
        TileDecoder(tables, given, [False] * tiles)
        for given in (strings, [words[: 4 * (8 + number)] for number, words in enumerate(strings)])
    )
    decoded = [decoder.code(rows[step], step > 0).tolist() for decoder in (whole, broken) for step in range(2)]
    assert decoded[:2] == symbols.tolist()
    assert whole.complete().all()
    return [strings, decoded, broken.status.tolist()]


EXPECTED = coded()


def test_any_number_of_threads_gives_the_same(several: int) -> None:
    assert coded() == EXPECTED
    assert at_once(lambda _: coded(), range(3)) == [EXPECTED] * 3


def test_two_threads_at_once(several: int) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: coded(), range(20))) == [EXPECTED] * 20


def test_a_value_that_cannot_be_coded_is_an_error_in_whatever_thread(several: int) -> None:
    tables = random_tables(np.random.default_rng(1), 2)
    encoder = TileEncoder(tables, 8)
    symbols = np.zeros((8, 3), np.int32)
    symbols[6] = 2**31 - 1
    encoder.code(np.zeros((8, 3), np.uint16), symbols)
    with pytest.raises(ValueError, match="7 bypass digits"):
        encoder.finish()


# --- Processes --------------------------------------------------------------------------------------------------------


def run(code: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10 * PATIENCE).stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_children_have_a_pool_of_their_own() -> None:
    """Forked while the parent's threads are there, and while one of them holds the lock around making the pool."""
    said = run("""
import os
from threading import Barrier
from robuststream import workers
workers.threads = lambda: 2
def both():
    meet = Barrier(2, timeout=60)
    return sorted(workers.at_once(lambda _: meet.wait(), range(2)))
assert both() == [0, 1]
workers._making.acquire()
children = []
for number in range(3):
    child = os.fork()
    if not child:
        os._exit(7 if both() == [0, 1] else 1)
    children.append(child)
workers._making.release()
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], both())
""")
    assert said == "[7, 7, 7] [0, 1]\n"


def test_at_the_interpreters_end_all_is_done_where_it_is_asked_for() -> None:
    said = run("""
import atexit, threading
from robuststream import workers
def late():
    print(workers.at_once(lambda item: item + 1, [1, 2, 3]), list(workers.ahead(str, [1, 2])))
atexit.register(late)
threading._register_atexit(late)
late()
""")
    assert said == "[2, 3, 4] ['1', '2']\n" * 3


def test_streams_are_the_same_with_any_number_of_threads(several: int) -> None:
    from tests.small import model, picture

    image = picture(200, 300)
    data = rs.encode(image, model(), tile=64)
    out = rs.decode(data, model())
    assert out.report.exact
    assert rs.encode_batch([image] * 3, model(), tile=64) == [data] * 3


def test_with_few_cores_nothing_is_worked_on_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MANY", workers.threads() + 1)
    order: list[str] = []

    def work(item: int) -> int:
        order.append(f"made {item}")
        return item

    for item in workers.ahead(work, range(3)):
        order.append(f"used {item}")
    assert order == ["made 0", "used 0", "made 1", "used 1", "made 2", "used 2"]
