"""TrustRatioRule: the update rule of optimizers that scale each variable's step by norms, such as LAMB."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, TypeAlias

import numpy as np

from distopt.collectives import PIECE
from distopt.engine import kernels, norms
from distopt.engine.rule import Rule, Sparse, with_weight_decay
from distopt.typing import Array

__all__ = ["AnyRule", "TrustRatioRule", "decayed", "squares_of", "update_alone"]

Scalars: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class TrustRatioRule:
    """An update in two passes. Between them, the norms of whole variables are computed.

    Each of the three functions takes those coefficients that its parameters name. A sparse gradient is
    converted to a dense one with zeros, because all elements contribute to the norms.

    Args:
        name: for messages, such as ``"lamb"``.
        direction: the first pass, ``(w, g, u, *slots, *coefficients) -> (w, u, *slots)``. ``u`` is the
            direction, stored until the second pass; it counts as the first slot of this rule. The norms are
            those of the new ``w`` and ``u``.
        ratio: ``(norms of w, norms of u, *coefficients) -> ratios``, arrays with one element per variable, in
            the dtype of the arithmetic.
        step: the second pass, ``(w, u, *slots, *coefficients, ratio) -> (w, *slots)``.
    """

    name: str
    direction: Rule
    ratio: Callable[..., Array]
    step: Rule

    @property
    def sparse(self) -> Sparse:
        """See Rule."""
        return Sparse.DENSE

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """The names of the slots: those of the first pass except ``u``, then those of the second pass."""
        return (*self.direction.slots[1:], *self.step.slots)

    @cached_property
    def coefficients(self) -> tuple[str, ...]:
        """The names of the coefficients of all three functions, without duplicates."""
        return tuple(dict.fromkeys((*self.direction.coefficients, *self._ratio, *self._step)))

    def arithmetic_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """See Rule."""
        return self.direction.arithmetic_dtype(dtype)

    # -- the coefficients of each function
    def of_direction(self, coefficients: Scalars) -> Scalars:
        """The coefficients of the first pass."""
        return self._pick(self.direction.coefficients, coefficients)

    def of_step(self, coefficients: Scalars) -> Scalars:
        """The coefficients of the second pass, except the ratio."""
        return self._pick(self._step, coefficients)

    def ratios(self, of_w: Array, of_u: Array, coefficients: Scalars, dtype: np.dtype[Any]) -> Array:
        """The trust ratios of all variables.

        Args:
            of_w: the norms of the variables, ``[n]`` float64.
            of_u: the norms of their directions, ``[n]`` float64.
            coefficients: all coefficients of the rule.
            dtype: the dtype of the variables.

        Returns:
            ``[n]``, of ``arithmetic_dtype(dtype)``.
        """
        wide = self.arithmetic_dtype(dtype)
        real = wide.type(0).real.dtype
        with np.errstate(all="ignore"):
            own = self._pick(self._ratio, coefficients)
            found = self.ratio(of_w.astype(real), of_u.astype(real), *own)
        return np.ascontiguousarray(found, dtype=wide)

    @cached_property
    def _ratio(self) -> tuple[str, ...]:
        code = self.ratio.__code__
        return tuple(code.co_varnames[2 : code.co_argcount])

    @property
    def _step(self) -> tuple[str, ...]:
        return self.step.coefficients[:-1]

    def _pick(self, names: Sequence[str], coefficients: Scalars) -> Scalars:
        values = dict(zip(self.coefficients, coefficients, strict=True))
        return tuple([values[name] for name in names])


#: An update rule.
AnyRule: TypeAlias = "Rule | TrustRatioRule"


@cache
def decayed(rule: AnyRule) -> AnyRule:
    """The rule with decoupled weight decay, see :func:`with_weight_decay`; norms are after the decay."""
    if isinstance(rule, Rule):
        return with_weight_decay(rule)
    return replace(rule, name=f"{rule.name} with weight decay", direction=with_weight_decay(rule.direction))


def squares_of(values: Array) -> Array:
    """The sum of squares of each piece, ``[ceil(n / PIECE)]`` float64; of absolute values, if complex.

    Args:
        values: ``[n]``, contiguous.
    """
    return norms.sums_of_squares(np.abs(values) if values.dtype.kind == "c" else values)


def update_alone(rule: TrustRatioRule, w: Array, g: Array, slots: Sequence[Array], numbers: Scalars) -> None:
    """Updates a whole variable in place. The result has the same bits as an update divided into shards.

    Args:
        rule: the update rule.
        w: ``[n]``, contiguous, written.
        g: ``[n]``, contiguous, of the same dtype.
        slots: arrays like ``w``, one for each of the rule's slots, written.
        numbers: the coefficients of the rule.
    """
    first = len(rule.direction.slots) - 1
    u = np.zeros(w.size, rule.arithmetic_dtype(w.dtype))
    kernels.dense(rule.direction, w, g, (u, *slots[:first]), rule.of_direction(numbers))
    pieces = np.array([0, -(-w.size // PIECE)])
    of_w, of_u = (norms.norms_of_pieces(squares_of(array), pieces) for array in (w, u))
    ratio = rule.ratios(of_w, of_u, numbers, w.dtype)[0]
    kernels.dense(rule.step, w, u, tuple(slots[first:]), (*rule.of_step(numbers), ratio))
