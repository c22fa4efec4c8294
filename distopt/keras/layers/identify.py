"""Layers by config, and to config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distopt.core.custom_objects import deserialize_object, serialize_object
from distopt.keras.layers.activation import Activation
from distopt.keras.layers.convolution import Conv2D
from distopt.keras.layers.dense import Dense
from distopt.keras.layers.dropout import Dropout
from distopt.keras.layers.embedding import Embedding
from distopt.keras.layers.layer import Layer
from distopt.keras.layers.normalization import BatchNormalization, LayerNormalization
from distopt.keras.layers.pooling import AveragePooling2D, GlobalAveragePooling2D, MaxPooling2D
from distopt.keras.layers.shape import Flatten, InputLayer, Reshape

__all__ = ["deserialize", "serialize"]

_KNOWN: dict[str, type[Layer]] = {
    cls.__name__: cls
    for cls in (
        Activation,
        AveragePooling2D,
        BatchNormalization,
        Conv2D,
        Dense,
        Dropout,
        Embedding,
        Flatten,
        GlobalAveragePooling2D,
        InputLayer,
        LayerNormalization,
        MaxPooling2D,
        Reshape,
    )
}


def serialize(layer: Layer) -> dict[str, Any]:
    """``{"class_name": ..., "config": {...}}`` of a layer, without its weights.

    Raises:
        NotImplementedError: a class of the user's own that takes arguments and has no ``get_config``.

    >>> serialize(Dense(4, name="last"))["config"]["units"]
    4
    """
    config: dict[str, Any] = serialize_object(layer)
    return config


def deserialize(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The layer that :func:`serialize` made ``config`` of, with new weights.

    Args:
        config: it is not changed.
        custom_objects: the user's own classes by name.

    Raises:
        TypeError: arguments that the class does not take.
        ValueError: malformed, or an unknown class; the text names the nearest one.
    """
    return deserialize_object(config, _KNOWN, "layer", custom_objects)
