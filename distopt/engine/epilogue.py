"""Epilogue: what happens to the sum of the gradients before the rule gets it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from distopt.engine.clip import Clip

__all__ = ["Epilogue", "epilogue"]


class Epilogue:
    """A division and clips, in this order; all of them may be missing. :func:`epilogue` gives it.

    Args:
        divisor: what sums are divided by, or None.
        clip: what is clipped, or None.

    Attributes:
        needs_norms: whether all sums must be there before the first update.
        plain: whether each element stays as it is, norms aside.
        numbers: divisor and bound by dtype, as scalars of it; they change nothing where there is none.
    """

    def __init__(self, divisor: int | None, clip: Clip | None) -> None:
        self.divisor, self.clip = divisor, clip
        self.needs_norms = clip is not None and clip.needs_norms
        limit = None if clip is None else clip.value
        self.plain = divisor is None and limit is None
        by, bound = 1 if divisor is None else divisor, np.inf if limit is None else limit
        kinds = (np.dtype(np.float32), np.dtype(np.float64))
        self.numbers = {dtype: (dtype.type(by), dtype.type(bound)) for dtype in kinds}


#: The same object for the same arguments; means that are weighted anew at each step have many divisors.
epilogue = lru_cache(maxsize=64)(Epilogue)
