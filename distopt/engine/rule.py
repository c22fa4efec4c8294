"""Rule: the arithmetic of one optimizer, written once."""

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
    """What a sparse gradient does to the rows that it does not name."""

    #: Nothing: slots and variable keep their values there.
    ROWS = "rows"
    #: The slots change as with a gradient of zero, the variable does not.
    DECAY = "decay"
    #: Slots and variable change as with a gradient of zero.
    ALL = "all"
    #: It is made a dense one before the step, with zeros elsewhere.
    DENSE = "dense"


@dataclass(frozen=True, eq=False)
class Rule:
    """The update of one element: ``(w, g, *slots, *coefficients) -> (w, *slots)``.

    The function is compiled for scalars of float32 and float64, and called as it is on arrays of
    other dtypes. Therefore it uses operators,
    :func:`where` and the NumPy functions that both understand (``np.sqrt``, ``np.abs``,
    ``np.maximum``, ``np.minimum``), no ``if``, and no literals: a literal 2.0 would turn float32
    into float64. Constants are coefficients.

    Args:
        name: for messages, such as ``"adam"``.
        function: a function at the top level of a module.
        slots: the names of its slots, in the order of its parameters.
        sparse: what a sparse gradient does to other rows.
        in_float32: whether float16 is computed in float32 and rounded once, at the end, as the fused
            optimizers of PyTorch do; else it is rounded after each operation, as Keras does. bfloat16 always
            is computed so.
        undecayed: of a rule with weight decay the rule without.
        inner: of a rule made of another one that one; its coefficients come first.
        added: the names of the coefficients that follow.
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
        """The names of the parameters after variable, gradient and slots."""
        if self.undecayed is not None:
            return (*self.undecayed.coefficients, DECAY)
        if self.inner is not None:
            return (*self.inner.coefficients, *self.added)
        return tuple(inspect.signature(self.function).parameters)[2 + len(self.slots) :]

    def arithmetic_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """What variables of ``dtype`` are computed in; so are the coefficients."""
        if self.in_float32 and is_narrow(dtype):
            return np.dtype(np.float32)
        return arithmetic_dtype(dtype)


@cache
def with_weight_decay(rule: Rule) -> Rule:
    """The rule, which sees the variable multiplied by ``1 - weight_decay_t``: decoupled weight decay.

    A sparse gradient changes other rows as the rule says, and decays all.

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
    """``np.where`` for rules: compiled, it is one select instruction.

    Args:
        condition: bool, scalar or array.
        yes: the value where it holds.
        no: the value elsewhere, of the same dtype.
    """
    return np.where(condition, yes, no)
