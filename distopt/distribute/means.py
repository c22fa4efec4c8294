"""Sums and means over replicas, in dtypes that can hold the sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.core.dtypes import is_narrow, kind_of
from distopt.distribute.reduce_op import ReduceOp
from distopt.typing import Array

__all__ = ["combined", "divided", "summands"]

#: The bits of the lower half of a 64-bit integer. For means the halves are summed separately, without
#: overflow.
_LOW = 32


def summands(array: Array, op: ReduceOp) -> list[Array]:
    """The arrays to reduce over replicas so that :func:`combined` can compute the result for ``array``.

    Args:
        array: the value of this replica.
        op: the reduction.

    Returns:
        One array of the same shape, or two for the mean of 64-bit integers: the upper and lower halves. Sums
        and means of Booleans, and means of integers, have dtype int64; means of float16 and bfloat16 float32.
        All other reductions keep the dtype of ``array``, so sums may overflow.
    """
    kind, mean = kind_of(array.dtype), op is ReduceOp.MEAN
    if kind == "b" and (mean or op is ReduceOp.SUM):
        return [array.astype(np.int64)]
    if not mean or (kind not in "iu" and not is_narrow(array.dtype)):
        return [array]
    if kind in "iu" and array.dtype.itemsize < 8:
        return [array.astype(np.int64)]
    if is_narrow(array.dtype):
        return [array.astype(np.float32)]
    bits, mask = array.dtype.type(_LOW), array.dtype.type((1 << _LOW) - 1)
    return [np.asarray(part).astype(np.int64) for part in (array >> bits, array & mask)]


def combined(totals: Sequence[Array], op: ReduceOp, count: int, dtype: np.dtype[Any]) -> Array:
    """The result of a reduction, from its reduced :func:`summands`.

    Args:
        totals: the summands, reduced over replicas. They may be overwritten.
        op: the reduction. If it is not a mean, the only total is the result.
        count: the number that a mean divides by.
        dtype: the dtype of the replicas' arrays. A mean of integers or Booleans is float64.
    """
    if op is not ReduceOp.MEAN:
        return totals[0]
    if kind_of(dtype) in "fc":
        total = totals[0]
        np.divide(total, total.dtype.type(count), out=total)
        return np.asarray(total, dtype)
    if len(totals) == 1:
        return np.asarray(totals[0] / count)
    # high * 2**32 + low == count * (whole * 2**32 + more) + rest
    high, low = totals
    whole, rest = np.divmod(high, count)
    more, rest = np.divmod((rest << _LOW) + low, count)
    return np.asarray(whole * 2.0**_LOW + more + rest / count)


def divided(values: Array, count: int) -> Array:
    """``values / count``, with the dtype and precision of a mean."""
    return combined(
        [np.array(part) for part in summands(values, ReduceOp.MEAN)], ReduceOp.MEAN, count, values.dtype
    )
