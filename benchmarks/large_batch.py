"""``large_batch``: accuracy on handwritten digits at a global batch of 1,024, by optimizer."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report

__all__ = ["report", "work"]

REPLICAS, BATCH = 2, 1024
#: Epochs that are trained; two steps each.
EPOCHS = (5, 20)
#: By name: the class, its arguments, and the learning rates that it may choose from.
OPTIMIZERS: dict[str, tuple[str, dict[str, Any], list[float]]] = {
    "SGD, momentum": ("SGD", {"momentum": 0.9}, [0.03, 0.1, 0.3, 1.0, 3.0]),
    "LARS": ("LARS", {"weight_decay": 1e-4, "trust_coefficient": 0.02}, [0.3, 1.0, 3.0, 10.0, 30.0]),
    "AdamW": ("AdamW", {"weight_decay": 0.01}, [0.003, 0.01, 0.03, 0.1, 0.3]),
    "LAMB": ("LAMB", {"weight_decay": 0.01}, [0.01, 0.03, 0.1, 0.3, 1.0]),
    "Lion": ("Lion", {"weight_decay": 0.1}, [0.0003, 0.001, 0.003, 0.01, 0.03]),
    "Muon": ("Muon", {"weight_decay": 0.01}, [0.003, 0.01, 0.03, 0.1, 0.3]),
}
#: Seeds of first weights and of the order of images: to choose a learning rate by, and to report.
CHOOSING, REPORTED = (100, 101, 102), (0, 1, 2, 3, 4)


def report(effort: Effort) -> Report:
    """Trains everything in one job."""
    found = Report(
        "large_batch",
        f"Digits at a global batch of {BATCH:,}, {REPLICAS} replicas: test accuracy, {len(REPORTED)} seeds",
        Picture("bars", "optimizer", "training", "accuracy, %"),
        higher_is_better=True,
    )
    for row in jobs.run("large_batch", {"tiny": effort.tiny}, REPLICAS, 4 * effort.timeout):
        accuracies = [100 * accuracy for accuracy in row.pop("accuracies")]
        spread = {"accuracy, %": statistics.mean(accuracies), "+-": statistics.stdev(accuracies)}
        found.rows.append({**row, **spread, "all": accuracies})
    found.notes.append(
        f"The learning rate is the best of five on 180 other images, by {len(CHOOSING)} other seeds. A "
        f"tenth of the steps are a linear warm-up, a cosine decay follows. +-: standard deviation."
    )
    return found


def work(config: dict[str, Any]) -> list[dict[str, Any]] | None:
    """One replica's part."""
    from distopt.distribute import get_replica_context

    rows = []
    for name, (optimizer, arguments, rates) in OPTIMIZERS.items():
        for epochs in EPOCHS[:1] if config["tiny"] else EPOCHS:
            tried = rates[:1] if config["tiny"] else rates
            scores = {
                rate: statistics.mean(train(optimizer, arguments, rate, epochs, s)[0] for s in CHOOSING)
                for rate in tried
            }
            best = max(scores, key=scores.__getitem__)
            accuracies = [train(optimizer, arguments, best, epochs, seed)[1] for seed in REPORTED]
            rows.append(
                {"optimizer": name, "training": f"{epochs} epochs", "rate": best, "accuracies": accuracies}
            )
    return rows if get_replica_context().replica_id_in_sync_group == 0 else None


def train(
    optimizer: str, arguments: dict[str, Any], rate: float, epochs: int, seed: int
) -> tuple[float, float]:
    """Trains a model of 64-128-128-10; its accuracy on validation and on test images."""
    import numpy as np
    from sklearn.datasets import load_digits

    from distopt import keras, optimizers

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x, y = (images[order] / 16).astype(np.float32), labels[order]
    (train_x, validation_x, test_x), (train_y, validation_y, test_y) = (
        np.split(data, [1257, 1437]) for data in (x, y)
    )
    np.random.seed(seed)  # for the first weights
    widths = [(128, "relu"), (128, "relu"), (10, None)]
    model = keras.Sequential([keras.layers.Dense(width, activation) for width, activation in widths])
    steps = 2 * epochs
    schedule = optimizers.schedules.CosineDecay(
        0.0, steps - steps // 10, warmup_target=rate, warmup_steps=steps // 10
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(getattr(optimizers, optimizer)(schedule, **arguments), loss, metrics=["accuracy"])
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        mixed = generator.permutation(len(train_x))
        model.fit(train_x[mixed], train_y[mixed], batch_size=BATCH, shuffle=False, verbose=0)
    return tuple(  # type: ignore[return-value]
        float(model.evaluate(a, b, verbose=0)[1]) for a, b in ((validation_x, validation_y), (test_x, test_y))
    )
