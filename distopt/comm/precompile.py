"""Compiling a function where it is defined."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from numba import njit

__all__ = ["precompiled", "sources"]

#: Files with functions that are inlined into others' compiled code, and with constants of it.
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
_WITHOUT_LOCK = partial(njit, nogil=True)


@cache
def sources() -> str:
    """A hash of all files that are inlined somewhere: part of the name of what is kept on disk.

    Numba compiles a function anew if its own file has changed, and does not look at other files.
    """
    root = Path(__file__).parent.parent
    source = b"".join((root / name).read_bytes() for name in _INLINED)
    return hashlib.blake2b(source, digest_size=8).hexdigest()


def precompiled(signature: Any, compiler: Callable[..., Any] = _WITHOUT_LOCK) -> Callable[[Any], Any]:
    """Compiles for ``signature``, kept on disk where that can be; an unwritable cache is no error.

    Args:
        signature: as Numba takes it.
        compiler: what makes of a signature a decorator; without the interpreter's lock by default.
    """

    def compile_it(function: Any) -> Any:
        function.__qualname__ += f".{sources()}"
        try:
            return compiler(signature, cache=True)(function)
        except RuntimeError:  # no folder for the cache can be written
            return compiler(signature)(function)

    return compile_it
