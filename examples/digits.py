"""Handwritten digits by ``fit``: 1,797 images of 8 x 8 pixels, a fifth of them held back.

mpirun -n 2 python examples/digits.py
"""

import argparse
import os
import time

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from distopt import keras
from distopt.distribute import get_replica_context
from distopt.keras import layers


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images scaled to [0, 1] and one-hot labels, mixed alike on all replicas: training, then test."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x = (images[order] / 16).astype(np.float32)
    y = np.eye(10, dtype=np.float32)[labels[order]]
    cut = len(x) * 4 // 5
    return x[:cut], y[:cut], x[cut:], y[cut:]


def draw_confusions(labels: np.ndarray, predicted: np.ndarray, path: str) -> None:
    """How often each digit was taken for each."""
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, predicted), 1)
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(column, row, count, ha="center", va="center", color="white" if count > 20 else "black")
    axes.set(xlabel="predicted", ylabel="digit", xticks=range(10), yticks=range(10))
    figure.savefig(path)


def main() -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", default="out", help="the folder for the pictures")
    options = parser.parse_args()

    np.random.seed(1)  # for the first weights
    x, y, x_test, y_test = load()
    model = keras.Sequential()
    model.add(layers.Dense(64, input_shape=(64,)))
    model.add(layers.Activation("relu"))
    model.add(layers.Dense(10))
    model.add(layers.Activation("softmax"))
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])

    begun = time.perf_counter()
    history = model.fit(x, y, batch_size=32, epochs=options.epochs, validation_data=(x_test, y_test))
    seconds = time.perf_counter() - begun
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    predicted = model.predict(x_test)

    replica = get_replica_context()
    if replica.replica_id_in_sync_group == 0:
        os.makedirs(options.out, exist_ok=True)
        print(
            f"accuracy {accuracy:.4f} (loss {loss:.4f}) on {len(x_test)} images held back; "
            f"{len(x) * options.epochs / seconds:,.0f} images per second "
            f"on {replica.num_replicas_in_sync} replica(s); pictures in {options.out}/"
        )
        draw_confusions(y_test.argmax(1), predicted.argmax(1), os.path.join(options.out, "confusions.png"))
    history.plot(os.path.join(options.out, "curve.png"))
    return accuracy


if __name__ == "__main__":
    if main() < 0.96:
        raise SystemExit("the accuracy is below 0.96")
