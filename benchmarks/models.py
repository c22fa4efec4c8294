"""The same models for distopt and for PyTorch, and their data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "MLPS",
    "TorchTraining",
    "Training",
    "classes",
    "keras_conv",
    "keras_mlp",
    "torch_conv",
    "torch_mlp",
]

#: Layer widths and the batch of one replica.
MLPS: dict[str, tuple[list[int], int]] = {
    "64-64-10, batch 32": ([64, 64, 10], 32),
    "784-512-512-10, batch 128": ([784, 512, 512, 10], 128),
    "784-2048-2048-10, batch 64": ([784, 2048, 2048, 10], 64),
}


def classes(shape: Sequence[int], examples: int, seed: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Random inputs ``[examples, *shape]`` float32 and labels ``[examples]`` of ten classes."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((examples, *shape), dtype=np.float32)
    return x, random.integers(0, 10, examples)


def keras_mlp(widths: Sequence[int]) -> Any:
    """ReLU layers and a last one of logits."""
    from distopt import keras

    hidden = [keras.layers.Dense(width, activation="relu") for width in widths[1:-1]]
    return keras.Sequential([keras.Input((widths[0],)), *hidden, keras.layers.Dense(widths[-1])])


def torch_mlp(widths: Sequence[int]) -> Any:
    """The same in PyTorch."""
    from torch import nn

    parts: list[Any] = []
    for inputs, outputs in pairwise(widths):
        parts += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def keras_conv() -> Any:
    """Two convolutions of 32 and 64 filters with pooling, and a layer of logits, on 28x28 images."""
    from distopt import keras

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


def torch_conv() -> Any:
    """The same in PyTorch."""
    from torch import nn

    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * 5 * 5, 10)),
    )


class Training:
    """Forward and backward of a distopt model, and an update if there is an optimizer.

    Args:
        model: what to train.
        x: this replica's inputs.
        y: their labels.
        replicas: how many there are; the loss is the mean over the batches of all.
        optimizer: None to compute gradients only.
    """

    def __init__(self, model: Any, x: Any, y: Any, replicas: int = 1, optimizer: Any = None) -> None:
        from distopt import GradientTape
        from distopt.keras.losses import SparseCategoricalCrossentropy

        self._model, self._x, self._y, self._optimizer, self._tape = model, x, y, optimizer, GradientTape
        self._loss = SparseCategoricalCrossentropy(from_logits=True)
        self._share = 1 / replicas
        model(x)

    def prepare(self) -> None:
        """Nothing."""

    def step(self) -> None:
        """One step on the whole of the data."""
        self.step_on(self._x, self._y)

    def step_on(self, x: Any, y: Any) -> None:
        """One step on a batch."""
        with self._tape() as tape:
            loss = self._loss.mean(y, self._model(x, training=True), factor=self._share)
        variables = self._model.trainable_variables
        gradients = tape.gradient(loss, variables)
        if self._optimizer is not None:
            self._optimizer.apply_gradients(zip(gradients, variables, strict=True))


class TorchTraining:
    """The same in PyTorch, written as its users write it.

    Args:
        model: what to train.
        batches: inputs and labels of a replica; each step takes the next, the last is followed by the first.
        optimizers: none to compute gradients only.
    """

    def __init__(
        self, model: Any, batches: Iterable[tuple[Any, Any]], optimizers: Sequence[Any] = ()
    ) -> None:
        import torch
        from torch.nn.functional import cross_entropy

        self.model, self._optimizers, self._loss = model, optimizers, cross_entropy
        self._batches = cycle([(torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches])

    def prepare(self) -> None:
        """The next batch."""
        self._x, self._y = next(self._batches)

    def step(self) -> None:
        """One step."""
        for owner in self._optimizers or [self.model]:
            owner.zero_grad()
        self.forward().backward()
        for optimizer in self._optimizers:
            optimizer.step()

    def forward(self) -> Any:
        """The loss."""
        return self._loss(self.model(self._x), self._y)
