"""Losses by name and config, and as models use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from distopt.core.registry import Registry, public_classes, public_functions, serialize_object
from distopt.keras.losses import margin, probabilistic, regression
from distopt.keras.losses.loss import Loss, LossFunctionWrapper

__all__ = ["behind_activation", "deserialize", "for_model", "get", "registry", "serialize"]

#: Classes and functions of losses by name; short names (``mse``) are defined beside their functions.
registry = Registry(
    "loss function",
    {
        **public_classes(margin, probabilistic, regression),
        **public_functions(margin, probabilistic, regression),
        "cosine_proximity": regression.cosine_similarity,
        "huber_loss": regression.huber,
    },
)

#: The losses that are computed from the input of an activation, where a model ends with it.
_BEHIND: dict[str, tuple[Callable[..., Any], ...]] = {
    "sigmoid": (probabilistic.binary_crossentropy,),
    "softmax": (probabilistic.categorical_crossentropy, probabilistic.sparse_categorical_crossentropy),
}


def serialize(loss: Any) -> Any:
    """``{"class_name": ..., "config": {...}}`` of a loss, the name of a function, None for None."""
    return serialize_object(loss)


def deserialize(name: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The loss that :func:`serialize` made ``name`` of.

    Raises:
        ValueError: unknown, or malformed.
    """
    return registry.deserialize(name, custom_objects)


def get(identifier: Any) -> Any:
    """A loss from a name, a config, a callable, or None.

    The name of a function (also ``mse``, ``bce``, ...) gives the function, the name of a class an instance.

    Raises:
        ValueError: ``identifier`` is none of these, or unknown.

    >>> get("mse").__name__
    'mean_squared_error'
    """
    return registry.get(identifier)


def for_model(identifier: Any) -> Loss:
    """A loss object from what ``compile(loss=...)`` takes.

    Args:
        identifier: what :func:`get` takes; functions ``(y_true, y_pred) -> losses`` are wrapped.

    Raises:
        ValueError: None, or as :func:`get`.
    """
    loss = get(identifier)
    if isinstance(loss, type) and issubclass(loss, Loss):
        loss = loss()
    if isinstance(loss, Loss):
        return loss
    if loss is None:
        raise ValueError("a model cannot be trained without a loss: compile(loss=...)")
    return LossFunctionWrapper(loss, name=getattr(loss, "__name__", type(loss).__name__))


def behind_activation(loss: Loss, activation: str) -> Loss | None:
    """The same loss for the values before ``activation``, where a better formula exists.

    From the logits cross-entropies are exact where probabilities are 0 or 1 in floating point, and cheaper.

    Args:
        loss: a loss of a model's output.
        activation: the name of the activation that the model ends with.

    Returns:
        A loss that takes logits, or None if ``loss`` must have the output itself.
    """
    if not isinstance(loss, LossFunctionWrapper) or type(loss).call is not LossFunctionWrapper.call:
        return None
    arguments = dict(loss._fn_kwargs)
    if loss.fn not in _BEHIND.get(activation, ()) or arguments.get("from_logits"):
        return None
    arguments["from_logits"] = True
    return LossFunctionWrapper(loss.fn, loss.reduction, loss.name, **arguments)
