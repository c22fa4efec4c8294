"""Layer and batch normalization, each as one operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distopt.autodiff import defvjp_argnums, primitive
from distopt.typing import Array

__all__ = ["batch_norm", "layer_norm"]


@primitive
def layer_norm(x: Array, gamma: Array, beta: Array, epsilon: float) -> Array:
    """``gamma * (x - mean) / sqrt(var + epsilon) + beta`` over the last axis (Ba et al. 2016).

    Args:
        x: ``[..., n]``.
        gamma: ``[n]``.
        beta: ``[n]``.
        epsilon: added to the variance.
    """
    centered = x - x.mean(axis=-1, keepdims=True)
    scale = 1 / np.sqrt(np.mean(centered * centered, axis=-1, keepdims=True) + x.dtype.type(epsilon))
    centered *= scale
    centered *= gamma
    centered += beta
    return np.asarray(centered)


def _layer_norm_vjp(
    argnums: tuple[int, ...], _ans: Any, args: tuple[Any, ...], _kwargs: dict[str, Any]
) -> Callable[[Any], tuple[Any, ...]]:
    x, gamma, _, epsilon = args

    def backward(g: Any) -> tuple[Any, ...]:
        centered = x - np.mean(x, axis=-1, keepdims=True)
        variance = np.mean(centered * centered, axis=-1, keepdims=True)
        inverse = 1 / np.sqrt(variance + x.dtype.type(epsilon))
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


defvjp_argnums(layer_norm, _layer_norm_vjp)


@primitive
def batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    inverse: Array,
    _count: float,
    _total: Callable[[Array], Array],
) -> Array:
    """``gamma * (x - mean) * inverse + beta``, mean and inverse being those of the batch itself.

    The derivative takes into account that mean and inverse depend on x (Ioffe and Szegedy 2015),
    also on the x of other replicas if ``_total`` sums over them.

    Args:
        x: ``[..., n]``.
        gamma: ``[n]``.
        beta: ``[n]``.
        mean: ``[n]``, the mean of x over all other axes.
        inverse: ``[n]``, ``1 / sqrt(var + epsilon)`` of the same.
        _count: the number of elements that each mean is of; for the derivative.
        _total: sums an array over all that share the statistics; the identity for one replica's own.
    """
    return np.asarray((x - mean) * (inverse * gamma) + beta)


def _batch_norm_vjp(
    argnums: tuple[int, ...], _ans: Any, args: tuple[Any, ...], _kwargs: dict[str, Any]
) -> Callable[[Any], tuple[Any, ...]]:
    x, gamma, _, mean, inverse, count, total = args

    def backward(g: Any) -> tuple[Any, ...]:
        leading = tuple(range(x.ndim - 1))
        normal = (x - mean) * inverse
        g_sum = np.sum(g, axis=leading)
        along = np.sum(g * normal, axis=leading)
        grads = []
        for argnum in argnums:
            if argnum == 0:
                both = total(np.stack([g_sum, along]))
                grads.append((g - (both[0] + normal * both[1]) * x.dtype.type(1 / count)) * (gamma * inverse))
            else:
                grads.append(along if argnum == 1 else g_sum)
        return tuple(grads)

    return backward


defvjp_argnums(batch_norm, _batch_norm_vjp)
