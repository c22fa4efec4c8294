"""The interface between compiled code and communicators: barriers by counters in shared memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from distopt.typing import Array

__all__ = ["STRIDE", "CompiledCode", "open_barrier"]

#: int64 items between two counters: one cache line.
STRIDE = 8

#: ``(counters, met, first, stop) -> next``: runs the parts ``first`` to ``stop - 1`` of some code. Before
#: part k > 0, it waits until the counters of all replicas are at least ``met + k`` (see ``spin.wait``). After
#: part k, unless it is the last, it sets its own counter to ``met + k + 1``. If a wait takes too long, it
#: returns the number of the part that it could not start; otherwise ``stop``.
CompiledCode = Callable[[Array, int, int, int], int]


@cache
def open_barrier(size: int) -> Array:
    """Counters of ``size`` replicas at the maximum, for code that must not wait."""
    return np.full(size * STRIDE, np.iinfo(np.int64).max)
