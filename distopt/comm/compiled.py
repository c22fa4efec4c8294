"""What compiled code and the communicators agree on: counters in memory, at which replicas wait."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from distopt.typing import Array

__all__ = ["STRIDE", "CompiledCode", "open_barrier"]

#: int64 items between two counters: one cache line.
STRIDE = 8

#: ``(counters, met, first, stop) -> next``: runs the parts from ``first`` on, before ``stop``. Before part k
#: but the first, each replica's counter has to be at ``met + k`` (see ``distopt.comm.spin``), and after it
#: the own one is raised. Returns the part that it cannot begin since the others take long, or ``stop``.
CompiledCode = Callable[[Array, int, int, int], int]


@cache
def open_barrier(size: int) -> Array:
    """The counters of ``size`` replicas for code that waits for nobody: all are as high as can be."""
    return np.full(size * STRIDE, np.iinfo(np.int64).max)
