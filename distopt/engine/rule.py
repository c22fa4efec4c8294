"""Rule: the update rule of an optimizer, as a scalar function."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from distopt.core.dtypes import arithmetic_dtype, is_narrow

__all__ = ["DECAY", "Rule", "Sparse", "where", "with_weight_decay"]

#: The last coefficient of rules with weight decay: the learning rate times the weight decay.
DECAY = "weight_decay_t"


class Sparse(enum.Enum):
    """How a sparse gradient updates the rows without gradient: those not in its indices."""

    #: They do not change.
    ROWS = "rows"
    #: The slots are updated with a zero gradient, the variable is not.
    DECAY = "decay"
    #: Slots and variable are updated with a zero gradient.
    ALL = "all"
    #: As ALL, but the gradient is converted to a dense one before the step.
    DENSE = "dense"


@dataclass(frozen=True, eq=False)
class Rule:
    """The update of one element: ``(w, g, *slots, *coefficients) -> (w, *slots)``.

    Numba compiles the function for scalars of float32 and float64; for other dtypes, NumPy runs it on arrays.
    So it may use only operators, :func:`where`, and functions that both support (``np.sqrt``, ``np.abs``,
    ``np.maximum``, ``np.minimum``). It must not use ``if``, nor literals: a literal 2.0 would turn float32
    into float64. Pass constants as coefficients.

    Args:
        name: for messages, such as ``"adam"``.
        function: a function at the top level of a module.
        slots: the names of its slots, in the order of its parameters.
        sparse: how a sparse gradient updates the rows without gradient.
        in_float32: whether float16 is computed in float32 and rounded once at the end, as in the fused
            optimizers of PyTorch, instead of rounded after each operation, as in Keras. bfloat16 is always
            computed in float32.
        undecayed: for a rule with decoupled weight decay: the same rule without it.
        inner: for a rule that wraps another one: the other one, whose coefficients come first.
        added: for a rule with ``inner``: the names of its own coefficients, which follow.
    """

    name: str
    function: Callable[..., Any]
    slots: tuple[str, ...] = ()
    sparse: Sparse = Sparse.ROWS
    in_float32: bool = False
    undecayed: Rule | None = None
    inner: Rule | None = None
    added: tuple[str, ...] = ()

    @cached_property
    def coefficients(self) -> tuple[str, ...]:
        """The names of the function's parameters after variable, gradient and slots."""
        if self.undecayed is not None:
            return (*self.undecayed.coefficients, DECAY)
        if self.inner is not None:
            return (*self.inner.coefficients, *self.added)
        return tuple(inspect.signature(self.function).parameters)[2 + len(self.slots) :]

    def arithmetic_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype in which variables of ``dtype`` are computed; also the dtype of the coefficients."""
        if self.in_float32 and is_narrow(dtype):
            return np.dtype(np.float32)
        return arithmetic_dtype(dtype)


@cache
def with_weight_decay(rule: Rule) -> Rule:
    """A rule with decoupled weight decay: multiplies ``w`` by ``1 - weight_decay_t``, then applies ``rule``.

    With a sparse gradient, it decays all rows, also those that ``rule`` does not update.

    Args:
        rule: a rule without weight decay.

    Source: Loshchilov & Hutter 2017, arXiv:1711.05101.
    """
    update = rule.function

    def decayed(w, g, *others):  # type: ignore[no-untyped-def]
        return update(w - w * others[-1], g, *others[:-1])

    decayed.__name__ = f"{update.__name__}_decayed"
    return replace(rule, name=f"{rule.name} with weight decay", function=decayed, undecayed=rule)


def where(condition: Any, yes: Any, no: Any) -> Any:
    """``np.where`` for rules. In compiled code it is one select instruction.

    Args:
        condition: bool, scalar or array.
        yes: the value where ``condition`` is true.
        no: the value elsewhere, of the same dtype.
    """
    return np.where(condition, yes, no)
