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
    """Returns the config of a layer, ``{"class_name": ..., "config": {...}}``, without its weights.

    Raises:
        NotImplementedError: a custom class takes arguments and has no ``get_config``.

    >>> serialize(Dense(4, name="last"))["config"]["units"]
    4
    """
    config: dict[str, Any] = serialize_object(layer)
    return config


def deserialize(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Returns a layer with new weights from a config that :func:`serialize` returned.

    Args:
        config: the config. It is not changed.
        custom_objects: custom classes by name.

    Raises:
        TypeError: the class does not accept the arguments.
        ValueError: the config is malformed, or a class is unknown. The message names the closest one.
    """
    return registry.deserialize(config, custom_objects)
