"""Streams of random numbers that depend on seed, replica and step, but not on where a replica runs."""

from __future__ import annotations

import numpy as np

__all__ = ["stream"]


def stream(seed: int, *, replica: int = 0, step: int = 0, purpose: int = 0) -> np.random.Generator:
    """Returns an independent generator for each combination of the arguments, all from 0 to 2**64 - 1.

    Philox is a counter-based generator: seed and purpose are its key, replica and step the upper half of its
    counter. So streams do not overlap, and no state has to be saved (Salmon et al. 2011).

    Args:
        seed: the seed of the job.
        replica: the replica's number in the job.
        step: the training step or epoch.
        purpose: distinguishes uses within one step.

    >>> bool(stream(1, replica=0).random() == stream(1, replica=0).random())
    True
    """
    for name, value in (("seed", seed), ("replica", replica), ("step", step), ("purpose", purpose)):
        if not 0 <= value < 2**64:
            raise ValueError(f"{name} must be between 0 and 2**64 - 1; got {value}")
    counter = np.array([0, 0, step, replica], np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([seed, purpose], np.uint64), counter=counter))
