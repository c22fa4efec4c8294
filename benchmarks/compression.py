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
    """What optimizers depend on: the number of steps, and SGD's first rate with momentum 0.9."""

    steps: int
    rate: float


def _falling(rate: float, task: _Task) -> Any:
    from distopt.optimizers import schedules

    return schedules.PolynomialDecay(rate, task.steps, 0.0)


def _adam(task: _Task, aggregator: Any = "mean") -> Any:
    from distopt.optimizers import Adam

    return Adam(_falling(1e-2, task), gradient_aggregator=aggregator)


def _sgd(task: _Task, aggregator: Any = "mean", times: float = 1.0, momentum: float = 0.9) -> Any:
    from distopt.optimizers import SGD

    return SGD(_falling(times * task.rate, task), momentum=momentum, gradient_aggregator=aggregator)


def _aggregator(name: str, **arguments: Any) -> Any:
    from distopt import aggregators

    return getattr(aggregators, name)(**arguments)


def _local(name: str, inner: Any, **options: Any) -> Any:
    from distopt import optimizers

    return getattr(optimizers, name)(inner, every=20, **options)


def _nesterov(momentum: float, wire: str = "float32") -> Any:
    from distopt.optimizers import SGD

    mean = _aggregator("Mean", wire=wire)
    return SGD(0.7, momentum=momentum, nesterov=True, gradient_aggregator=mean)


def _signum(task: _Task) -> Any:
    from distopt.optimizers import SGD

    return SGD(_falling(5e-3, task), gradient_aggregator=_aggregator("SignSGD", momentum=0.9))


_SGD_EXACT = "exact mean, SGD with momentum 0.9"
#: By name: what it is compared with, and what makes the optimizer. In LocalSGD fit takes the mean of a node's
#: own examples, which is twice its part of the global mean: so SGD has half of the rate there.
CASES: dict[str, tuple[str, Callable[[_Task], Any]]] = {
    EXACT: (EXACT, _adam),
    "mean as bf16": (EXACT, lambda task: _adam(task, _aggregator("Mean", wire="bf16"))),
    "mean as fp16": (EXACT, lambda task: _adam(task, _aggregator("Mean", wire="fp16"))),
    "mean as int8": (EXACT, lambda task: _adam(task, _aggregator("Mean", wire="int8"))),
    "PowerSGD, rank 4": (EXACT, lambda task: _adam(task, _aggregator("PowerSGD", rank=4))),
    "PowerSGD, rank 8": (EXACT, lambda task: _adam(task, _aggregator("PowerSGD", rank=8))),
    "PowerSGD, rank 16": (EXACT, lambda task: _adam(task, _aggregator("PowerSGD", rank=16))),
    "TopK, 1 %": (EXACT, lambda task: _adam(task, _aggregator("TopK", fraction=0.01))),
    "TopK, 2 %": (EXACT, lambda task: _adam(task, _aggregator("TopK", fraction=0.02))),
    "LocalSGD, every 20": (EXACT, lambda task: _local("LocalSGD", _adam(task))),
    "DiLoCo, every 20": (EXACT, lambda task: _local("DiLoCo", _adam(task))),
    "DiLoCo, every 20, as float32": (EXACT, lambda t: _local("DiLoCo", _adam(t), outer=_nesterov(0.9))),
    "DiLoCo, every 20, outer momentum 0.5": (
        EXACT,
        lambda task: _local("DiLoCo", _adam(task), outer=_nesterov(0.5, "bf16")),
    ),
    "SignSGD with momentum, SGD": (EXACT, _signum),
    _SGD_EXACT: (_SGD_EXACT, _sgd),
    "PowerSGD, rank 4, SGD": (_SGD_EXACT, lambda task: _sgd(task, _aggregator("PowerSGD", rank=4))),
    "TopK, 1 %, SGD": (_SGD_EXACT, lambda task: _sgd(task, _aggregator("TopK", fraction=0.01))),
    "TopK, 1 %, SGD without momentum at 5 times the rate": (
        _SGD_EXACT,
        lambda task: _sgd(task, _aggregator("TopK", fraction=0.01), 5.0, 0.0),
    ),
    "LocalSGD, every 20, SGD": (_SGD_EXACT, lambda task: _local("LocalSGD", _sgd(task, times=1 / REPLICAS))),
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

    text = "\n".join(topics[name] for name in sorted(topics)).lower()[: 1_000 if tiny else 60_000]
    kinds, numbers = np.unique(list(text), return_inverse=True)
    before = np.stack([numbers[i : i - 8] for i in range(8)], axis=1)
    x = np.eye(len(kinds), dtype=np.float32)[before].reshape(len(before), -1)
    y = numbers[8:]
    cut = len(before) * 9 // 20  # more to test on than to train on: chance plays less part
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


#: By name: the data, widths of hidden layers, the global batch, epochs, and SGD's first rate. fit gives each
#: replica its part of the global mean, which the mean over two replicas halves: so rates are twice those of a
#: sum. All rates were chosen on a part of the examples to train on, set aside; they decay to zero.
MODELS = {
    "digits": (_digits, [128, 128], 64, 20, 0.4),
    "characters": (_characters, [128], 128, 8, 1.2),
}
