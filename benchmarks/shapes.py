"""Sets of parameter shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["even", "resnet50", "total"]

Shapes = list[tuple[int, ...]]


def even(parameters: int, variables: int) -> Shapes:
    """``parameters`` in equal variables."""
    return [(parameters // variables,)] * variables


def total(shapes: Sequence[Sequence[int]]) -> int:
    """The number of parameters."""
    return sum(math.prod(shape) for shape in shapes)


def resnet50() -> Shapes:
    """The 161 trainable variables of ResNet-50 for 1,000 classes: 25,557,032 parameters.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
    """
    shapes: Shapes = [(64, 3, 7, 7), (64,), (64,)]
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            layers = [(width, inputs, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            if block == 0:
                layers.append((4 * width, inputs, 1, 1))
            for shape in layers:
                shapes += [shape, (shape[0],), (shape[0],)]
            inputs = 4 * width
    return [*shapes, (1000, 2048), (1000,)]
