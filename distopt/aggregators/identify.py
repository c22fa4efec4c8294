"""Finds aggregators by name or config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distopt.aggregators.sum import sum_over_replicas
from distopt.core.checks import as_config, shown
from distopt.core.registry import Registry

__all__ = ["get", "label", "registry", "serialize"]

#: Built-ins and plugins alike come from the entry-point group.
registry = Registry("aggregator", group="distopt.aggregators")


def get(identifier: Any) -> Callable[[Any], Any]:
    """Returns the aggregator that ``identifier`` describes.

    Args:
        identifier: None (the sum), a name, a config ``{"class_name": ..., "config": {...}}``, or a callable,
            which is returned unchanged.

    Raises:
        ValueError: the name is unknown.
        TypeError: ``identifier`` is something else, or a config has an argument that the aggregator does
            not take.
    """
    if identifier is None:
        return sum_over_replicas
    if isinstance(identifier, str):
        return _make(registry.lookup(identifier), {})
    if isinstance(identifier, dict) and "class_name" in identifier:
        name = identifier["class_name"]
        if not isinstance(name, str):
            raise TypeError(f"the class_name of an aggregator must be a str; got {shown(name)}")
        return _make(registry.lookup(name), as_config(identifier.get("config", {}), f"aggregator {name}"))
    if callable(identifier) and not isinstance(identifier, type):
        return identifier  # type: ignore[no-any-return]
    hint = f": create an instance, {identifier.__name__}()" if isinstance(identifier, type) else ""
    raise TypeError(
        f"gradient_aggregator takes None, a name ({', '.join(registry.names())}), a config, or a function "
        f"from pairs to pairs; got {shown(identifier)}{hint}"
    )


def serialize(aggregator: Callable[[Any], Any]) -> dict[str, Any]:
    """Returns a config from which :func:`get` creates an equal aggregator.

    Raises:
        ValueError: the function or class is not registered under a name.
    """
    target = type(aggregator) if hasattr(aggregator, "get_config") else aggregator
    for name in registry.names():
        try:
            found = registry.lookup(name)
        except ImportError:  # another's plugin that cannot be imported is not this one
            continue
        if found is target:
            config = aggregator.get_config() if hasattr(aggregator, "get_config") else {}
            return {"class_name": name, "config": config}
    raise ValueError(
        f"aggregator {aggregator!r} has no registered name: add it to the entry-point group "
        f"{registry.group!r}, or leave it out of configs"
    )


def label(aggregator: Callable[[Any], Any]) -> str:
    """Returns the module and name of an aggregator for messages, such as ``"my_aggregator.TrimmedMean"``."""
    named = aggregator if hasattr(aggregator, "__qualname__") else type(aggregator)
    return f"{named.__module__}.{named.__qualname__}"


def _make(found: Any, config: dict[str, Any]) -> Callable[[Any], Any]:
    if not isinstance(found, type):
        return found  # type: ignore[no-any-return]
    try:
        return found(**config)  # type: ignore[no-any-return]
    except TypeError as error:
        raise TypeError(
            f"cannot create aggregator {label(found)} from the config {config}: {error}"
        ) from error
