"""The values of an optimizer's weights: initial values and values that are set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.core import initializers
from distopt.core.checks import as_sequence, shown
from distopt.core.numbers import as_numbers
from distopt.core.variable import Variable
from distopt.typing import Array

__all__ = ["assign_weights", "initial_value"]


def assign_weights(optimizer: str, weights: Sequence[Variable], given: Any) -> None:
    """Sets the values of all weights, or of none if there is an error; see ``Optimizer.set_weights``.

    Args:
        optimizer: its name, for messages.
        weights: the variables.
        given: their values.
    """
    given = as_sequence(given, f"set_weights() of optimizer {optimizer!r}: the weights")
    if len(given) != len(weights):
        raise ValueError(
            f"You called `set_weights(weights)` on optimizer {optimizer} with a weight list of length "
            f"{len(given)}, but the optimizer was expecting {len(weights)} weights. The first step creates "
            "the slots: apply gradients once, then set the weights"
        )
    values = [
        as_numbers(value, f"set_weights(): the value of {weight.name!r}")
        for weight, value in zip(weights, given, strict=True)
    ]
    for weight, value in zip(weights, values, strict=True):
        if weight.shape != value.shape:
            raise ValueError(
                f"Optimizer weight shape {weight.shape} not compatible with provided weight shape "
                f"{value.shape} (weight {weight.name!r} of optimizer {optimizer!r})"
            )
        if weight.dtype.kind in "iu" and not _whole(value):
            raise ValueError(
                f"Optimizer weight {weight.name!r} of optimizer {optimizer!r} holds whole numbers; "
                f"got {shown(value)}"
            )
    for weight, value in zip(weights, values, strict=True):
        weight.assign(value)


def _whole(value: Array) -> bool:
    if value.dtype.kind in "biu":
        return True
    return value.dtype.kind == "f" and bool((np.isfinite(value) & (value == np.trunc(value))).all())


def initial_value(initializer: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """The value that ``initializer`` (a name, a callable, or a value) gives for a shape and a dtype.

    Raises:
        ValueError: the initializer is unknown.
    """
    if isinstance(initializer, (str, dict)) or callable(initializer):
        return initializers.get(initializer)(shape, dtype)  # type: ignore[no-any-return]
    return np.asarray(initializer)
