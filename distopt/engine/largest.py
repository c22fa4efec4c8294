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

__all__ = ["keep_others", "largest"]

#: Bits of the fraction that count: bins are as wide as an eighth of their numbers.
_FRACTION_BITS = 3
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
        chosen = bits > least
        chosen[np.flatnonzero(bits == least)[: count - int(chosen.sum())]] = True
        where, values = where[chosen], values[chosen]
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


class _SelectionKernels:
    """The passes for one dtype."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        name, (kind, exponent, fraction) = dtype.name, _LAYOUTS[dtype]
        given = f"Array({name}, 1, 'C', True), {name}[::1], {name}"
        shift, mask = fraction - _FRACTION_BITS, (1 << (exponent + _FRACTION_BITS)) - 1
        self.count: Callable[..., None] = _count(f"void({given}, int64, int64[::1])", kind, shift, mask)
        self.take: Callable[..., int] = _take(f"int64({given}, {name}, int32[::1], {name}[::1])")
        self.keep: Callable[..., None] = _keep(f"void({given}, int32[::1])")


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
        values = np.empty(_CHUNK, rest.dtype)
        taken = 0
        for start in range(0, gradient.size, _CHUNK):
            x, y = gradient[start : start + _CHUNK], rest[start : start + _CHUNK]
            for i in range(x.size):
                values[i] = scale * x[i] + y[i]
            for i in range(x.size):
                if not abs(values[i]) < least:  # NaN too
                    where[taken] = start + i
                    found[taken] = values[i]
                    taken += 1
        return taken

    return take


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
