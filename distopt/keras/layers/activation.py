"""Activation: a function applied to each element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distopt.keras import activations
from distopt.keras.layers.layer import Layer
from distopt.keras.layers.logits import note_logits

__all__ = ["Activation", "activate", "activation_name"]


class Activation(Layer):
    """Applies an activation.

    Args:
        activation: a name or a function.
        **kwargs: arguments of :class:`Layer`.

    Raises:
        ValueError: a name is unknown.
    """

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activation_name(activation)

    def call(self, inputs: Any) -> Any:
        """See Layer."""
        if inputs.dtype.kind in "iub":
            inputs = inputs.astype(self._dtype)
        return activate(self.activation, inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """See Layer."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """See Layer."""
        return {**super().get_config(), "activation": activations.serialize(activations.get(self.activation))}


def activation_name(activation: Any) -> str | Callable[[Any], Any]:
    """The name of one of our activations ("linear" for None), or a custom function itself.

    Raises:
        ValueError: a name is unknown.
    """
    function: Callable[[Any], Any] = activations.get(activation)
    name = getattr(function, "__name__", "")
    return name if getattr(activations, name, None) is function else function


def activate(activation: str | Callable[[Any], Any], value: Any) -> Any:
    """Applies it, and notes the logits behind probabilities."""
    if callable(activation):
        return activation(value)
    output = getattr(activations, activation)(value)
    return note_logits(output, value, activation) if activation in ("softmax", "sigmoid") else output
