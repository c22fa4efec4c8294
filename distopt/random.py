"""Random numbers of a replica's own, the same wherever the replica runs.

>>> a, b = stream(seed=1, step=3), stream(seed=1, step=3)
>>> bool((a.normal(size=4) == b.normal(size=4)).all())
True
"""

from __future__ import annotations

import numpy as np

from distopt.core import random as core_random
from distopt.distribute import require_replica_context

__all__ = ["stream"]


def stream(seed: int, step: int = 0, purpose: int = 0, replica: int | None = None) -> np.random.Generator:
    """A generator of its own for each (seed, replica, step, purpose), under every layout of the replicas.

    Args:
        seed: the job's seed, from 0 to 2**64 - 1.
        step: the training step, or epoch.
        purpose: tells several uses within one step apart.
        replica: whose; the one that this code runs in by default. The same number on all replicas gives
            all the same numbers.

    Raises:
        RuntimeError: ``replica`` is None in cross-replica context.
        ValueError: a negative number, or one above 2**64 - 1.
    """
    if replica is None:
        replica = require_replica_context("random.stream()", "pass replica=...").replica_id_in_sync_group
    return core_random.stream(seed, replica=replica, step=step, purpose=purpose)
