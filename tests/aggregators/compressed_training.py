"""A few steps with each compression; run as a script by every replica, and by tests.

It prints a hash of the values, of what waits on all replicas, and of the other state.
"""

import hashlib

import numpy as np

import distopt as tf
from distopt import aggregators
from distopt.distribute import get_replica_context

SHAPES = ((48, 40), (30, 70), (9,))
MAKERS = {
    "power_sgd": lambda: aggregators.PowerSGD(2, start_after=1),
    "top_k": lambda: aggregators.TopK(0.02),
    "sign_sgd": aggregators.SignSGD,
    "signum": lambda: aggregators.SignSGD(0.9),
}
#: What the names of variables end with that have a value on each replica.
OF_REPLICAS = ("/residual:0", "/momentum:0")


def training(name):
    """Variables and their optimizer."""
    variables = [tf.Variable(np.zeros(s, "f4"), name=f"v{i}") for i, s in enumerate(SHAPES)]
    return variables, tf.optimizers.Adam(0.01, gradient_aggregator=MAKERS[name]())


def steps(variables, optimizer, first, count):
    """Steps number ``first`` and on."""
    rank = get_replica_context().replica_id_in_sync_group
    for step in range(first, first + count):
        random = np.random.default_rng([step, rank])
        gradients = [random.normal(size=v.shape).astype("f4") for v in variables]
        optimizer.apply_gradients(list(zip(gradients, variables, strict=True)))


def waiting(optimizer):
    """What has not been applied yet, of all replicas."""
    names = [w for w in optimizer.weights if w.name.endswith(OF_REPLICAS)]
    return [np.asarray(get_replica_context().all_reduce("sum", w)) for w in names]


def digest(variables, optimizer):
    """The hash."""
    hashed = hashlib.sha256()
    common = [w for w in optimizer.weights if not w.name.endswith(OF_REPLICAS)]
    for array in (*variables, *common, *waiting(optimizer)):
        hashed.update(np.asarray(array).tobytes())
    return hashed.hexdigest()


if __name__ == "__main__":
    for each in MAKERS:
        made = training(each)
        steps(*made, 0, 4)
        found = digest(*made)
        if get_replica_context().replica_id_in_sync_group == 0:
            print(each, found, flush=True)
