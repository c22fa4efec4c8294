"""Layers that change the shape only: Flatten, Reshape and InputLayer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.core.checks import as_count, as_sequence
from distopt.keras.layers.layer import Layer
from distopt.typing import DTypeLike

__all__ = ["Flatten", "Input", "InputLayer", "Reshape"]


class Flatten(Layer):
    """``[batch, a, b, ...]`` to ``[batch, a * b * ...]``."""

    def call(self, inputs: Any) -> Any:
        """See Layer."""
        return np.reshape(inputs, (inputs.shape[0], math.prod(inputs.shape[1:])))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """See Layer."""
        rest = input_shape[1:]
        return (input_shape[0], None if None in rest else math.prod(rest))


class Reshape(Layer):
    """Reshapes each example.

    Args:
        target_shape: the shape without the batch axis. One length may be -1, which is inferred.
        **kwargs: arguments of :class:`Layer`.

    Raises:
        ValueError: more than one length is -1. When called, the number of elements differs.
    """

    def __init__(self, target_shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_shape = tuple(
            as_count(n, "each length in target_shape", least=-1)
            for n in as_sequence(target_shape, "target_shape")
        )
        if self.target_shape.count(-1) > 1:
            raise ValueError(f"target_shape may hold one -1 only; got {self.target_shape}")

    def call(self, inputs: Any) -> Any:
        """See Layer."""
        return np.reshape(inputs, (inputs.shape[0], *self._resolved(inputs.shape)))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """See Layer."""
        return (input_shape[0], *self._resolved(input_shape))

    def get_config(self) -> dict[str, Any]:
        """See Layer."""
        return {**super().get_config(), "target_shape": list(self.target_shape)}

    def _resolved(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        size = math.prod(shape[1:])
        known = math.prod(n for n in self.target_shape if n != -1)
        if (size % known if -1 in self.target_shape and known else size - known) != 0:
            raise ValueError(
                f"layer {self.name!r} (Reshape) cannot make {self.target_shape} of examples of shape "
                f"{tuple(shape[1:])}: they have {size} elements"
            )
        return tuple(size // known if n == -1 else n for n in self.target_shape)


class InputLayer(Layer):
    """Declares the shape of an example, as the first layer of a Sequential."""

    def call(self, inputs: Any) -> Any:
        """See Layer."""
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """See Layer."""
        return input_shape


def Input(shape: Sequence[int | None], dtype: DTypeLike = None, name: str | None = None) -> InputLayer:  # noqa: N802
    """Returns the first layer of a Sequential: it declares the shape of an example, without batch axis."""
    return InputLayer(input_shape=shape, dtype=dtype, name=name)
