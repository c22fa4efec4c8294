"""Clips each element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from distopt.core.numbers import as_clip
from distopt.engine.clip import clip_value
from distopt.transforms.elementwise import map_values
from distopt.typing import GradsAndVars

__all__ = ["ClipByValue"]


@dataclass(frozen=True)
class ClipByValue:
    """Clips each element of each gradient to ``[-limit, limit]``. NaN remains NaN.

    The rows of a sparse gradient are clipped as given, before rows with equal indices are summed.
    """

    limit: float

    def __post_init__(self) -> None:
        as_clip(self.limit, "limit")

    def __call__(self, grads_and_vars: GradsAndVars) -> list[tuple[Any, Any]]:
        """Returns the pairs with clipped gradients."""
        return [(map_values(lambda g: clip_value(g, self.limit), g), v) for g, v in grads_and_vars]
