"""Many pictures or streams at once, of which one that fails need not end the others."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, Literal, TypeVar

from robuststream.errors import RobustStreamError
from robuststream.files.sources import in_memory

OnError = Literal["raise", "return"]
Item = TypeVar("Item")
Part = TypeVar("Part")
Result = TypeVar("Result")
#: Errors that one item of many may have. Other errors are faults of the call, and end it.
Failure = RobustStreamError | OSError


class Batch(Generic[Result]):
    """What becomes of each item, by its number: a result in `done`, or the error that ended it.

    Args:
        on_error: "raise": the first error ends all. "return": it is kept in the place of a result.

    Raises:
        ValueError: `on_error` is something else.
    """

    def __init__(self, on_error: OnError = "raise") -> None:
        if on_error not in ("raise", "return"):
            raise ValueError(f"on_error {on_error!r} is not known: use 'raise' or 'return'")
        self._raises = on_error == "raise"
        self.done: dict[int, Result] = {}
        self.failed: dict[int, Failure] = {}

    @contextmanager
    def item(self, number: int) -> Iterator[None]:
        """An error inside ends this item, and says that it is about it."""
        try:
            yield
        except RobustStreamError as error:
            named = type(error)(f"picture {number}: {error}")
            if self._raises:
                raise named from error
            self.failed[number] = _without_frames(named)
        except OSError as error:
            if self._raises:
                raise
            self.failed[number] = _without_frames(error)

    def each(self, items: Iterable[Any], work: Callable[[Any], Part]) -> Iterator[tuple[int, Part]]:
        """What becomes of each item by itself, when it is asked for; those that fail are passed over."""
        for number, item in enumerate(items):
            made = []
            with self.item(number):
                made = [work(item)]
            del item
            if made:
                yield number, made.pop()

    def together(self, items: Mapping[int, Item], work: Callable[[Sequence[Item]], Sequence[Part]]) -> dict[int, Part]:
        """Work that all items do together, or one by one where one of them fails: then the others have theirs."""
        try:
            return dict(zip(items, work(list(items.values())), strict=True))
        except (RobustStreamError, OSError):
            parts = {}
            for number, item in items.items():
                with self.item(number):
                    (parts[number],) = work([item])
            return parts

    def results(self) -> list[Any]:
        """Results and kept errors in the items' order."""
        return [item for _, item in sorted((self.done | self.failed).items(), key=lambda pair: pair[0])]


def runs(
    items: Iterable[tuple[int, Item]], size_and_kind: Callable[[Item], tuple[int, Hashable]], most: int
) -> Iterator[dict[int, Item]]:
    """Items that follow each other, are of one kind, and have no more than the `most` size in all, unless one alone
    has more; each run is given as soon as it is known to be over."""
    run: dict[int, Item] = {}
    total, before = 0, None
    for number, item in items:
        size, kind = size_and_kind(item)
        if run and (kind != before or total + size > most):
            yield run
            run, total = {}, 0
        run[number] = item
        total, before = total + size, kind
    if run:
        yield run


def refuse_single(items: Any, what: str) -> None:
    """Raises TypeError for one picture or stream where many are asked for, as it may be one of many by its parts."""
    single = isinstance(items, (str, bytes)) or hasattr(items, "read") or not isinstance(items, Iterable)
    if not single:
        try:
            single = in_memory(items) is not None
        except TypeError:  # an array of several dimensions, or of paths
            single = False
    if single:
        raise TypeError(f"a {type(items).__name__} is not many {what}: give a list of them, or a generator")


def _without_frames(error: Failure) -> Failure:
    """The error without its traceback: frames hold pictures and tensors, which would stay in memory with it."""
    links: list[BaseException] = [error]
    for link in links:
        link.__traceback__ = None
        links += {other for other in (link.__cause__, link.__context__) if other is not None} - set(links)
    return error
