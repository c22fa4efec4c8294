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
    """Returns the config of a loss, the name of a function, or None for None."""
    return serialize_object(loss)


def deserialize(name: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Returns the loss of a config or name that :func:`serialize` returned.

    Raises:
        ValueError: the config is malformed, or its class is unknown.
    """
    return registry.deserialize(name, custom_objects)


def get(identifier: Any) -> Any:
    """Returns a loss from a name, a config, a callable, or None.

    The name of a function, also an alias such as ``mse``, returns the function. The name of a class returns
    an instance.

    Raises:
        ValueError: ``identifier`` is none of these, or unknown.

    >>> get("mse").__name__
    'mean_squared_error'
    """
    return registry.get(identifier)


def for_model(identifier: Any) -> Loss:
    """Returns a loss object from an argument of ``compile(loss=...)``.

    Args:
        identifier: anything that :func:`get` accepts. Functions ``(y_true, y_pred) -> losses`` are wrapped.

    Raises:
        ValueError: ``identifier`` is None or unknown.
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
    """Returns the same loss for the values before ``activation``, if a better formula exists.

    Computed from logits, cross-entropies are cheaper, and exact where probabilities round to 0 or 1.

    Args:
        loss: a loss of the output of a model.
        activation: the name of the last activation of the model.

    Returns:
        A loss of logits, or None if ``loss`` needs the output itself.
    """
    if not isinstance(loss, LossFunctionWrapper) or type(loss).call is not LossFunctionWrapper.call:
        return None
    arguments = dict(loss._fn_kwargs)
    if loss.fn not in _BEHIND.get(activation, ()) or arguments.get("from_logits"):
        return None
    arguments["from_logits"] = True
    return LossFunctionWrapper(loss.fn, loss.reduction, loss.name, **arguments)
