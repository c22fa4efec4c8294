"""Clips the norm of all gradients together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from distopt.core.numbers import as_clip
from distopt.engine import norms
from distopt.engine.clip import clip_global_norm
from distopt.transforms.elementwise import map_values, values_of
from distopt.typing import GradsAndVars

__all__ = ["ClipByGlobalNorm"]


@dataclass(frozen=True)
class ClipByGlobalNorm:
    """Scales all gradients by the same factor if their joint l2 norm is above ``limit``.

    If the norm is not finite, all gradients become NaN. The rows of a sparse gradient count as given, before
    rows with equal indices are summed.

    Source: ``tf.clip_by_global_norm``.
    """

    limit: float

    def __post_init__(self) -> None:
        as_clip(self.limit, "the norm's limit")

    def __call__(self, grads_and_vars: GradsAndVars) -> list[tuple[Any, Any]]:
        """Returns the pairs with clipped gradients.

        Raises:
            ValueError: the gradients have different dtypes.
        """
        pairs = list(grads_and_vars)
        values = [values_of(gradient) for gradient, _ in pairs]
        first: dict[np.dtype[Any], str] = {}  # one variable of each dtype, since there may be thousands
        for (_, variable), array in zip(pairs, values, strict=True):
            first.setdefault(array.dtype, variable.name)
        if len(first) > 1:
            names = ", ".join(f"{name}: {dtype}" for dtype, name in first.items())
            raise ValueError(
                f"the global norm needs gradients of one dtype; got {names}. Clip each by clipnorm"
            )
        sums = [norms.sums_of_squares(np.ascontiguousarray(array).reshape(-1)) for array in values]
        squares = norms.sum_of_pieces(sums)
        return [(map_values(lambda a: clip_global_norm(a, squares, self.limit), g), v) for g, v in pairs]
