"""Work shared out among threads of our own: kernels, which run without Python's lock, and the stages of a pipeline.

numba's `parallel=True` would end the process where two threads enter it, and does not survive a fork. So kernels are
plain loops over some tiles or rows, and which thread takes which is decided here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
#: Cores that are enough for a stage of a pipeline beside another.
MANY = 4


def threads() -> int:
    """How many may compute at once: one for each core of this process, or fewer where torch is told to use fewer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Who has not asked for torch need not wait for its import.
    told = getattr(sys.modules.get("torch"), "get_num_threads", None)
    return max(1, min(cores, told() if told else cores))


def shares(items: int, work: int, least: int) -> list[slice]:
    """Items cut into a share for each thread; into fewer where a share would be less than `least` of all the `work`."""
    parts = max(1, min(threads(), items, work // least))
    return [slice(items * part // parts, items * (part + 1) // parts) for part in range(parts)]


def at_once(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """What a function makes of each item, all at once. An error is raised when no thread is at work any more."""
    calls = [_Call(partial(function, item)) for item in items]
    try:
        for call in calls[1:]:
            _offer(call)
        return [call.result() for call in calls]
    finally:
        for call in calls:
            call.end()


def ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What a function makes of each item: of the next while the caller is at work on the last.

    So there are three items at most: one that the caller has, one that is worked on, one that is taken from `items`,
    which happens in the caller's thread. An error is raised in the place of its result. With few cores nothing is
    worked on ahead: torch's own threads keep them busy, and one beside them only gets in their way.
    """
    if threads() < MANY:
        yield from map(function, items)
        return
    call: _Call[Result] | None = None
    try:
        for item in items:
            done: list[Result] = [call.result()] if call else []
            call = _Call(partial(function, item))
            _offer(call)
            del item
            while done:
                yield done.pop()
        if call:
            yield call.result()
    finally:
        # A caller that asks for no more may let go of what is worked on.
        if call:
            call.end()


class _Call(Generic[Result]):
    """Made by the first thread that comes: one of the pool, or the one that asks for the result.

    So nobody waits for what nobody does. A call waits for none but those that it made itself, hence in no circle,
    however deep they are nested and however few threads there are.
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._taken = Lock()
        self._future: Future[Result] = Future()

    def __call__(self) -> None:
        if self._taken.acquire(blocking=False):
            try:
                self._future.set_result(self._function())
            except BaseException as error:
                self._future.set_exception(error)

    def result(self) -> Result:
        self()
        return self._future.result()

    def end(self) -> None:
        """Not made if it has not begun; else done when this returns."""
        if not self._taken.acquire(blocking=False):
            self._future.exception()


# --- The pool -------------------------------------------------------------------------------------------------------

_pool: ThreadPoolExecutor | None = None
_making = Lock()


def _offer(call: Callable[[], None]) -> None:
    """Let a thread of the pool make a call, if one is free before the call is made otherwise."""
    global _pool
    try:
        with _making:
            if _pool is None:
                _pool = ThreadPoolExecutor(os.cpu_count(), "robuststream")
        _pool.submit(call)
    except RuntimeError:  # the interpreter ends, or the system gives no more threads
        pass


def _forget() -> None:
    """In a forked child no thread of the pool is left, and a lock may be held by one that is not there."""
    global _pool, _making
    _pool, _making = None, Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
