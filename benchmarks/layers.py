"""``layers``: forward and backward beside PyTorch, and what ``fit`` adds to a bare loop; one replica."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report, Target

__all__ = ["report", "work"]

OURS, TORCH = "distopt", "PyTorch"
FIT, BARE = "fit", "bare loop"
CONV, LOOP = "Conv2D 32, 64, batch 64", "784-512-512-10 trained"
#: At most so many times PyTorch's time.
LIMITS = {
    "64-64-10, batch 32": 0.6,
    "784-512-512-10, batch 128": 1.0,
    "784-2048-2048-10, batch 64": 1.05,
    CONV: 2.5,
}


def report(effort: Effort) -> Report:
    """Runs all models in one process."""
    found = Report(
        "layers",
        "Forward and backward, one replica, one thread; fit and a bare loop",
        Picture("bars", "model", "peer", "ms", log=True),
    )
    config = {"tiny": effort.tiny, "rounds": effort.rounds, "seconds": effort.seconds}
    result = jobs.run("layers", config, None, effort.timeout)
    for name, peers in result.items():
        medians = {peer: statistics.median(times) for peer, times in peers.items()}
        for peer, times in peers.items():
            found.rows.append(
                {
                    "model": name,
                    "peer": peer,
                    "ms": 1e3 * medians[peer],
                    "rounds_ms": [1e3 * t for t in times],
                }
            )
        if name == LOOP:
            found.targets.append(Target("fit over the bare loop", medians[FIT] / medians[BARE], 1.15, " x"))
        else:
            share = medians[OURS] / medians[TORCH]
            found.targets.append(Target(f"{name}: share of PyTorch's time", share, LIMITS[name], " x"))
    return found


def work(config: dict[str, Any]) -> dict[str, Any]:
    """All of it."""
    import torch

    from benchmarks import models
    from benchmarks.clock import solo, turns

    torch.set_num_threads(1)
    tiny = config["tiny"]
    result = {}
    for name, (widths, batch) in models.MLPS.items():
        if tiny:
            widths, batch = [min(width, 16) for width in widths], 4
        x, y = models.classes(widths[:1], batch, seed=0)
        peers: dict[str, Any] = {
            OURS: models.Training(models.keras_mlp(widths), x, y),
            TORCH: models.TorchTraining(models.torch_mlp(widths), [(x, y)]),
        }
        result[name] = turns(solo(), peers, config["rounds"], config["seconds"])
    x, y = models.classes((28, 28, 1), 2 if tiny else 64, seed=0)
    peers = {
        OURS: models.Training(models.keras_conv(), x, y),
        TORCH: models.TorchTraining(models.torch_conv(), [(x.transpose(0, 3, 1, 2).copy(), y)]),
    }
    result[CONV] = turns(solo(), peers, config["rounds"], config["seconds"])
    widths, batch = models.MLPS["784-512-512-10, batch 128"]
    x, y = models.classes(widths[:1], batch * (2 if tiny else 20), seed=0)
    peers = {FIT: Fit(widths, batch, x, y), BARE: BareLoop(widths, batch, x, y)}
    found = turns(solo(), peers, config["rounds"], config["seconds"])
    steps = EPOCHS * len(x) // batch
    result[LOOP] = {peer: [time / steps for time in times] for peer, times in found.items()}
    return result


#: In one call, so that what a call of fit costs once counts as little as in practice.
EPOCHS = 3


class Fit:
    """A peer that trains by ``fit``: its step is so many epochs."""

    def __init__(self, widths: list[int], batch: int, x: Any, y: Any) -> None:
        from benchmarks.models import keras_mlp
        from distopt import keras
        from distopt.optimizers import Adam

        self._model, self._batch, self._x, self._y = keras_mlp(widths), batch, x, y
        self._model.compile(Adam(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def prepare(self) -> None:
        """Nothing."""

    def step(self) -> None:
        """So many epochs."""
        self._model.fit(self._x, self._y, batch_size=self._batch, epochs=EPOCHS, verbose=0)


class BareLoop:
    """The same written out with a tape."""

    def __init__(self, widths: list[int], batch: int, x: Any, y: Any) -> None:
        from benchmarks.models import Training, keras_mlp
        from distopt.optimizers import Adam

        self._batch, self._x, self._y = batch, x, y
        self._training = Training(keras_mlp(widths), x[:batch], y[:batch], optimizer=Adam())

    def prepare(self) -> None:
        """Nothing."""

    def step(self) -> None:
        """So many epochs."""
        for _ in range(EPOCHS):
            for start in range(0, len(self._x), self._batch):
                part = slice(start, start + self._batch)
                self._training.step_on(self._x[part], self._y[part])
