"""One's own training loop with ``GradientTape``; ``apply_gradients`` sums over the replicas.

mpirun -n 2 python examples/custom_loop.py
"""

import numpy as np
from sklearn.datasets import load_digits

import distopt as tf
from distopt import keras
from distopt.distribute import get_replica_context
from distopt.keras import layers
from distopt.keras.data import example_order, share

BATCH = 64
EPOCHS = 30


def main() -> float:
    replica = get_replica_context()
    rank, replicas = replica.replica_id_in_sync_group, replica.num_replicas_in_sync
    images, labels = load_digits(return_X_y=True)
    x, y = (images / 16).astype(np.float32), labels
    test = np.arange(len(x)) % 5 == 0
    x_train, y_train = x[~test], y[~test]

    np.random.seed(1)
    model = keras.Sequential([layers.Dense(64, activation="relu", input_shape=(64,)), layers.Dense(10)])
    optimizer = tf.keras.optimizers.Adam(learning_rate=0.003)
    # Under several replicas only the caller knows the global batch: sum here, divide by it below.
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    seen = keras.metrics.Mean()

    for epoch in range(EPOCHS):
        order = example_order(len(x_train), seed=0, epoch=epoch)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            mine = batch[slice(*share(len(batch), rank, replicas))]
            with tf.GradientTape() as tape:
                logits = model(x_train[mine])
                loss = loss_fn(y_train[mine], logits) / len(batch)
            gradients = tape.gradient(loss, model.trainable_weights)
            optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
            seen.update_state(float(loss) * replicas)
        mean = float(seen.result())
        seen.reset_state()
        if rank == 0 and (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1}: loss {mean:.4f}", flush=True)

    accuracy = float(np.mean(model.predict(x[test]).argmax(axis=1) == y[test]))
    if rank == 0:
        print(f"accuracy {accuracy:.4f} on {test.sum()} images held back, {replicas} replica(s)")
    return accuracy


if __name__ == "__main__":
    if main() < 0.94:
        raise SystemExit("the accuracy is below 0.94")
