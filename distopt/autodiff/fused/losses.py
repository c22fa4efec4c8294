"""Loss functions as one operation each: a value per sample, or their scaled sum."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from distopt.autodiff import defvjp, defvjp_argnums, primitive
from distopt.autodiff.fused.activations import softmax
from distopt.autodiff.fused.sums import row_sums
from distopt.typing import Array

__all__ = [
    "clip",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "softmax_cross_entropy_sum",
    "sparse_softmax_cross_entropy",
    "sparse_softmax_cross_entropy_sum",
    "squared_error",
    "squared_error_sum",
]


class _Saved:
    """What a forward pass keeps for its backward pass."""

    __slots__ = ("chosen", "exp", "total")

    chosen: Array
    exp: Array
    total: Array


@primitive
def squared_error(y_true: Array, y_pred: Array) -> Array:
    """``mean((y_pred - y_true) ** 2)`` over the last axis.

    Args:
        y_true: ``[..., n]`` floats.
        y_pred: the same shape and dtype.

    Returns:
        ``[...]``
    """
    difference = y_pred - y_true
    return np.asarray(np.add.reduce(difference * difference, axis=-1) / y_pred.shape[-1], y_pred.dtype)


@primitive
def squared_error_sum(y_true: Array, y_pred: Array, scale: float) -> Array:
    """``scale`` times the sum of :func:`squared_error`, a scalar."""
    difference = (y_pred - y_true).reshape(-1)
    return np.asarray(difference @ difference * (scale / y_pred.shape[-1]), y_pred.dtype)


def _squared_error_vjp(
    argnums: tuple[int, ...], _ans: Any, args: tuple[Any, ...], _kwargs: dict[str, Any]
) -> Callable[[Any], tuple[Any, ...]]:
    y_true, y_pred = args[:2]
    factor = 2 / y_pred.shape[-1] * (args[2] if len(args) > 2 else 1.0)

    def backward(g: Any) -> tuple[Any, ...]:
        slope = (y_pred - y_true) * ((g if len(args) > 2 else g[..., None]) * factor)
        return tuple(slope if argnum == 1 else -slope for argnum in argnums)

    return backward


defvjp_argnums(squared_error, _squared_error_vjp)
defvjp_argnums(squared_error_sum, _squared_error_vjp, argnums=(0, 1))


def softmax_cross_entropy(labels: Any, logits: Any) -> Any:
    """``-sum(labels * log(softmax(logits)))`` over the last axis.

    Args:
        labels: ``[..., k]`` floats, the probabilities of the classes.
        logits: the same shape and dtype.

    Returns:
        ``[...]``
    """
    return _softmax_losses(labels, logits, None, _Saved())


def softmax_cross_entropy_sum(labels: Any, logits: Any, scale: float) -> Any:
    """``scale`` times the sum of :func:`softmax_cross_entropy`, a scalar."""
    return _softmax_losses(labels, logits, scale, _Saved())


@primitive
def _softmax_losses(labels: Array, logits: Array, scale: float | None, saved: _Saved) -> Array:
    shifted = logits - np.maximum.reduce(logits, axis=-1, keepdims=True)
    saved.exp = np.exp(shifted)
    saved.total = row_sums(saved.exp)[..., None]
    terms = labels * (np.log(saved.total) - shifted)
    if scale is None:
        return row_sums(terms)
    return np.asarray(terms.sum() * scale, logits.dtype)


def _log_softmax(logits: Any) -> Any:
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def _probabilities(logits: Any, saved: _Saved) -> Any:
    """softmax(logits): from what was saved, or where it shall be differentiated again, anew."""
    return saved.exp / saved.total if type(logits) is np.ndarray else softmax(logits)


def _softmax_vjp(
    argnums: tuple[int, ...], _ans: Any, args: tuple[Any, ...], _kwargs: dict[str, Any]
) -> Callable[[Any], tuple[Any, ...]]:
    labels, logits, scale, saved = args

    def backward(g: Any) -> tuple[Any, ...]:
        rows = g[..., None] if scale is None else g * scale
        # The labels of a sample need not sum to 1: smoothing or weights may be in them.
        return tuple(
            rows * (_probabilities(logits, saved) * np.sum(labels, axis=-1, keepdims=True) - labels)
            if argnum == 1
            else -rows * _log_softmax(logits)
            for argnum in argnums
        )

    return backward


defvjp_argnums(_softmax_losses, _softmax_vjp, argnums=(0, 1))


def sparse_softmax_cross_entropy(labels: Array, logits: Any) -> Any:
    """``-log(softmax(logits)[label])`` over the last axis.

    Args:
        labels: ``[...]`` integers from 0 to k - 1; not checked.
        logits: ``[..., k]`` floats.

    Returns:
        ``[...]``
    """
    return _sparse_losses(labels, logits, None, _Saved())


def sparse_softmax_cross_entropy_sum(labels: Array, logits: Any, scale: float) -> Any:
    """``scale`` times the sum of :func:`sparse_softmax_cross_entropy`, a scalar."""
    return _sparse_losses(labels, logits, scale, _Saved())


@primitive
def _sparse_losses(labels: Array, logits: Array, scale: float | None, saved: _Saved) -> Array:
    # In rows, whatever the order of the logits: places are counted row by row.
    shifted = np.subtract(logits, np.maximum.reduce(logits, axis=-1, keepdims=True), order="C")
    saved.chosen = _places(labels, logits.shape[-1])
    picked = shifted.reshape(-1)[saved.chosen]
    saved.exp = np.exp(shifted, out=shifted)
    total = row_sums(saved.exp)
    saved.total = total[..., None]
    losses = np.log(total).reshape(-1) - picked
    if scale is None:
        return np.asarray(losses.reshape(labels.shape))
    return np.asarray(np.add.reduce(losses) * scale, logits.dtype)


def _places(labels: Array, classes: int) -> Array:
    """Where the labels' logits stand among all logits, one after the other."""
    return _first_places(labels.size, classes) + labels.reshape(-1)


