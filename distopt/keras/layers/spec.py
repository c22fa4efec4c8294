"""Shapes of what layers take: what they must be, and those of nested values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distopt.core.nest import map_structure

__all__ = ["InputSpec", "map_shapes", "shapes_of"]


@dataclass(frozen=True)
class InputSpec:
    """The shape of inputs that a layer accepts. Every call checks it.

    Attributes:
        ndim: the required number of axes, or None.
        min_ndim: the minimum number of axes, or None.
        axes: the required lengths, by axis.
    """

    ndim: int | None = None
    min_ndim: int | None = None
    axes: dict[int, int] = field(default_factory=dict)

    def fits(self, shape: tuple[int | None, ...]) -> bool:
        """Whether a shape is accepted. None stands for any length."""
        if self.ndim is not None and len(shape) != self.ndim:
            return False
        if self.min_ndim is not None and len(shape) < self.min_ndim:
            return False
        for axis, length in self.axes.items():
            if shape[axis] != length and shape[axis] is not None:
                return False
        return True

    def __str__(self) -> str:
        parts = [] if self.ndim is None else [f"{self.ndim} axes"]
        if self.min_ndim is not None:
            parts.append(f"at least {self.min_ndim} axes")
        parts += [f"length {length} on axis {axis}" for axis, length in self.axes.items()]
        return " and ".join(parts)


def shapes_of(inputs: Any) -> Any:
    """The shapes of nested values, None for the batch axis."""
    return map_structure(lambda value: (None, *value.shape[1:]), inputs)


def map_shapes(func: Callable[[tuple[int | None, ...]], Any], shapes: Any) -> Any:
    """``func`` applied to every shape (a tuple of ints and None) in lists, tuples and dicts of shapes."""
    if isinstance(shapes, dict):
        return {key: map_shapes(func, shape) for key, shape in shapes.items()}
    if all(n is None or isinstance(n, (int, np.integer)) for n in shapes):
        return func(tuple(shapes))
    return type(shapes)(map_shapes(func, shape) for shape in shapes)
