"""Layers by config, and to config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distopt.core.registry import Registry, public_classes, serialize_object
from distopt.keras.layers import (
    activation,
    convolution,
    dense,
    dropout,
    embedding,
    normalization,
    pooling,
    shape,
)
from distopt.keras.layers.layer import Layer

__all__ = ["deserialize", "registry", "serialize"]

registry = Registry(
    "layer",
    public_classes(activation, convolution, dense, dropout, embedding, normalization, pooling, shape),
)


def serialize(layer: Layer) -> dict[str, Any]:
    """``{"class_name": ..., "config": {...}}`` of a layer, without its weights.

    Raises:
        NotImplementedError: a custom class that takes arguments and has no ``get_config``.

    >>> serialize(Dense(4, name="last"))["config"]["units"]
    4
    """
    config: dict[str, Any] = serialize_object(layer)
    return config


def deserialize(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The layer that :func:`serialize` made ``config`` of, with new weights.

    Args:
        config: it is not changed.
        custom_objects: custom classes by name.

    Raises:
        TypeError: arguments that the class does not take.
        ValueError: malformed, or an unknown class; the text names the nearest one.
    """
    return registry.deserialize(config, custom_objects)
