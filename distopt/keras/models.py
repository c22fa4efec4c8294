"""Models under the name of Keras's module, and functions that create models from configs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from distopt.core.checks import shown
from distopt.core.registry import Registry, by_name, serialize_object
from distopt.keras.model import Model
from distopt.keras.sequential import Sequential

__all__ = ["Model", "Sequential", "clone_model", "model_from_config", "model_from_json"]

_registry = Registry("model", by_name(Sequential))


def model_from_config(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Returns a model with new weights from ``{"class_name": ..., "config": {...}}``.

    Args:
        config: the config. It is not changed.
        custom_objects: custom classes and functions by name.

    Raises:
        TypeError: a class does not accept the arguments.
        ValueError: the config is malformed, or a class is unknown. The message names the closest one.
    """
    return _registry.deserialize(config, custom_objects)


def model_from_json(json_string: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Returns a model with new weights from a result of ``to_json``. See :func:`model_from_config`.

    >>> from distopt.keras.layers import Dense
    >>> model_from_json(Sequential([Dense(2, input_shape=(3,))]).to_json()).count_params()
    8
    """
    try:
        config = json.loads(json_string)
    except (TypeError, ValueError) as error:
        raise ValueError(f"model_from_json takes a JSON str; got {shown(json_string)} ({error})") from error
    return model_from_config(config, custom_objects)


def clone_model(model: Model) -> Any:
    """Returns a model of the same config with new weights.

    Raises:
        NotImplementedError: a custom class has no ``get_config``.
    """
    return _registry.deserialize(serialize_object(model), by_name(type(model)))
