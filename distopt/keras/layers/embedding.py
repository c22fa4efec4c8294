"""Embedding: a vector for each integer."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.autodiff import gather
from distopt.core import Variable
from distopt.core.checks import as_count
from distopt.core.tensor import as_array
from distopt.keras.layers.dense import positive
from distopt.keras.layers.layer import Layer
from distopt.keras.layers.options import WeightOptions

__all__ = ["Embedding"]


class Embedding(Layer):
    """Looks up rows of a table. The gradient of the table is :class:`~distopt.IndexedSlices`.

    The input has integers of any shape. The output has the same shape with ``output_dim`` appended.

    Args:
        input_dim: the number of rows. Inputs are from 0 to ``input_dim - 1``.
        output_dim: the length of a row.
        embeddings_initializer: the initializer of the table ``[input_dim, output_dim]``.
        embeddings_regularizer: a penalty on the table. It makes the gradient dense.
        embeddings_constraint: applied to the table. Optimizers reject it for sparse gradients.
        mask_zero: must be False. Masks are not supported.
        input_length: the length of one example, if the output shape must be known in advance.
        **kwargs: arguments of :class:`Layer`.

    Raises:
        ValueError: a dimension is not a positive integer, or ``mask_zero`` is True. When called, an input is
            out of range.
        TypeError: when called, the inputs are not integers.
    """

    embeddings: Variable

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        input_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        if mask_zero:
            raise ValueError(
                "Embedding(mask_zero=True) is not supported: no layer supports masks. Use sample_weight "
                "for the time steps, or mask them in a custom layer"
            )
        if input_length is not None and "batch_input_shape" not in kwargs:
            kwargs.setdefault("input_shape", (as_count(input_length, "input_length"),))
        super().__init__(**kwargs)
        self.input_dim = positive(input_dim, "input_dim", self)
        self.output_dim = positive(output_dim, "output_dim", self)
        self.input_length = input_length
        self._options = WeightOptions.of(
            embeddings_initializer, embeddings_regularizer, embeddings_constraint
        )

    def build(self, input_shape: Any) -> None:
        """See Layer."""
        self.embeddings = self._options.add_to(self, "embeddings", (self.input_dim, self.output_dim))

    def _cast(self, value: Any) -> Any:
        """Leaves the numbers alone: a float16 layer could not hold large ones."""
        return np.asarray(value)

    def call(self, inputs: Any) -> Any:
        """See Layer."""
        ids = as_array(inputs)
        if ids.dtype.kind == "f" and np.array_equal(
            ids, np.floor(ids)
        ):  # pipelines make floats of everything
            ids = ids.astype(np.int64)
        if ids.dtype.kind not in "iu":
            raise TypeError(f"layer {self.name!r} (Embedding) takes integers; got dtype {ids.dtype}")
        if ids.size and not (ids.min() >= 0 and ids.max() < self.input_dim):
            raise ValueError(
                f"layer {self.name!r} (Embedding) takes integers from 0 to {self.input_dim - 1} "
                f"(input_dim={self.input_dim}); got values from {ids.min()} to {ids.max()}"
            )
        return gather(self.embeddings, ids)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """See Layer."""
        return (*input_shape, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        """See Layer."""
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "mask_zero": False,
            "input_length": self.input_length,
            **self._options.config("embeddings"),
        }
