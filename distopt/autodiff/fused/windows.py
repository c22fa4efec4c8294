"""Windows of images: what convolution and pooling are made of.

Images are ``[batch, height, width, channels]``. Every primitive here is linear in its first
argument (``max_pool`` apart), and its derivative is again one of them, so that second derivatives
work too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from distopt.autodiff import defvjp, primitive
from distopt.autodiff.fused.half import narrow, wide
from distopt.typing import Array

__all__ = ["Window", "average_pool", "columns", "max_pool", "pad_images"]


class Window(NamedTuple):
    """A window's size and its steps, each ``(height, width)``."""

    size: tuple[int, int]
    strides: tuple[int, int]

    def places(self, height: int, width: int) -> tuple[int, int]:
        """How many windows fit below one another and side by side."""
        return (
            (height - self.size[0]) // self.strides[0] + 1,
            (width - self.size[1]) // self.strides[1] + 1,
        )

    def offsets(self, height: int, width: int) -> Iterator[tuple[slice, slice]]:
        """For each position in the window: the pixels that stand there in all the windows."""
        rows, cols = self.places(height, width)
        for i in range(self.size[0]):
            for j in range(self.size[1]):
                yield (
                    slice(i, i + self.strides[0] * rows, self.strides[0]),
                    slice(j, j + self.strides[1] * cols, self.strides[1]),
                )


@primitive
def pad_images(x: Array, rows: tuple[int, int], cols: tuple[int, int], value: float = 0.0) -> Array:
    """``value`` put around images: ``rows`` above and below, ``cols`` left and right."""
    shape = (x.shape[0], x.shape[1] + sum(rows), x.shape[2] + sum(cols), x.shape[3])
    padded = np.full(shape, value, x.dtype)
    padded[:, rows[0] : rows[0] + x.shape[1], cols[0] : cols[0] + x.shape[2]] = x
    return padded


def _pad_vjp(
    _ans: Any, x: Any, rows: tuple[int, int], cols: tuple[int, int], _value: float = 0.0
) -> Callable[[Any], Any]:
    height, width = x.shape[1:3]
    return lambda g: g[:, rows[0] : rows[0] + height, cols[0] : cols[0] + width]


defvjp(pad_images, _pad_vjp)


@primitive
def columns(x: Array, window: Window) -> Array:
    """The windows of images as rows of a matrix.

    Args:
        x: ``[batch, height, width, channels]``.
        window: the windows.

    Returns:
        ``[batch, rows, cols, window height * window width * channels]``, a copy.
    """
    batch, height, width, channels = x.shape
    rows, cols = window.places(height, width)
    kh, kw = window.size
    out = np.empty((batch, rows, cols, kh * kw * channels), x.dtype)
    # One strided copy for each position in the window is faster than a copy of a 6-D view.
    for k, (i, j) in enumerate(window.offsets(height, width)):
        out[..., k * channels : (k + 1) * channels] = x[:, i, j]
    return out


@primitive
def fold(g: Array, window: Window, shape: tuple[int, ...]) -> Array:
    """The transpose of :func:`columns`: adds every window's pixels up where they came from."""
    out = np.zeros(shape, g.dtype)
    channels = shape[3]
    for k, (i, j) in enumerate(window.offsets(shape[1], shape[2])):
        out[:, i, j] += g[..., k * channels : (k + 1) * channels]
    return out


defvjp(columns, lambda _ans, x, window: lambda g: fold(g, window, x.shape))
defvjp(fold, lambda _ans, _g, window, _shape: lambda h: columns(h, window))


@primitive
def average_pool(x: Array, window: Window) -> Array:
    """The mean of each window: ``[batch, rows, cols, channels]``."""
    total: Any = 0
    summed = wide(x)
    for i, j in window.offsets(*x.shape[1:3]):
        total = total + summed[:, i, j]
    total *= 1 / (window.size[0] * window.size[1])
    return np.asarray(narrow(total, x))


@primitive
def spread(g: Array, window: Window, shape: tuple[int, ...]) -> Array:
    """The transpose of :func:`average_pool`."""
    out = np.zeros(shape, g.dtype)
    part = g * g.dtype.type(1 / (window.size[0] * window.size[1]))
    for i, j in window.offsets(*shape[1:3]):
        out[:, i, j] += part
    return out


defvjp(average_pool, lambda _ans, x, window: lambda g: spread(g, window, x.shape))
defvjp(spread, lambda _ans, _g, window, _shape: lambda h: average_pool(h, window))


@primitive
def max_pool(x: Array, window: Window) -> Array:
    """The largest element of each window: ``[batch, rows, cols, channels]``."""
    places = list(window.offsets(*x.shape[1:3]))
    best = x[:, places[0][0], places[0][1]].copy()
    for i, j in places[1:]:
        np.maximum(best, x[:, i, j], out=best)
    return best


@primitive
def give_back(g: Array, x: Array, best: Array, window: Window) -> Array:
    """``g`` put where the largest elements stood; of equal ones the first gets it all."""
    out = np.zeros(x.shape, g.dtype)
    open_ = np.ones(best.shape, bool)
    for i, j in window.offsets(*x.shape[1:3]):
        hit = x[:, i, j] == best
        hit &= open_
        open_ ^= hit
        out[:, i, j] += g * hit
    return out


@primitive
def pick(h: Array, x: Array, best: Array, window: Window) -> Array:
    """The transpose of :func:`give_back`: the elements of ``h`` where the largest ones stood."""
    out = np.zeros(best.shape, h.dtype)
    open_ = np.ones(best.shape, bool)
    for i, j in window.offsets(*x.shape[1:3]):
        hit = x[:, i, j] == best
        hit &= open_
        open_ ^= hit
        out += h[:, i, j] * hit
    return out


defvjp(max_pool, lambda ans, x, window: lambda g: give_back(g, x, ans, window))
defvjp(give_back, lambda _ans, _g, x, best, window: lambda h: pick(h, x, best, window), None, None)
defvjp(pick, lambda _ans, _h, x, best, window: lambda g: give_back(g, x, best, window), None, None)
