"""``compression``: accuracy of models trained over two pretended nodes, by what travels between them.

The replicas are threads of one process: the same bits as processes, at half the time.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report, Target

__all__ = ["report", "work"]

REPLICAS, SEEDS = 2, (0, 1, 2, 3, 4)
#: Points of accuracy that may be lost.
MOST = 0.5
EXACT = "exact mean"


@dataclass(frozen=True)
class _Task:
    """What optimizers depend on: the number of steps, and SGD's rate, which the validation split has told."""

    steps: int
    rate: float


def _adam(aggregator: Any, rate: Any = 1e-3) -> Any:
    from distopt.optimizers import Adam

    return Adam(rate, gradient_aggregator=aggregator)


def _falling(rate: float, task: _Task) -> Any:
    from distopt.optimizers import schedules

    return schedules.PolynomialDecay(rate, task.steps, 0.0)


def _sgd(rate: Any, aggregator: Any, momentum: float = 0.0) -> Any:
    from distopt.optimizers import SGD

    return SGD(rate, momentum=momentum, gradient_aggregator=aggregator)


def _aggregator(name: str, **arguments: Any) -> Any:
    from distopt import aggregators

    return getattr(aggregators, name)(**arguments)


def _local(name: str, inner: Any = None, **options: Any) -> Any:
    from distopt import optimizers

    return getattr(optimizers, name)(inner or _adam("mean"), every=20, **options)


def _nesterov(momentum: float) -> Any:
    from distopt.optimizers import SGD

    return SGD(0.7, momentum=momentum, nesterov=True)


def _signum(task: _Task) -> Any:
    return _sgd(_falling(2e-3, task), _aggregator("SignSGD", momentum=0.9))


_SGD_EXACT = "exact mean, SGD with momentum 0.9"
#: By name: what it is compared with, and what makes the optimizer.
CASES: dict[str, tuple[str, Callable[[_Task], Any]]] = {
    EXACT: (EXACT, lambda _: _adam("mean")),
    "mean as bf16": (EXACT, lambda _: _adam(_aggregator("Mean", wire="bf16"))),
    "mean as fp16": (EXACT, lambda _: _adam(_aggregator("Mean", wire="fp16"))),
    "mean as int8": (EXACT, lambda _: _adam(_aggregator("Mean", wire="int8"))),
    "LocalSGD, every 20": (EXACT, lambda _: _local("LocalSGD")),
    "DiLoCo, every 20": (EXACT, lambda _: _local("DiLoCo")),
    "DiLoCo, every 20, outer momentum 0.5": (EXACT, lambda _: _local("DiLoCo", outer=_nesterov(0.5))),
    "PowerSGD, rank 4": (EXACT, lambda _: _adam(_aggregator("PowerSGD", rank=4))),
    "PowerSGD, rank 16": (EXACT, lambda _: _adam(_aggregator("PowerSGD", rank=16))),
    "SignSGD with momentum, SGD": (EXACT, _signum),
    "TopK, 1 %, Adam": (EXACT, lambda _: _adam(_aggregator("TopK", fraction=0.01))),
    "TopK, 1 %, Adam, 10 times the rate": (
        EXACT,
        lambda task: _adam(_aggregator("TopK", fraction=0.01), _falling(1e-2, task)),
    ),
    _SGD_EXACT: (_SGD_EXACT, lambda task: _sgd(task.rate, "mean", 0.9)),
    "LocalSGD, every 20, SGD with momentum": (
        _SGD_EXACT,
        lambda task: _local("LocalSGD", _sgd(task.rate, "mean", 0.9)),
    ),
    "PowerSGD, rank 4, SGD with momentum": (
        _SGD_EXACT,
        lambda task: _sgd(task.rate, _aggregator("PowerSGD", rank=4), 0.9),
    ),
    "TopK, 1 %, SGD with momentum": (
        _SGD_EXACT,
        lambda task: _sgd(task.rate, _aggregator("TopK", fraction=0.01), 0.9),
    ),
    "TopK, 1 %, SGD at 10 times the rate": (
        _SGD_EXACT,
        lambda task: _sgd(10 * task.rate, _aggregator("TopK", fraction=0.01)),
    ),
}


def report(effort: Effort) -> Report:
    """Trains everything in one job."""
    found = Report(
        "compression",
        f"Test accuracy by what travels between {REPLICAS} pretended nodes, {len(SEEDS)} seeds",
        Picture("bars", "model", "case", "accuracy, %"),
    )
    pretended = {"DISTOPT_NODES": str(REPLICAS)}
    config = {"tiny": effort.tiny, "only": effort.only}
    rows = jobs.run("compression", config, None, 4 * effort.timeout, pretended)
    exact: dict[tuple[str, str], float] = {}
    for row in rows:
        accuracies = [100 * accuracy for accuracy in row.pop("accuracies")]
        mean = statistics.mean(accuracies)
        base = CASES[row["case"]][0]
        before = exact.setdefault((row["model"], base), mean)  # its row comes first
        spread = {"accuracy, %": mean, "+-": statistics.stdev(accuracies), "to exact": mean - before}
        found.rows.append({**row, **spread, "all": accuracies})
        if row["case"] != base:
            words = f"{row['model']}, {row['case']}: points lost"
            found.targets.append(Target(words, before - mean, MOST))
    found.notes.append("+-: standard deviation over seeds of first weights and of the order of examples.")
    return found


def work(config: dict[str, Any]) -> list[dict[str, Any]]:
    """All replicas."""
    rows = []
    for model, (load, widths, batch, epochs, rate) in MODELS.items():
        data = load(config["tiny"])
        count, seeds = (1, SEEDS[:2]) if config["tiny"] else (epochs, SEEDS)
        task = _Task(count * math.ceil(len(data[0]) / batch), rate)
        for case in _wanted(model, config["only"]):
            make = partial(CASES[case][1], task)
            accuracies = [accuracy(data, widths, batch, count, make, seed) for seed in seeds]
            rows.append({"model": model, "case": case, "accuracies": accuracies})
    return rows


def _wanted(model: str, only: str) -> list[str]:
    """The cases that have ``only`` in the names of model and case, and what they are compared with."""
    chosen = [case for case in CASES if only.lower() in f"{model}, {case}".lower()]
    return [case for case in CASES if case in chosen or any(CASES[c][0] == case for c in chosen)]


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


def accuracy(
    data: Any, widths: list[int], batch: int, epochs: int, make: Callable[[], Any], seed: int
) -> float:
    """Trains an MLP on all replicas; its accuracy on what it has not seen."""
    from distopt.distribute import VirtualStrategy

    found: list[float] = []
    VirtualStrategy(REPLICAS).run(lambda: found.append(_trained(data, widths, batch, epochs, make(), seed)))
    return found[0]


def _trained(data: Any, widths: list[int], batch: int, epochs: int, optimizer: Any, seed: int) -> float:
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


#: By name: the data, widths of hidden layers, the global batch, epochs, and SGD's rate with momentum 0.9.
#: fit gives each replica its part of the global mean, which the mean over two replicas halves: so rates are
#: twice those of a sum.
MODELS = {
    "digits": (_digits, [128, 128], 64, 20, 0.2),
    "characters": (_characters, [128], 128, 4, 0.6),
}
