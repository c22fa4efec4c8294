"""Finds initializers by name or config, under the names of Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distopt.core import initializer, random_initializers
from distopt.core.registry import Registry, by_snake_case_name, public_classes, serialize_object

__all__ = ["deserialize", "get", "registry", "serialize"]

_classes = {
    name: cls
    for name, cls in public_classes(initializer, random_initializers).items()
    if cls is not initializer.Initializer  # abstract
}
registry = Registry(
    "initializer",
    {
        **_classes,
        **by_snake_case_name(_classes),
        "normal": random_initializers.RandomNormal,
        "one": initializer.Ones,
        "uniform": random_initializers.RandomUniform,
        "zero": initializer.Zeros,
    },
)


def serialize(initializer: Any) -> Any:
    """Returns the config of an initializer, the name of a function, or None for None."""
    return serialize_object(initializer)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Returns the initializer of a config that :func:`serialize` returned, or of a name.

    Raises:
        ValueError: the config is malformed, or its class is unknown.
    """
    return registry.deserialize(config, custom_objects)


def get(identifier: Any) -> Any:
    """Returns an initializer from a name, a config, a class, a callable, or None.

    Raises:
        ValueError: ``identifier`` is none of these, or unknown.

    >>> get("zeros")((2,)).numpy().tolist()
    [0.0, 0.0]
    """
    return identifier() if isinstance(identifier, type) else registry.get(identifier)
