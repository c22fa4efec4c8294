"""Rule: the arithmetic of one optimizer, written once."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["Rule", "Sparse", "where"]


class Sparse(enum.Enum):
    """What a sparse gradient does to the rows that it does not name."""

    #: Nothing: slots and variable keep their values there.
    ROWS = "rows"
    #: The slots change as with a gradient of zero, the variable does not.
    DECAY = "decay"
    #: Slots and variable change as with a gradient of zero.
    ALL = "all"


@dataclass(frozen=True, eq=False)
class Rule:
    """The update of one element: ``(w, g, *slots, *coefficients) -> (w, *slots)``.

    The function is compiled for scalars of float32 and float64, and called as it is on arrays of
    other dtypes (float16 so rounds after each operation). Therefore it uses operators,
    :func:`where` and the NumPy functions that both understand (``np.sqrt``, ``np.abs``,
    ``np.maximum``, ``np.minimum``), no ``if``, and no literals: a literal 2.0 would turn float32
    into float64. Constants are coefficients.

    Args:
        name: for messages, such as ``"adam"``.
        function: a function at the top level of a module.
        slots: the names of its slots, in the order of its parameters.
        sparse: what a sparse gradient does to other rows.
    """

    name: str
    function: Callable[..., Any]
    slots: tuple[str, ...] = ()
    sparse: Sparse = Sparse.ROWS

    @cached_property
    def coefficients(self) -> tuple[str, ...]:
        """The names of the parameters after variable, gradient and slots."""
        return tuple(inspect.signature(self.function).parameters)[2 + len(self.slots) :]


def where(condition: Any, yes: Any, no: Any) -> Any:
    """``np.where`` for rules: compiled, it is one select instruction.

    Args:
        condition: bool, scalar or array.
        yes: the value where it holds.
        no: the value elsewhere, of the same dtype.
    """
    return np.where(condition, yes, no)
