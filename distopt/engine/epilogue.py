"""Epilogue: the division and clip of the summed gradients, before the update rule."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from distopt.engine.clip import Clip

__all__ = ["Epilogue", "epilogue"]


class Epilogue:
    """A division, then clips; both are optional. :func:`epilogue` returns cached instances.

    Args:
        divisor: the divisor of a mean, or None.
        clip: the clips, or None.

    Attributes:
        needs_norms: whether it clips by norm, so that all gradients must be summed before the first update.
        plain: whether it neither divides nor clips by value.
        numbers: for float32 and float64: the divisor and the bound of the clip by value, as scalars of that
            dtype; 1 and infinity by default.
    """

    def __init__(self, divisor: int | None, clip: Clip | None) -> None:
        self.divisor, self.clip = divisor, clip
        self.needs_norms = clip is not None and clip.needs_norms
        limit = None if clip is None else clip.value
        self.plain = divisor is None and limit is None
        by, bound = 1 if divisor is None else divisor, np.inf if limit is None else limit
        kinds = (np.dtype(np.float32), np.dtype(np.float64))
        self.numbers = {dtype: (dtype.type(by), dtype.type(bound)) for dtype in kinds}


#: The cache is limited because weighted means may have another divisor at each step.
epilogue = lru_cache(maxsize=64)(Epilogue)
