"""Streams of random numbers that depend on (seed, replica, step), never on where a replica runs."""

from __future__ import annotations

import numpy as np

__all__ = ["stream"]


def stream(seed: int, *, replica: int = 0, step: int = 0, purpose: int = 0) -> np.random.Generator:
    """A generator of its own for each (seed, replica, step, purpose).

    Philox is counter based: the key holds seed and purpose, the counter replica and step, so
    streams neither overlap nor need to be handed on (Salmon et al. 2011).

    Args:
        seed: the job's seed, any int from 0 to 2**64 - 1.
        replica: the replica's number in the job.
        step: the training step, or epoch.
        purpose: tells several uses within one step apart.

    >>> bool(stream(1, replica=0).random() == stream(1, replica=0).random())
    True
    """
    for name, value in (("seed", seed), ("replica", replica), ("step", step), ("purpose", purpose)):
        if not 0 <= value < 2**64:
            raise ValueError(f"{name} must be between 0 and 2**64 - 1; got {value}")
    counter = np.array([0, 0, step, replica], np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([seed, purpose], np.uint64), counter=counter))
