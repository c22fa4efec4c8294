"""The floor of a step: a compiled loop that moves the same bytes, and computes next to nothing.

With R replicas and k slots a parameter costs R + 1 + k reads (gradients, parameter, slots) and 1 + k
writes: 5 and 3 for Adam on two replicas. Each replica moves its shard, all at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Floor", "TrustRatioFloor"]

Array = npt.NDArray[np.float32]

#: Arrays begin at different places in a page, so that their cache lines do not push each other out.
_STAGGER = 208


class Floor:
    """A peer that only moves bytes.

    Args:
        elements: of one replica's shard.
        gradients: how many gradients each element has.
        slots: how many slots each parameter has.
        kept: whether the sum has to be written and read again (norms, user code).
    """

    def __init__(self, elements: int, gradients: int, slots: int, kept: bool = False) -> None:
        read, state = _arrays(elements, gradients), _arrays(elements, 1 + slots)
        if kept:
            between = _arrays(elements, 1)
            self._passes = [
                (_loop(gradients, 0, writes=1), read + between),
                (_loop(1, 1 + slots), between + state),
            ]
        else:
            self._passes = [(_loop(gradients, 1 + slots), read + state)]

    def prepare(self) -> None:
        """Nothing."""

    def step(self) -> None:
        """Moves the bytes of a step."""
        for loop, arrays in self._passes:
            loop(*arrays)


class TrustRatioFloor(Floor):
    """A floor of two passes: directions are written by the first, and read by the second.

    Args:
        elements: of one replica's shard.
        gradients: how many gradients each element has.
        first: how many slots the first pass updates.
        second: how many the second one does.
    """

    def __init__(self, elements: int, gradients: int, first: int, second: int) -> None:
        read, directions, parameters = (_arrays(elements, n) for n in (gradients, 1, 1))
        self._passes = [
            (
                _loop(gradients + 1, first, writes=1),
                read + parameters + _arrays(elements, first) + directions,
            ),
            (_loop(1, 1 + second), directions + parameters + _arrays(elements, second)),
        ]


def _arrays(elements: int, count: int) -> list[Array]:
    return [np.ones(elements + _STAGGER * k, np.float32)[_STAGGER * k :] for k in range(count)]


@cache
def _loop(reads: int, updates: int, writes: int = 0) -> Callable[..., Any]:
    """The compiled loop: so many arrays are read, so many more updated, and others written without a look.

    Written out for each number of arrays: a loop over arrays inside is not vectorized, and a loop in
    blocks that stay in the cache takes twice the time.
    """
    import numba

    read = [f"g{k}" for k in range(reads)]
    updated, written = [f"u{k}" for k in range(updates)], [f"w{k}" for k in range(writes)]
    lines = [
        f"def loop({', '.join(read + updated + written)}):",
        "    for i in range(g0.size):",
        f"        s = {' + '.join(f'{name}[i]' for name in read)}",
        *(f"        {name}[i] -= s" for name in updated),
        *(f"        {name}[i] = s" for name in written),
    ]
    made: dict[str, Any] = {}
    exec("\n".join(lines), made)
    compiled: Callable[..., Any] = numba.njit(nogil=True)(made["loop"])
    return compiled
