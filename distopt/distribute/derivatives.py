"""Derivatives of collective calls: a loss over all replicas depends on what each of them gave."""

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
    """The results of an ``all_reduce``, followed by the open tapes as its values are.

    The derivative of a sum is the sum of what comes back on all of the group, and so for means.
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
    """The same for an ``all_gather``: to each replica comes back what all make of its part."""
    if not dispatch.active_recorders():
        return results
    return [
        _linked(v, r, partial(_own_part, group, axis, np.shape(v)[axis]))
        for v, r in zip(values, results, strict=True)
    ]


def _own_part(group: ReplicaGroup, axis: int, length: int, g: Any) -> Any:
    lengths = as_array(group.all_gather(np.array([length]), axis=0))
    begin = int(lengths[: group.rank].sum())
    total = _plain(group.all_reduce("sum", g))
    return total[(slice(None),) * (axis % total.ndim) + (slice(begin, begin + length),)]


def _linked(value: Any, result: Any, back: _Back) -> Any:
    if not isinstance(value, TensorLike) or value.dtype.kind not in "fc":
        return result
    # Here, as whoever has opened a tape has loaded it.
    from distopt.autodiff.linked import linked

    return linked(value, as_array(result), back)


def _plain(value: Any) -> Any:
    """Plain arrays, as derivatives are where no further tape is open."""
    return as_array(value) if type(value) is Tensor else value
