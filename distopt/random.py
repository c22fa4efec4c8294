"""Random numbers for a replica, which do not depend on where the replica runs.

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
    """Returns a separate generator for each (seed, replica, step, purpose), the same in every layout.

    Args:
        seed: the seed of the job, from 0 to 2**64 - 1.
        step: the training step or epoch.
        purpose: distinguishes several uses within one step.
        replica: the number of the replica; that of the current one by default. Pass the same number on all
            replicas to get the same numbers on all.

    Raises:
        RuntimeError: ``replica`` is None in cross-replica context.
        ValueError: a number is negative, or above 2**64 - 1.
    """
    if replica is None:
        replica = require_replica_context("random.stream()", "pass replica=...").replica_id_in_sync_group
    return core_random.stream(seed, replica=replica, step=step, purpose=purpose)
