"""A small training that saves and goes on; run as a script by every replica, and by tests.

python saved_training.py DIRECTORY STEPS [SAVE_AT] trains up to STEPS, saves after step SAVE_AT, and prints
the SHA-256 of weights, slots and all that the next step would draw from.
"""

import hashlib
import random
import sys

import numpy as np

from distopt import Variable
from distopt.checkpoint import CheckpointManager
from distopt.core.random import stream
from distopt.distribute import get_replica_context
from distopt.optimizers import Adam


def training(directory, steps, save_at=None, background=False, after_step=None):
    """Trains, saves after step ``save_at``, calls ``after_step(step, manager)``; the digest of the end."""
    context = get_replica_context()
    rank = context.replica_id_in_sync_group
    np.random.seed(3 + rank)
    random.seed(5 + rank)
    own = np.random.default_rng(7 + rank)
    start = stream(11)
    w = Variable(start.normal(size=(5, 3)).astype(np.float32), name="w")
    b = Variable(start.normal(size=3), name="b")
    optimizer = Adam(0.05, amsgrad=True, clipnorm=1.0)
    mine = {"step": 0}
    manager = CheckpointManager(directory, variables=[w, b], optimizer=optimizer, rng=own, mine=mine)
    manager.restore()
    while mine["step"] < steps:
        noise = own.normal(size=3) + np.random.normal(size=3) + random.random()
        gradients = [np.outer(np.arange(5), noise).astype(np.float32) + w.numpy(), b.numpy() * noise]
        optimizer.apply_gradients(zip(gradients, [w, b], strict=True))
        mine["step"] += 1
        if mine["step"] == save_at:
            manager.save(background)
        if after_step is not None:
            after_step(mine["step"], manager)
    manager.wait()
    hashed = hashlib.sha256()
    for array in (w.numpy(), b.numpy(), *optimizer.get_weights()):
        hashed.update(array.tobytes())
    # Drawn by each replica for itself, shown by all.
    drawn = np.array([own.random(), np.random.random(), random.random()])
    hashed.update(np.asarray(context.all_gather(drawn, axis=0)).tobytes())
    return hashed.hexdigest()


if __name__ == "__main__":
    saved = int(sys.argv[3]) if len(sys.argv) > 3 else None
    result = training(sys.argv[1], int(sys.argv[2]), saved)
    if get_replica_context().replica_id_in_sync_group == 0:
        print("digest", result, flush=True)
