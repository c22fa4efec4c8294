"""Activation functions with Keras's names.

All accept arrays, tensors, variables and traced values of any floating dtype, and keep the shape and the
dtype. Integers and Booleans become float32. Other dtypes raise a TypeError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from distopt.autodiff import defvjp, primitive
from distopt.autodiff.fused.activations import FORWARD, SLOPE
from distopt.autodiff.fused.activations import softmax as _softmax
from distopt.autodiff.fused.error_function import erf
from distopt.autodiff.fused.losses import clip
from distopt.core.registry import Registry, by_name, serialize_object
from distopt.keras.values import as_floats
from distopt.typing import Array

__all__ = [
    "deserialize",
    "elu",
    "exponential",
    "gelu",
    "get",
    "hard_sigmoid",
    "linear",
    "relu",
    "selu",
    "serialize",
    "sigmoid",
    "softmax",
    "softplus",
    "softsign",
    "swish",
    "tanh",
]


@primitive
def _activate(x: Array, name: str) -> Array:
    return np.asarray(FORWARD[name](np.array(x)))


def _activate_vjp(ans: Any, _x: Any, name: str) -> Callable[[Any], Any]:
    return lambda g: g * SLOPE[name](ans)


defvjp(_activate, _activate_vjp)


def linear(x: Any) -> Any:
    """Returns ``x`` unchanged."""
    return x


def relu(x: Any, alpha: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Any:
    """``x`` where it is positive, else 0.

    Args:
        x: floats of any shape.
        alpha: the slope below ``threshold``.
        max_value: the largest value.
        threshold: values below it become ``alpha * (x - threshold)``.
    """
    x = as_floats(x, "x")
    if alpha == 0 and max_value is None and threshold == 0:
        return _activate(x, "relu")
    above = x * (x > threshold) if threshold else _activate(x, "relu")
    capped = above if max_value is None else clip(above, None, max_value)
    return capped + alpha * np.minimum(x - threshold, 0) if alpha else capped


def elu(x: Any, alpha: float = 1.0) -> Any:
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)`` (Clevert et al. 2016)."""
    x = as_floats(x, "x")
    if alpha == 1:
        return _activate(x, "elu")
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def selu(x: Any) -> Any:
    """1.0507 times :func:`elu` with alpha 1.6733 (Klambauer et al. 2017)."""
    return _activate(as_floats(x, "x"), "selu")


def gelu(x: Any, approximate: bool = False) -> Any:
    """``x`` times the cumulative normal distribution at ``x`` (Hendrycks and Gimpel 2016).

    Args:
        x: floats of any shape.
        approximate: whether to use the approximation with tanh.
    """
    x = as_floats(x, "x")
    if approximate:
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
        return 0.5 * x * (1 + _activate(inner, "tanh"))
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))``."""
    return _activate(as_floats(x, "x"), "sigmoid")


def hard_sigmoid(x: Any) -> Any:
    """``0.2 * x + 0.5``, clipped to [0, 1]."""
    return clip(0.2 * as_floats(x, "x") + 0.5, 0.0, 1.0)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return _activate(as_floats(x, "x"), "tanh")


def softmax(x: Any, axis: int = -1) -> Any:
    """``exp(x) / sum(exp(x))`` over ``axis``.

    Args:
        x: ``[batch, ..., k]`` floats.
        axis: the axis whose elements sum to 1.

    Raises:
        ValueError: ``x`` has fewer than two axes.
    """
    x = as_floats(x, "x")
    if x.ndim < 2:
        raise ValueError(f"softmax needs at least two axes, the first for the samples; got shape {x.shape}")
    return _softmax(x, axis)


def softplus(x: Any) -> Any:
    """``log(1 + exp(x))``."""
    return _activate(as_floats(x, "x"), "softplus")


def softsign(x: Any) -> Any:
    """``x / (1 + |x|)``."""
    x = as_floats(x, "x")
    return x / (1 + np.abs(x))


def swish(x: Any) -> Any:
    """``x * sigmoid(x)`` (Ramachandran et al. 2017)."""
    x = as_floats(x, "x")
    return x * _activate(x, "sigmoid")


def exponential(x: Any) -> Any:
    """``exp(x)``."""
    return _activate(as_floats(x, "x"), "exponential")


registry = Registry(
    "activation function",
    by_name(
        elu,
        exponential,
        gelu,
        hard_sigmoid,
        linear,
        relu,
        selu,
        sigmoid,
        softmax,
        softplus,
        softsign,
        swish,
        tanh,
    )
    | {"silu": swish},
    refusal=TypeError,  # as in Keras, where the other modules raise ValueError
)


def serialize(activation: Any) -> Any:
    """Returns the name of an activation, or the config of an object; "linear" for None."""
    return "linear" if activation is None else serialize_object(activation)


def deserialize(name: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Returns the activation of that name.

    Raises:
        ValueError: the name is unknown. The message names the closest one.
    """
    return registry.deserialize(name, custom_objects)


def get(identifier: Any) -> Any:
    """Returns an activation from a name, a config, a callable, or None, which means :func:`linear`.

    Raises:
        ValueError: the name is unknown.
        TypeError: ``identifier`` is none of these.
    """
    return linear if identifier is None else registry.get(identifier)