@lru_cache(maxsize=16)
def _first_places(samples: int, classes: int) -> Array:
    return np.arange(0, samples * classes, classes)


def _sparse_vjp(
    _ans: Any, labels: Array, logits: Any, scale: float | None, saved: _Saved
) -> Callable[[Any], Any]:
    def backward(g: Any) -> Any:
        rows = g[..., None] if scale is None else g * scale
        if type(logits) is not np.ndarray or type(g) is not np.ndarray:  # to be differentiated again
            return rows * (softmax(logits) - (labels[..., None] == np.arange(logits.shape[-1])))
        slope = saved.exp / saved.total
        slope.reshape(-1)[saved.chosen] -= 1
        slope *= rows
        return slope

    return backward


defvjp(_sparse_losses, None, _sparse_vjp)


@primitive
def sigmoid_cross_entropy(labels: Array, logits: Array) -> Array:
    """``-labels * log(s) - (1 - labels) * log(1 - s)`` with s = sigmoid(logits), safe from overflow.

    Args:
        labels: floats of any shape.
        logits: the same shape and dtype.

    Returns:
        The same shape: nothing is summed.
    """
    return np.asarray(np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits))))


def _sigmoid_cross_entropy_vjp(
    argnums: tuple[int, ...], _ans: Any, args: tuple[Any, ...], _kwargs: dict[str, Any]
) -> Callable[[Any], tuple[Any, ...]]:
    labels, logits = args

    def backward(g: Any) -> tuple[Any, ...]:
        return tuple(
            g * ((np.tanh(logits * 0.5) + 1) * 0.5 - labels) if argnum == 1 else -g * logits
            for argnum in argnums
        )

    return backward


defvjp_argnums(sigmoid_cross_entropy, _sigmoid_cross_entropy_vjp)


@primitive
def clip(x: Array, low: float | None, high: float | None) -> Array:
    """``x`` cut off at ``low`` and ``high``; None is no limit.

    Its gradient is zero outside and passes inside, the limits included, as in TensorFlow's
    ``clip_by_value`` and ``maximum(x, low)``. (NumPy's own is halved or zero at the limits.)
    """
    return np.asarray(np.clip(x, low, high))


def _clip_vjp(_ans: Any, x: Any, low: float | None, high: float | None) -> Callable[[Any], Any]:
    def backward(g: Any) -> Any:
        inside = np.ones(x.shape, bool)
        if low is not None:
            inside &= np.asarray(x >= low)
        if high is not None:
            inside &= np.asarray(x <= high)
        return g * inside

    return backward


defvjp(clip, _clip_vjp)
