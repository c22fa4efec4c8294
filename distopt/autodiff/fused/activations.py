"""Activations whose derivative is known from their result: what :func:`dense` fuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from distopt.autodiff import defvjp, primitive
from distopt.autodiff.fused.half import narrow, wide
from distopt.typing import Array

__all__ = ["FORWARD", "FUSED_ACTIVATIONS", "SLOPE", "softmax"]

# Klambauer et al. 2017, "Self-Normalizing Neural Networks".
_SELU_SCALE = 1.0507009873554805
_SELU_ALPHA = 1.6732632423543772


def _relu(z: Array) -> Array:
    return np.maximum(z, 0, out=z)


def _sigmoid(z: Array) -> Array:
    # tanh does not overflow; the form 1 / (1 + exp(-z)) does for large negative z.
    z *= 0.5
    np.tanh(z, out=z)
    z += 1
    z *= 0.5
    return z


def _softplus(z: Array) -> Array:
    return np.asarray(np.logaddexp(z, z.dtype.type(0), out=z))


def _elu(z: Array) -> Array:
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


def _selu(z: Array) -> Array:
    return np.asarray(
        np.where(z > 0, z, _SELU_ALPHA * np.expm1(np.minimum(z, 0))) * z.dtype.type(_SELU_SCALE)
    )


#: Name -> the function; it may overwrite its argument.
FORWARD: Mapping[str, Callable[[Array], Array]] = MappingProxyType(
    {
        "linear": lambda z: z,
        "relu": _relu,
        "tanh": lambda z: np.tanh(z, out=z),
        "sigmoid": _sigmoid,
        "softplus": _softplus,
        "elu": _elu,
        "selu": _selu,
        "exponential": lambda z: np.exp(z, out=z),
    }
)

#: Name -> the derivative, from the function's result.
SLOPE: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "relu": lambda y: y > 0,
        "tanh": lambda y: 1 - y * y,
        "sigmoid": lambda y: y * (1 - y),
        "softplus": lambda y: -np.expm1(-y),
        "elu": lambda y: np.where(y > 0, y.dtype.type(1), y + 1),
        "selu": lambda y: np.where(
            y > 0, y.dtype.type(_SELU_SCALE), y + y.dtype.type(_SELU_SCALE * _SELU_ALPHA)
        ),
        "exponential": lambda y: y,
    }
)

FUSED_ACTIVATIONS = frozenset(FORWARD)


@primitive
def softmax(x: Array, axis: int = -1) -> Array:
    """``exp(x) / sum(exp(x))`` over ``axis``, safe from overflow.

    Args:
        x: ``[..., n, ...]`` floats.
        axis: the axis whose elements sum to 1.
    """
    shifted = wide(x) - x.max(axis=axis, keepdims=True, initial=-np.inf)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=axis, keepdims=True)
    return np.asarray(narrow(shifted, x))


def _softmax_vjp(ans: Any, _x: Any, axis: int = -1) -> Callable[[Any], Any]:
    def backward(g: Any) -> Any:
        weighted = wide(g) * ans
        return weighted - ans * np.sum(weighted, axis=axis, keepdims=True)

    return backward


defvjp(softmax, _softmax_vjp)
