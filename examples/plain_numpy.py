"""Least squares with gradients written by hand: each replica sees only its own rows of the data."""

import numpy as np

import distopt

replica = distopt.distribute.get_replica_context()
rank, replicas = replica.replica_id_in_sync_group, replica.num_replicas_in_sync

rng = np.random.default_rng(0)  # the same data on all replicas
x = rng.normal(size=(1000, 3))
y = x @ [2.0, -1.0, 0.5] + rng.normal(size=1000)
x_mine, y_mine = x[rank::replicas], y[rank::replicas]

w = distopt.Variable(np.zeros(3), name="w")
optimizer = distopt.optimizers.SGD(learning_rate=0.1)
for _ in range(200):
    gradient = 2 * x_mine.T @ (x_mine @ w - y_mine) / len(x)  # all rows, because the step sums the gradients
    optimizer.apply_gradients([(gradient, w)])

if rank == 0:
    best = np.linalg.lstsq(x, y, rcond=None)[0]  # the exact solution
    print(f"{replicas} replica(s): w = {w.numpy()}, error: {abs(w - best).max():.1e}")
