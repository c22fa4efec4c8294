"""A training that can be ended at any moment and goes on where it was, on as many replicas as there are then.

mpirun -n 2 python examples/resume.py     press Ctrl-C or send SIGTERM, then run it again
"""

import argparse
import signal

import numpy as np
from sklearn.datasets import load_digits

import distopt as tf
from distopt import keras
from distopt.checkpoint import CheckpointManager
from distopt.distribute import get_replica_context
from distopt.keras import layers
from distopt.keras.data import example_order, share

BATCH = 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--directory", default="out/resume", help="where the checkpoints are")
    parser.add_argument("--stop-after", type=int, default=0, help="ask for the end after so many batches")
    options = parser.parse_args()
    replica = get_replica_context()
    rank, replicas = replica.replica_id_in_sync_group, replica.num_replicas_in_sync

    images, labels = load_digits(return_X_y=True)
    x, y = (images / 16).astype(np.float32), labels
    np.random.seed(1)
    model = keras.Sequential([layers.Dense(32, activation="relu", input_shape=(64,)), layers.Dense(10)])
    optimizer = tf.keras.optimizers.Adam(learning_rate=0.003)
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")

    at = {"epoch": 0, "start": 0}  # the position in the data: the order is a function of the epoch
    manager = CheckpointManager(options.directory, keep=2, model=model, optimizer=optimizer, at=at)
    manager.on_preemption([signal.SIGTERM, signal.SIGINT])
    if manager.restore() and rank == 0:
        print(f"continuing at epoch {at['epoch'] + 1}, example {at['start']}", flush=True)

    batches = 0
    while at["epoch"] < options.epochs:
        order = example_order(len(x), seed=0, epoch=at["epoch"])
        while at["start"] < len(order):
            batch = order[at["start"] : at["start"] + BATCH]
            mine = batch[slice(*share(len(batch), rank, replicas))]
            with tf.GradientTape() as tape:
                loss = loss_fn(y[mine], model(x[mine])) / len(batch)
            gradients = tape.gradient(loss, model.trainable_weights)
            optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
            at["start"] += BATCH
            batches += 1
            if batches == options.stop_after:
                signal.raise_signal(signal.SIGTERM)
            manager.step()  # saves and ends the program, if a signal has come to any replica
        at.update(epoch=at["epoch"] + 1, start=0)
        manager.save(background=True)
    manager.wait()
    accuracy = float(np.mean(model.predict(x).argmax(axis=1) == y))
    if rank == 0:
        print(f"accuracy {accuracy:.4f} after {int(optimizer.iterations)} steps, {replicas} replica(s)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
