"""The order of examples: a pure function of seed and epoch."""

from __future__ import annotations

from distopt.core.random import stream
from distopt.typing import Array

__all__ = ["example_order"]

#: Keeps the order of examples apart from the other uses of a seed.
_PURPOSE = 0x0DE4


def example_order(count: int, seed: int, epoch: int) -> Array:
    """A random order of ``count`` examples, the same for the same seed and epoch on all replicas."""
    return stream(seed, step=epoch, purpose=_PURPOSE).permutation(count)
