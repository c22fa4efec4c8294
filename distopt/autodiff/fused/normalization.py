"""Layer and batch normalization, each as one operation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from distopt.autodiff import defvjp, defvjp_argnums, primitive
from distopt.autodiff.fused.half import narrow, wide
from distopt.typing import Array

__all__ = ["BatchStatistics", "batch_norm", "batch_statistics", "layer_norm"]


@primitive
def layer_norm(x: Array, gamma: Array, beta: Array, epsilon: float) -> Array:
    """``gamma * (x - mean) / sqrt(var + epsilon) + beta`` over the last axis (Ba et al. 2016).

    Args:
        x: ``[..., n]`` floats.
        gamma: ``[n]``.
        beta: ``[n]``.
        epsilon: added to the variance.
    """
    centered = wide(x)
    centered = centered - centered.mean(axis=-1, keepdims=True)
    scale = 1 / np.sqrt(np.mean(centered * centered, axis=-1, keepdims=True) + epsilon)
    centered *= scale
    centered *= gamma
    centered += beta
    return np.asarray(narrow(centered, x))


def _layer_norm_vjp(
    argnums: tuple[int, ...], _ans: Any, args: tuple[Any, ...], _kwargs: dict[str, Any]
) -> Callable[[Any], tuple[Any, ...]]:
    x, gamma, _, epsilon = args

    def backward(g: Any) -> tuple[Any, ...]:
        g, centered = wide(g), wide(x)
        centered = centered - np.mean(centered, axis=-1, keepdims=True)
        variance = np.mean(centered * centered, axis=-1, keepdims=True)
        inverse = 1 / np.sqrt(variance + epsilon)
        normal = centered * inverse
        leading = tuple(range(x.ndim - 1))
        grads = []
        for argnum in argnums:
            if argnum == 0:
                inner = g * gamma
                mean = np.mean(inner, axis=-1, keepdims=True)
                along = np.mean(inner * normal, axis=-1, keepdims=True)
                grads.append((inner - mean - normal * along) * inverse)
            else:
                grads.append(np.sum(g * normal if argnum == 1 else g, axis=leading))
        return tuple(grads)

    return backward


defvjp_argnums(layer_norm, _layer_norm_vjp, argnums=(0, 1, 2))


@dataclass(frozen=True)
class BatchStatistics:
    """What a batch is normalized by.

    Attributes:
        mean: ``[n]``, the mean of each channel.
        variance: ``[n]``, its variance.
        count: the number of elements that each mean is of, which may be 0.
    """

    mean: Any
    variance: Any
    count: int


def batch_statistics(x: Any, total: Callable[[Array], Array]) -> BatchStatistics:
    """The statistics of each channel, in float32 at least; what is traced may come in too.

    Args:
        x: ``[..., n]`` floats.
        total: sums an array over all that share the statistics; the identity for one replica's own.
    """
    x = wide(x)
    leading = tuple(range(x.ndim - 1))
    # One call for both; the number makes the sums float64, in which it is exact.
    sums = _shared(np.append(np.sum(x, axis=leading), math.prod(x.shape[:-1])), total)
    count = int(sums[-1])
    mean = (sums[:-1] / max(count, 1)).astype(x.dtype)
    # A second pass over the data: the difference of two sums would lose the digits of float32.
    squares = np.sum(np.square(x - mean), axis=leading)
    return BatchStatistics(mean, _shared(squares, total) / max(count, 1), count)


@primitive
def _shared(value: Array, total: Callable[[Array], Array]) -> Array:
    return total(value)


# Whoever shares in a sum adds to the gradient of each of its parts.
defvjp(_shared, lambda _ans, _value, total: lambda g: _shared(g, total))


@primitive
def batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    statistics: BatchStatistics,
    epsilon: float,
    _total: Callable[[Array], Array],
) -> Array:
    """``gamma * (x - mean) / sqrt(var + epsilon) + beta``, mean and variance being those of the batch itself.

    The derivative takes into account that they depend on x (Ioffe and Szegedy 2015), also on the x of
    other replicas if ``_total`` sums over them.

    Args:
        x: ``[..., n]`` floats.
        gamma: ``[n]``.
        beta: ``[n]``.
        statistics: those of x, :func:`batch_statistics` of its plain array.
        epsilon: added to the variance.
        _total: the one that the statistics were made with; for the derivative.
    """
    scale = gamma / np.sqrt(statistics.variance + epsilon)
    return np.asarray(narrow((x - statistics.mean) * scale + beta, x))


def _batch_norm_vjp(
    argnums: tuple[int, ...], _ans: Any, args: tuple[Any, ...], _kwargs: dict[str, Any]
) -> Callable[[Any], tuple[Any, ...]]:
    x, gamma, _, statistics, epsilon, total = args

    def backward(g: Any) -> tuple[Any, ...]:
        # To be differentiated again by x, the statistics must be traced as well.
        of_x = statistics if type(x) is np.ndarray else batch_statistics(x, total)
        leading = tuple(range(x.ndim - 1))
        g = wide(g)
        inverse = 1 / np.sqrt(of_x.variance + epsilon)
        normal = (x - of_x.mean) * inverse
        g_sum = np.sum(g, axis=leading)
        along = np.sum(g * normal, axis=leading)
        grads = []
        for argnum in argnums:
            if argnum == 0:
                both = _shared(np.stack([g_sum, along]), total) / max(of_x.count, 1)
                grads.append((g - (both[0] + normal * both[1])) * (gamma * inverse))
            else:
                grads.append(along if argnum == 1 else g_sum)
        return tuple(grads)

    return backward


defvjp_argnums(batch_norm, _batch_norm_vjp, argnums=(0, 1, 2))
