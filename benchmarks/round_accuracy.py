"""``round_accuracy``: accuracy on handwritten digits with LocalSGD and DiLoCo, on two pretended nodes."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report, Target

__all__ = ["report", "work"]

REPLICAS, NODES, BATCH, EPOCHS, EVERY = 4, 2, 64, 30, 20
SEEDS = (0, 1, 2, 3, 4)
EXACT = "AdamW"


def report(effort: Effort) -> Report:
    """Trains everything in one job, whose replicas are threads of one process."""
    found = Report(
        "round_accuracy",
        f"Digits, batches of {BATCH}, {EPOCHS} epochs, {REPLICAS} replicas on {NODES} nodes: test accuracy",
        Picture("bars", "optimizer", "every", "accuracy, %"),
    )
    rows = jobs.run(
        "round_accuracy", {"tiny": effort.tiny}, None, 2 * effort.timeout, {"DISTOPT_NODES": str(NODES)}
    )
    for row in rows:
        accuracies = [100 * accuracy for accuracy in row.pop("accuracies")]
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        found.rows.append(
            {**row, "accuracy, %": statistics.mean(accuracies), "+-": spread, "all": accuracies}
        )
    exact = found.rows[0]["accuracy, %"]
    for row in found.rows[1:]:
        found.targets.append(Target(f"{row['optimizer']}: points lost", exact - row["accuracy, %"], 0.5, ""))
    found.notes.append(
        "A tenth of the steps are a linear warm-up, a cosine decay follows. +-: standard deviation."
    )
    return found


def optimizers(steps: int) -> dict[str, Callable[[], Any]]:
    """What makes the optimizers, by name."""
    from distopt.optimizers import SGD, AdamW, DiLoCo, LocalSGD, schedules

    def adamw(**options: Any) -> Any:
        warm = max(steps // 10, 1)
        rate = schedules.CosineDecay(0.0, steps - warm, warmup_target=0.003, warmup_steps=warm)
        return AdamW(rate, weight_decay=0.01, **options)

    def inner() -> Any:
        return adamw(gradient_aggregator="mean")

    def gentle() -> Any:
        return SGD(0.7, momentum=0.5, nesterov=True)

    return {
        EXACT: adamw,
        "LocalSGD": lambda: LocalSGD(inner(), every=EVERY),
        "DiLoCo": lambda: DiLoCo(inner(), every=EVERY),
        "DiLoCo, outer momentum 0.5": lambda: DiLoCo(inner(), gentle(), every=EVERY),
    }


def work(config: dict[str, Any]) -> list[dict[str, Any]]:
    """All replicas."""
    epochs, seeds = (1, SEEDS[:1]) if config["tiny"] else (EPOCHS, SEEDS)
    made = optimizers(epochs * (1257 // BATCH + 1))
    return [
        {
            "optimizer": name,
            "every": "step" if name == EXACT else f"{EVERY} steps",
            "accuracies": [accuracy(make, epochs, seed) for seed in seeds],
        }
        for name, make in made.items()
    ]


def accuracy(make: Callable[[], Any], epochs: int, seed: int) -> float:
    """Trains a model of 64-128-128-10; its accuracy on test images."""
    import numpy as np
    from sklearn.datasets import load_digits

    from distopt import keras
    from distopt.distribute import VirtualStrategy

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x, y = (images[order] / 16).astype(np.float32), labels[order]
    mixed = np.random.default_rng(seed).permutation(1257)
    found = []

    def program() -> None:
        np.random.seed(seed)  # for the first weights, and the order of images
        widths = [(128, "relu"), (128, "relu"), (10, None)]
        model = keras.Sequential([keras.layers.Dense(width, activation) for width, activation in widths])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(make(), loss, metrics=["accuracy"])
        model.fit(x[mixed], y[mixed], batch_size=BATCH, epochs=epochs, verbose=0)
        found.append(float(model.evaluate(x[1437:], y[1437:], verbose=0)[1]))

    VirtualStrategy(REPLICAS).run(program)
    return found[0]
