"""A job of LocalSGD and DiLoCo: prints a hash of each replica's weights, in the middle of a round."""

import hashlib
import sys

import numpy as np

import distopt as tf
from distopt.distribute import get_replica_context
from distopt.optimizers import SGD, Adam, DiLoCo, LocalSGD


def rank():
    return get_replica_context().replica_id_in_sync_group


def run(optimizer, steps):
    """The hash of this replica's weights after so many steps."""
    shapes = {"w": (40, 517), "b": (7,)}
    variables = [tf.Variable(np.ones(s, np.float32), name=name) for name, s in shapes.items()]
    random = np.random.default_rng(rank())
    for _ in range(steps):
        pairs = [((v.numpy() - random.normal(size=v.shape)).astype(np.float32), v) for v in variables]
        optimizer.apply_gradients(pairs)
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in variables)).hexdigest()


def main():
    """One hash for each optimizer."""
    inner = [Adam(0.125, gradient_aggregator="mean"), SGD(0.125, momentum=0.5, gradient_aggregator="mean")]
    return [run(LocalSGD(inner[0], every=3), 8), run(DiLoCo(inner[1], every=3), 8)]


if __name__ == "__main__":
    print("HASH", rank(), *main(), flush=True)
    if sys.argv[1:] and rank() == 1:
        sys.exit()  # while the others go on
    if sys.argv[1:]:
        main()
