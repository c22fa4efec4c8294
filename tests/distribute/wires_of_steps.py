"""A program whose gradients travel between nodes in wire formats; prints the hash of what it has learned."""

import hashlib
import sys

import numpy as np

from distopt import Variable, aggregators, distribute, optimizers
from distopt.errors import ReplicaMismatch

#: Several pieces, several groups, and one that is no whole piece.
SHAPES = [(300, 70), (5,), (), (9000,)]


def rank():
    return distribute.get_replica_context().replica_id_in_sync_group


def train(wire, make, steps=3):
    """The variables after some steps, as one array."""
    generator = np.random.default_rng(rank())
    variables = [Variable(np.ones(shape, "f4"), name=f"v{i}") for i, shape in enumerate(SHAPES)]
    optimizer = make(aggregators.Mean(wire=wire))
    for _ in range(steps):
        optimizer.apply_gradients([(generator.normal(size=v.shape).astype("f4"), v) for v in variables])
    return np.concatenate([v.numpy().reshape(-1) for v in variables])


def sgd(aggregator):
    return optimizers.SGD(0.1, gradient_aggregator=aggregator)


def staged(aggregator):
    """The same in stages, as a user's transformer wants it."""
    return optimizers.SGD(0.1, gradient_aggregator=aggregator, gradient_transformers=[list])


def lamb(aggregator):
    return optimizers.LAMB(0.1, global_clipnorm=1.0, gradient_aggregator=aggregator)


def hashes():
    """By format and optimizer."""
    return {
        f"{wire}, {make.__name__}": hashlib.sha256(train(wire, make).tobytes()).hexdigest()
        for wire in ("bf16", "int8")
        for make in (sgd, lamb)
    }


def disagree():
    """Steps of an exact and of a rounded mean; between them each replica makes another one."""
    v = Variable(np.zeros(3, "f4"))
    exact = optimizers.SGD(1.0, gradient_aggregator="mean")
    rounded = optimizers.SGD(1.0, gradient_aggregator=aggregators.Mean(wire="bf16"))
    for first in (0, 1):
        for sign in (1, -1):
            for optimizer in (exact, rounded):
                optimizer.apply_gradients([(np.full(3, sign, "f4"), v)])
        try:
            (exact, rounded)[(rank() + first) % 2].apply_gradients([(np.ones(3, "f4"), v)])
        except ReplicaMismatch as error:
            print(f"REPLICA {rank()}: {error}", flush=True)
    print(f"after it: {v.numpy().max()}", flush=True)


if __name__ == "__main__" and "--disagree" in sys.argv:
    disagree()
elif __name__ == "__main__":
    for name, value in hashes().items():
        print(f"HASH {rank()} {name}: {value}")
