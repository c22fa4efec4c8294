"""A training whose replicas exchange a megabyte in each step; what it took, and what the ledger says."""

import json
import sys
import time

import numpy as np

import distopt as tf


def main(steps, size):
    context = tf.distribute.get_replica_context()
    v = tf.Variable(np.zeros(size, np.float32), name="v")
    pairs = [(np.ones(size, np.float32), v)]
    optimizer = tf.optimizers.SGD(0.1)
    for _ in range(3):
        optimizer.apply_gradients(pairs)
    before, begin = tf.report(), time.monotonic()
    for _ in range(steps):
        optimizer.apply_gradients(pairs)
    took = time.monotonic() - begin
    found = tf.report().since(before)
    if context.replica_id_in_sync_group == 0:
        shown = {"took": took, "said": str(found), "short": found.short(), **found.to_dict()}
        shown["waits"] = found.waited_for.tolist()
        print(json.dumps(shown), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
