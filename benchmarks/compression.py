"""``compression``: accuracy of models trained over two pretended nodes, by what travels between them."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report, Target

__all__ = ["report", "work"]

REPLICAS, SEEDS = 2, (0, 1, 2, 3, 4)
#: Points of accuracy that may be lost.
MOST = 0.5
EXACT = "exact mean"


def _adam(aggregator: Any) -> Any:
    from distopt.optimizers import Adam

    return Adam(1e-3, gradient_aggregator=aggregator)


def _sgd(rate: float, aggregator: Any) -> Any:
    from distopt.optimizers import SGD

    return SGD(rate, gradient_aggregator=aggregator)


def _aggregator(name: str, **arguments: Any) -> Any:
    from distopt import aggregators

    return getattr(aggregators, name)(**arguments)


def _local(name: str, **options: Any) -> Any:
    from distopt import optimizers

    return getattr(optimizers, name)(_adam("mean"), every=20, **options)


def _nesterov(momentum: float) -> Any:
    from distopt.optimizers import SGD

    return SGD(0.7, momentum=momentum, nesterov=True)


#: By name: makes the optimizer.
CASES: dict[str, Callable[[], Any]] = {
    EXACT: lambda: _adam("mean"),
    "mean as bf16": lambda: _adam(_aggregator("Mean", wire="bf16")),
    "mean as fp16": lambda: _adam(_aggregator("Mean", wire="fp16")),
    "mean as int8": lambda: _adam(_aggregator("Mean", wire="int8")),
    "LocalSGD, every 20": lambda: _local("LocalSGD"),
    "DiLoCo, every 20, outer momentum 0.5": lambda: _local("DiLoCo", outer=_nesterov(0.5)),
    "PowerSGD, rank 4": lambda: _adam(_aggregator("PowerSGD", rank=4)),
    "TopK, 1 %": lambda: _adam(_aggregator("TopK", fraction=0.01)),
    "SignSGD, SGD at 0.0005": lambda: _sgd(5e-4, _aggregator("SignSGD")),
}


def report(effort: Effort) -> Report:
    """Trains everything in one job."""
    found = Report(
        "compression",
        f"Test accuracy by what travels between {REPLICAS} pretended nodes, {len(SEEDS)} seeds",
        Picture("bars", "model", "case", "accuracy, %"),
    )
    pretended = {"DISTOPT_NODES": str(REPLICAS)}
    rows = jobs.run("compression", {"tiny": effort.tiny}, REPLICAS, 4 * effort.timeout, pretended)
    exact: dict[str, float] = {}
    for row in rows:
        accuracies = [100 * accuracy for accuracy in row.pop("accuracies")]
        mean = statistics.mean(accuracies)
        before = exact.setdefault(row["model"], mean)
        spread = {"accuracy, %": mean, "+-": statistics.stdev(accuracies), "to exact": mean - before}
        found.rows.append({**row, **spread, "all": accuracies})
        if row["case"] != EXACT:
            words = f"{row['model']}, {row['case']}: points lost"
            found.targets.append(Target(words, before - mean, MOST))
    found.notes.append("+-: standard deviation over seeds of first weights and of the order of examples.")
    return found


def work(config: dict[str, Any]) -> list[dict[str, Any]] | None:
    """One replica's part."""
    from distopt.distribute import get_replica_context

    rows = []
    for model, (load, widths, batch, epochs) in MODELS.items():
        data = load(config["tiny"])
        for case, make in CASES.items():
            count = 1 if config["tiny"] else epochs
            accuracies = [_trained(data, widths, batch, count, make(), seed) for seed in SEEDS]
            rows.append({"model": model, "case": case, "accuracies": accuracies})
    return rows if get_replica_context().replica_id_in_sync_group == 0 else None


def _digits(tiny: bool) -> tuple[Any, Any, Any, Any]:
    """Handwritten digits: images and labels, to train on and to test on."""
    import numpy as np
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))[: 200 if tiny else None]
    x, y = (images[order] / 16).astype(np.float32), labels[order]
    cut = len(x) * 4 // 5
    return x[:cut], y[:cut], x[cut:], y[cut:]


def _characters(tiny: bool) -> tuple[Any, Any, Any, Any]:
    """Python's own documentation: the 8 characters before each one, as ones among zeros, and that one."""
    from pydoc_data.topics import topics

    import numpy as np

    text = "\n".join(topics[name] for name in sorted(topics)).lower()[: 500 if tiny else 30_000]
    kinds, numbers = np.unique(list(text), return_inverse=True)
    before = np.stack([numbers[i : i - 8] for i in range(8)], axis=1)
    x = np.eye(len(kinds), dtype=np.float32)[before].reshape(len(before), -1)
    y, cut = numbers[8:], len(before) * 9 // 10
    return x[:cut], y[:cut], x[cut:], y[cut:]


def _trained(data: Any, widths: list[int], batch: int, epochs: int, optimizer: Any, seed: int) -> float:
    """Trains an MLP; its accuracy on what it has not seen."""
    import numpy as np

    from distopt import keras

    train_x, train_y, test_x, test_y = data
    np.random.seed(seed)  # for the first weights
    outputs = int(max(train_y.max(), test_y.max())) + 1
    hidden = [keras.layers.Dense(width, "relu") for width in widths]
    model = keras.Sequential([*hidden, keras.layers.Dense(outputs)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        mixed = generator.permutation(len(train_x))
        model.fit(train_x[mixed], train_y[mixed], batch_size=batch, shuffle=False, verbose=0)
    return float(model.evaluate(test_x, test_y, verbose=0)[1])


#: By name: the data, widths of hidden layers, the global batch, and epochs.
MODELS = {
    "digits": (_digits, [128, 128], 64, 20),
    "characters": (_characters, [128], 128, 4),
}
