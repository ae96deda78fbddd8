"""Compiled kernels on disk. They only save time: nothing that is wrong with them may stop a decode, or change one.

numba's own cache unpickles whatever stands in its files. Here each entry stands behind a checksum, and what is damaged,
or cannot be read or written, is compiled anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.runtime.nrt import rtsys
from numba.core.serialize import dumps

from robuststream.files.writing import write_file

log = logging.getLogger(__name__)

DIGEST_BYTES = 32


def _locators() -> list[Any]:
    """numba's ways to find a folder. Without a user's home some of them would make one called `~`."""
    known: list[Any] = CompileResultCacheImpl._locator_classes
    if os.path.isabs(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~")):
        return known
    return [locator for locator in known if not locator.__name__.lstrip("_").startswith(("UserWide", "Zip"))]


class _Implementation(CompileResultCacheImpl):
    _locator_classes = _locators()


class KernelCache(FunctionCache):
    """Takes the place of numba's, with one file for each signature and processor:

        SHA-256 of all that follows | SHA-256 of what the code was made of and by | the pickled code

    The second digest changes with the sources, Python and numba: such an entry is not damaged, only old. Either is
    replaced.
    """

    _impl_class = _Implementation
    #: Whether damage was said: once in a process, since what damages one entry damages more.
    _damage_said = False

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The machine code for a signature; None where it is to be compiled."""
        # What machine code needs to run. `refresh` would import all that numba can compile: a quarter of a second.
        rtsys.initialize(target_context)
        codegen = target_context.codegen()
        path = self._path(sig, codegen)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        try:
            return self._rebuilt(data, sig, target_context)
        except MemoryError:
            raise
        except Exception as error:  # what is wrong with an entry shows in any way
            level = logging.DEBUG if KernelCache._damage_said else logging.WARNING
            KernelCache._damage_said = True
            log.log(level, "%s: compiled code is damaged (%s): it is compiled anew", path, error)
            return None

    def _rebuilt(self, data: bytes, sig: Any, target_context: Any) -> Any:
        digest, rest = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        if hashlib.sha256(rest).digest() != digest:
            raise ValueError("its checksum does not hold")
        if rest[:DIGEST_BYTES] != self._origin(sig, target_context.codegen()):
            return None
        return self._impl.rebuild(target_context, pickle.loads(rest[DIGEST_BYTES:]))

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep machine code, if it can be."""
        path = self._path(sig, data.codegen)
        try:
            if self._impl.check_cachable(data):
                self._impl.locator.ensure_cache_path()
                rest = self._origin(sig, data.codegen) + dumps(self._impl.reduce(data))  # type: ignore[no-untyped-call]
                write_file(path, hashlib.sha256(rest).digest() + rest)
        except Exception as error:
            log.debug("%s: compiled code cannot be kept: %s", path, error)

    def flush(self) -> None:
        """Forget all of this function's, as numba's `recompile` asks for."""
        for path in Path(self.cache_path).glob(f"{self._impl.filename_base}.*.nbc"):
            path.unlink(missing_ok=True)

    def _path(self, sig: Any, codegen: Any) -> Path:
        key = hashlib.sha256(repr((sig, codegen.magic_tuple())).encode()).hexdigest()[:16]
        return Path(self.cache_path, f"{self._impl.filename_base}.{key}.nbc")

    def _origin(self, sig: Any, codegen: Any) -> bytes:
        stamps = sorted(str(cache._impl.locator.get_source_stamp()) for cache in self._made_of(set()))
        own = self._index_key(sig, codegen)  # type: ignore[no-untyped-call]
        return hashlib.sha256(repr((numba.__version__, stamps, own)).encode()).digest()

    def _made_of(self, seen: set[Any]) -> Iterator[KernelCache]:
        """Of this kernel and of those it calls, wherever they stand: their code is part of its own."""
        seen.add(self._py_func)
        yield self
        for name in self._py_func.__code__.co_names:
            cache = getattr(self._py_func.__globals__.get(name), "_cache", None)
            if isinstance(cache, KernelCache) and cache._py_func not in seen:
                yield from cache._made_of(seen)
