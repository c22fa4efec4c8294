"""Values that come from elsewhere, with the way back for their derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distopt.autodiff.primitives import defvjp, primitive
from distopt.typing import Array

__all__ = ["linked"]


@primitive
def linked(source: Array, value: Array, back: Callable[[Any], Any]) -> Array:  # noqa: ARG001
    """``value``, which was computed from ``source`` where no tape sees it.

    Args:
        source: what it comes from.
        value: the result.
        back: carries the cotangent of the value to that of the source.
    """
    return value


defvjp(linked, lambda _ans, _source, _value, back: back, argnums=(0,))
