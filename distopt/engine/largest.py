"""The largest elements of a gradient, found in passes of compiled code, without sorting it.

The elements are ``scale * gradient + rest``. Without their signs, floating-point numbers are ordered as the
integers of the same bits are; NaN is above all. A sample of the elements is counted by exponent and leading
bits of the fraction, which gives a threshold that somewhat too many elements reach. One pass takes these, and
the few that are too many are left out. If too few were found, all elements are counted. So what is found does
not depend on the sample.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from distopt.comm.precompile import precompiled
from distopt.typing import Array

__all__ = ["add_at", "keep_others", "largest", "zero_at"]

#: Bits of the fraction that count: bins are as wide as a 32nd of their numbers.
_FRACTION_BITS = 5
#: Elements that are worked on at a time, in a buffer that stays in the cache.
_CHUNK = 1024
#: One chunk of so many is in a sample; standard deviations of a count that are added to it.
_EVERY, _MARGIN = 16, 4
_LAYOUTS = {np.dtype(np.float32): (np.uint32, 8, 23), np.dtype(np.float64): (np.uint64, 11, 52)}


def largest(gradient: Array, rest: Array, scale: float, count: int) -> tuple[Array, Array]:
    """The elements of largest absolute value; of equal ones those that come first.

    Args:
        gradient: ``[n]`` float32 or float64.
        rest: of the same shape and dtype.
        scale: see above.
        count: how many, from 1 to n.

    Returns:
        ``[count]`` int32, increasing: where they are; and ``[count]`` of the gradient's dtype: their values.
    """
    where, values = _above(gradient, rest, scale, _threshold(gradient, rest, scale, count, _EVERY))
    if len(where) < count:
        where, values = _above(gradient, rest, scale, _threshold(gradient, rest, scale, count, 1))
    if len(where) > count:
        kind, exponent, fraction = _LAYOUTS[gradient.dtype]
        bits = values.view(kind) & kind((1 << (exponent + fraction)) - 1)
        least = np.partition(bits, len(bits) - count)[len(bits) - count]
        _kernels(gradient.dtype).leave_out(where, values, bits, least, count)
        where, values = where[:count], values[:count]
    return where, values


def _threshold(gradient: Array, rest: Array, scale: float, count: int, every: int) -> Any:
    """The lower end of a bin that at least ``count`` elements reach, as far as a sample tells."""
    kind, exponent, fraction = _LAYOUTS[gradient.dtype]
    histogram = np.zeros(1 << (exponent + _FRACTION_BITS), np.int64)
    factor = gradient.dtype.type(scale)
    _kernels(gradient.dtype).count(gradient, rest, factor, every * _CHUNK, histogram)
    above = np.cumsum(histogram[::-1])  # how many are in a bin or above it
    wanted = count * above[-1] / gradient.size
    if every > 1:
        wanted += _MARGIN * wanted**0.5 + 1
    place = int(np.searchsorted(above, wanted))
    least = max(len(histogram) - 1 - place, 0) << (fraction - _FRACTION_BITS)
    return np.array(least, kind).view(gradient.dtype)[()]


def _above(gradient: Array, rest: Array, scale: float, least: Any) -> tuple[Array, Array]:
    """All elements that are not below a threshold, in order."""
    # The memory that is not written to is none.
    where, values = np.empty(gradient.size, np.int32), np.empty(gradient.size, gradient.dtype)
    factor = gradient.dtype.type(scale)
    found = _kernels(gradient.dtype).take(gradient, rest, factor, least, where, values)
    return where[:found], values[:found]


def keep_others(gradient: Array, rest: Array, scale: float, where: Array) -> None:
    """``rest = scale * gradient + rest``, zero at the elements ``where``.

    Where that is not finite ``rest`` stays as it is.
    """
    _kernels(gradient.dtype).keep(gradient, rest, gradient.dtype.type(scale), where)


def add_at(total: Array, where: Array, values: Array) -> None:
    """``total[where] += values``; ``where`` are distinct places."""
    _kernels(total.dtype).add(total, where, values)


def zero_at(total: Array, where: Array) -> None:
    """``total[where] = 0``."""
    _kernels(total.dtype).zero(total, where)


class _SelectionKernels:
    """The passes for one dtype."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        name, (kind, exponent, fraction) = dtype.name, _LAYOUTS[dtype]
        given = f"Array({name}, 1, 'C', True), {name}[::1], {name}"
        shift, mask = fraction - _FRACTION_BITS, (1 << (exponent + _FRACTION_BITS)) - 1
        self.count: Callable[..., None] = _count(f"void({given}, int64, int64[::1])", kind, shift, mask)
        self.take: Callable[..., int] = _take(f"int64({given}, {name}, int32[::1], {name}[::1])")
        self.leave_out: Callable[..., None] = _leave_out(
            f"void(int32[::1], {name}[::1], {kind.__name__}[::1], {kind.__name__}, int64)"
        )
        self.keep: Callable[..., None] = _keep(f"void({given}, int32[::1])")
        self.add: Callable[..., None] = _add(f"void({name}[::1], int32[::1], {name}[::1])")
        self.zero: Callable[..., None] = _zero(f"void({name}[::1], int32[::1])")


