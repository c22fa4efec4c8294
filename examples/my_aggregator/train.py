"""A line fitted on all replicas, one of which has broken data; the aggregator is found by its name.

mpirun -n 4 python examples/my_aggregator/train.py
"""

import numpy as np

import distopt as tf
from distopt.distribute import get_replica_context

context = get_replica_context()
replica, replicas = context.replica_id_in_sync_group, context.num_replicas_in_sync

rng = np.random.default_rng(replica)
x = rng.uniform(-1, 1, size=64).astype(np.float32)
y = 3 * x - 1
if replica == 3:
    y *= 1000

slope, offset = tf.Variable(0.0, name="slope"), tf.Variable(0.0, name="offset")
optimizer = tf.optimizers.SGD(learning_rate=0.5, gradient_aggregator="trimmed_mean")
for _ in range(100):
    optimizer.minimize(lambda: np.mean((slope * x + offset - y) ** 2), [slope, offset])

if replica == 0:
    print(f"slope {float(slope):.3f}, offset {float(offset):.3f} on {replicas} replica(s)")
