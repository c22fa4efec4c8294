"""Records collective calls on gradient tapes.

Gradients are those of the sum of all replicas' losses, so computing them is collective too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core import dispatch
from distopt.core.tensor import Tensor, TensorLike, as_array
from distopt.distribute.reduce_op import ReduceOp

if TYPE_CHECKING:
    from distopt.distribute.group import ReplicaGroup

__all__ = ["gathered", "reduced"]

_Back = Callable[[Any], Any]


def reduced(group: ReplicaGroup, op: ReduceOp, values: Sequence[Any], results: list[Any]) -> list[Any]:
    """Returns the results of an ``all_reduce``, recorded on the open tapes as functions of ``values``.

    The gradient of a sum is the sum of all replicas' gradients, and that of a mean their mean.

    Args:
        group: the replicas of the call.
        op: the reduction. Gradients of minima and maxima raise NotImplementedError.
        values: the arguments of this replica.
        results: the results, one for each value.
    """
    if not dispatch.active_recorders():
        return results

    def back(g: Any) -> Any:
        if op not in (ReduceOp.SUM, ReduceOp.MEAN):
            raise NotImplementedError(
                f"all_reduce({op.value!r}) has no derivative: only 'sum' and 'mean' have one; use "
                "stop_gradient(value) if you need none"
            )
        return _plain(group.all_reduce(op, g))

    return [_linked(v, r, back) for v, r in zip(values, results, strict=True)]


def gathered(group: ReplicaGroup, axis: int, values: Sequence[Any], results: list[Any]) -> list[Any]:
    """Returns the results of an ``all_gather``, recorded like those of :func:`reduced`.

    The gradient of a replica's value is its part of the sum of all replicas' gradients.
    """
    if not dispatch.active_recorders():
        return results
    return [
        _linked(v, r, partial(_own_part, group, axis, np.shape(v)[axis]))
        for v, r in zip(values, results, strict=True)
    ]


def _own_part(group: ReplicaGroup, axis: int, length: int, g: Any) -> Any:
    """This replica's part, ``length`` long on ``axis``, of the sum of the gradients ``g``; collective."""
    lengths = as_array(group.all_gather(np.array([length]), axis=0))
    begin = int(lengths[: group.rank].sum())
    total = _plain(group.all_reduce("sum", g))
    return total[(slice(None),) * (axis % total.ndim) + (slice(begin, begin + length),)]


def _linked(value: Any, result: Any, back: _Back) -> Any:
    if not isinstance(value, TensorLike) or value.dtype.kind not in "fc":
        return result
    # Not at the top, so that programs without tapes do not load autograd.
    from distopt.autodiff.linked import linked

    return linked(value, as_array(result), back)


def _plain(value: Any) -> Any:
    """A plain Tensor as an array; values that another open tape records stay as they are."""
    return as_array(value) if type(value) is Tensor else value