@cache
def _kernels(dtype: np.dtype[Any]) -> _SelectionKernels:
    return _SelectionKernels(dtype)


def _count(signature: str, kind: Any, shift: int, mask: int) -> Any:
    @precompiled(signature)
    def count(gradient, rest, scale, step, histogram):  # type: ignore[no-untyped-def]
        values = np.empty(_CHUNK, rest.dtype)
        bits = values.view(kind)
        for start in range(0, gradient.size, step):
            x, y = gradient[start : start + _CHUNK], rest[start : start + _CHUNK]
            for i in range(x.size):
                values[i] = scale * x[i] + y[i]
            for i in range(x.size):
                histogram[(np.int64(bits[i]) >> shift) & mask] += 1

    return count


def _take(signature: str) -> Any:
    @precompiled(signature)
    def take(gradient, rest, scale, least, where, found):  # type: ignore[no-untyped-def]
        values, reach = np.empty(_CHUNK, rest.dtype), np.zeros(_CHUNK, np.uint8)
        eights = reach.view(np.uint64)  # few of them hold one that is taken
        taken = 0
        for start in range(0, gradient.size, _CHUNK):
            x, y = gradient[start : start + _CHUNK], rest[start : start + _CHUNK]
            for i in range(x.size):
                value = scale * x[i] + y[i]
                values[i] = value
                reach[i] = not abs(value) < least  # NaN too
            reach[x.size :] = 0
            for k in range(_CHUNK // 8):
                if eights[k] != 0:
                    for i in range(8 * k, 8 * k + 8):
                        if reach[i]:
                            where[taken] = start + i
                            found[taken] = values[i]
                            taken += 1
        return taken

    return take


def _leave_out(signature: str) -> Any:
    @precompiled(signature)
    def leave_out(where, values, bits, least, count):  # type: ignore[no-untyped-def]
        equal = count  # of those that are equal to the least so many go with the others
        for k in range(bits.size):
            equal -= bits[k] > least
        kept = 0
        for k in range(bits.size):
            chosen = bits[k] > least
            if bits[k] == least and equal > 0:
                chosen, equal = True, equal - 1
            if chosen:
                where[kept], values[kept] = where[k], values[k]
                kept += 1

    return leave_out


def _keep(signature: str) -> Any:
    @precompiled(signature)
    def keep(gradient, rest, scale, where):  # type: ignore[no-untyped-def]
        for i in range(gradient.size):
            value = scale * gradient[i] + rest[i]
            rest[i] = value if np.isfinite(value) else rest[i]
        for k in range(where.size):
            value = scale * gradient[where[k]]
            if np.isfinite(value):
                rest[where[k]] = 0

    return keep


def _add(signature: str) -> Any:
    @precompiled(signature)
    def add(total, where, values):  # type: ignore[no-untyped-def]
        for k in range(where.size):
            total[where[k]] += values[k]

    return add


def _zero(signature: str) -> Any:
    @precompiled(signature)
    def zero(total, where):  # type: ignore[no-untyped-def]
        for k in range(where.size):
            total[where[k]] = 0

    return zero
