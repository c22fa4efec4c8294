"""Sums and means over replicas of numbers whose own dtype cannot hold the sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.core.dtypes import is_narrow, kind_of
from distopt.distribute.reduce_op import ReduceOp
from distopt.typing import Array

__all__ = ["combined", "divided", "summands"]

_LOW = 32  # bits: 8-byte integers are summed in two halves, without loss


def summands(array: Array, op: ReduceOp) -> list[Array]:
    """What replicas combine to reduce ``array``: arrays of its shape that can hold the sums of a mean.

    Of Booleans a sum is a count. Other sums keep their dtype, and may leave its range. Means must not:
    integers are summed exactly, float16 and bfloat16 in float32.
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
    """The sum or mean of arrays of ``dtype``, from the totals of their :func:`summands`.

    Args:
        totals: written to.
        op: what is asked for; totals of anything but a mean are the result.
        count: what a mean divides by.
        dtype: of the arrays; a mean of integers and Booleans is float64, the nearest to the exact one.
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
    """``values / count``, in the dtype of a mean."""
    return combined(
        [np.array(part) for part in summands(values, ReduceOp.MEAN)], ReduceOp.MEAN, count, values.dtype
    )
