"""Epilogue: what happens to the sum of the gradients before the rule gets it."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.engine.clip import Clip

__all__ = ["Epilogue"]


class Epilogue:
    """A division and clips, in this order; all of them may be missing.

    Args:
        divisor: what sums are divided by, or None.
        clip: what is clipped.
    """

    def __init__(self, divisor: int | None = None, clip: Clip | None = None) -> None:
        self.clip = clip
        #: Whether all sums must be there before the first update.
        self.needs_norms = clip is not None and clip.needs_norms
        limit = None if clip is None else clip.value
        #: Whether each element stays as it is, norms aside.
        self.plain = divisor is None and limit is None
        self._numbers = 1 if divisor is None else divisor, np.inf if limit is None else limit

    def numbers(self, dtype: np.dtype[Any]) -> tuple[Any, Any]:
        """Divisor and bound as scalars of ``dtype``, which change nothing where there is none."""
        divisor, limit = self._numbers
        return dtype.type(divisor), dtype.type(limit)
