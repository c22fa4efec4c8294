"""Who gets which examples: a pure function of seed, epoch and the number of replicas."""

from __future__ import annotations

from distopt.core.random import stream
from distopt.typing import Array

__all__ = ["example_order", "share"]

#: Keeps the order of examples apart from the other uses of a seed.
_PURPOSE = 0x0DE4


def example_order(count: int, seed: int, epoch: int) -> Array:
    """A random order of ``count`` examples, the same for the same seed and epoch on all replicas."""
    return stream(seed, step=epoch, purpose=_PURPOSE).permutation(count)


def share(count: int, replica: int, replicas: int) -> tuple[int, int]:
    """The part ``[start, stop)`` of ``count`` things that belongs to one replica.

    The parts are contiguous and lie in the order of the replicas; the first ones are longer by one if
    the number does not divide.

    >>> [share(7, r, 3) for r in range(3)]
    [(0, 3), (3, 5), (5, 7)]
    """
    each, rest = divmod(count, replicas)
    start = replica * each + min(replica, rest)
    return start, start + each + (replica < rest)
