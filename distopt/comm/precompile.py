"""A decorator that compiles a function where it is defined."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from numba import njit

__all__ = ["precompiled", "sources"]

#: Files whose functions or constants are inlined into the compiled code of other files.
_INLINED = (
    "collectives/ledger_layout.py",
    "collectives/ledger_rows.py",
    "collectives/partition.py",
    "collectives/pointers.py",
    "collectives/raw_memory.py",
    "collectives/wire_formats.py",
    "comm/compiled.py",
    "comm/spin.py",
    "engine/exponents.py",
    "engine/low_rank.py",
    "engine/row_blocks.py",
    "engine/squares.py",
    "engine/tiles.py",
    "engine/tuples.py",
    "engine/vectors.py",
)
_NJIT = partial(njit, nogil=True)


@cache
def sources() -> str:
    """A hash of the inlined files, part of the cache key of each compiled function.

    Numba itself recompiles a function only if the file of the function has changed.
    """
    root = Path(__file__).parent.parent
    source = b"".join((root / name).read_bytes() for name in _INLINED)
    return hashlib.blake2b(source, digest_size=8).hexdigest()


def precompiled(signature: Any, compiler: Callable[..., Any] = _NJIT) -> Callable[[Any], Any]:
    """Compiles a function for ``signature``, and caches it on disk if the cache is writable.

    Args:
        signature: the signature, as for ``numba.njit``.
        compiler: a function of Numba that returns a decorator; by default ``njit``, which releases the GIL.
    """

    def compile_it(function: Any) -> Any:
        function.__qualname__ += f".{sources()}"
        try:
            return compiler(signature, cache=True)(function)
        except RuntimeError:  # Numba finds no writable cache folder
            return compiler(signature)(function)

    return compile_it
