"""The models of ``torch``, the data and the optimizers that they are trained with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import relu

from benchmarks.models import classes, torch_mlp

__all__ = ["CASES", "TINY", "Case", "Encoder", "Table", "resnet18"]

Batches = Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]]

#: Of the embedding table a replica's batches touch other rows each time.
_TABLE_BATCHES = 16


@dataclass(frozen=True)
class Case:
    """A model and how it is trained.

    Attributes:
        model: makes the model.
        batches: makes the batches of a replica from its rank.
        optimizers: makes the optimizers of a model from a namespace that has PyTorch's classes.
    """

    model: Callable[[], nn.Module]
    batches: Callable[[int], Batches]
    optimizers: Callable[[Any, Any], list[Any]]


def mlp(width: int, layers: int, batch: int) -> Case:
    """Hidden layers of one width between 784 inputs and 10 classes; Adam."""
    return Case(
        lambda: torch_mlp([784, *[width] * layers, 10]),
        lambda rank: [classes((784,), batch, rank)],
        lambda optim, model: [optim.Adam(model.parameters(), lr=1e-3)],
    )


def convolutional(width: int, batch: int) -> Case:
    """ResNet-18 on images of 32x32; SGD with momentum."""
    return Case(
        lambda: resnet18(width),
        lambda rank: [classes((3, 32, 32), batch, rank)],
        lambda optim, model: [optim.SGD(model.parameters(), lr=0.01, momentum=0.9)],
    )


def encoder(width: int, layers: int, batch: int) -> Case:
    """A transformer encoder on 32 tokens; AdamW."""
    return Case(
        lambda: Encoder(width, layers),
        lambda rank: [_numbers((batch, Encoder.LENGTH), Encoder.TOKENS, rank)],
        lambda optim, model: [optim.AdamW(model.parameters(), lr=1e-3)],
    )


def table(rows: int, width: int, batch: int) -> Case:
    """An embedding table, 10 rows an example; SparseAdam for it, Adam for the rest."""
    return Case(
        lambda: Table(rows, width),
        lambda rank: [_different_rows(batch, rows, rank + 1000 * k) for k in range(_TABLE_BATCHES)],
        lambda optim, model: [
            optim.SparseAdam(model.rows.parameters(), lr=1e-3),
            optim.Adam(model.head.parameters(), lr=1e-3),
        ],
    )


CASES = {
    "MLP, batch 64": mlp(760, 10, 64),  # 5.8 M parameters
    "MLP, batch 256": mlp(760, 10, 256),
    "ResNet-18": convolutional(64, 8),  # 11.2 M
    "encoder": encoder(384, 6, 4),  # 10.8 M
    "table": table(390_625, 64, 39),  # 25 M; a batch touches 0.1 % of the rows
}
#: The same cases, so small that only their running counts.
TINY = {
    "MLP, batch 64": mlp(16, 2, 4),
    "MLP, batch 256": mlp(16, 2, 8),
    "ResNet-18": convolutional(4, 2),
    "encoder": encoder(12, 1, 2),
    "table": table(1000, 4, 2),
}


def _numbers(shape: tuple[int, ...], below: int, seed: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Random whole numbers and a label of ten classes for each row of them."""
    random = np.random.default_rng(seed)
    return random.integers(0, below, shape), random.integers(0, 10, shape[0])


def _different_rows(batch: int, rows: int, seed: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Ten rows of a table for each example, none of them twice, and labels."""
    random = np.random.default_rng(seed)
    return random.choice(rows, (batch, 10), replace=False), random.integers(0, 10, batch)


class _Residual(nn.Module):
    """Two convolutions of 3x3 and what they are added to."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            *(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()),
            *(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)),
        )
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Any) -> Any:
        return relu(self.path(x) + self.shortcut(x))


def resnet18(width: int = 64) -> nn.Module:
    """ResNet-18 for images ``[n, 3, 32, 32]`` of ten classes: 11,173,962 parameters at a width of 64.

    Its first convolution is 3x3 without stride or pooling, as is usual for such images.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
    """
    blocks: list[nn.Module] = []
    inputs = width
    for outputs, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)):
        blocks += [_Residual(inputs, outputs, stride), _Residual(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(
        *(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
        *blocks,
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)),
    )


class Encoder(nn.Module):
    """A transformer encoder on tokens ``[n, LENGTH]``, the mean over which is put into ten classes."""

    LENGTH, TOKENS = 32, 256

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(self.TOKENS, width), nn.Embedding(self.LENGTH, width)
        layer = nn.TransformerEncoderLayer(
            width, 6, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Any) -> Any:
        """Logits ``[n, 10]``."""
        x = self.tokens(x) + self.places(torch.arange(self.LENGTH))
        return self.head(self.layers(x).mean(1))


class Table(nn.Module):
    """The mean of some rows ``[n, k]`` of an embedding table, put into ten classes; sparse gradients."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(rows, width, sparse=True)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))

    def forward(self, x: Any) -> Any:
        """Logits ``[n, 10]``."""
        return self.head(self.rows(x).mean(1))
