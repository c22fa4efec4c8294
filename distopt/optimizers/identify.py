"""Finds optimizers by name or config, and converts them to configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distopt.core.checks import as_config, shown
from distopt.core.registry import Registry, by_name, serialize_object
from distopt.optimizers.adabelief import AdaBelief
from distopt.optimizers.adadelta import Adadelta
from distopt.optimizers.adafactor import Adafactor
from distopt.optimizers.adagrad import Adagrad
from distopt.optimizers.adam import Adam
from distopt.optimizers.adamax import Adamax
from distopt.optimizers.adamw import AdamW
from distopt.optimizers.ftrl import Ftrl
from distopt.optimizers.lamb import LAMB
from distopt.optimizers.lars import LARS
from distopt.optimizers.lion import Lion
from distopt.optimizers.muon import Muon
from distopt.optimizers.nadam import Nadam
from distopt.optimizers.optimizer import Optimizer
from distopt.optimizers.radam import RAdam
from distopt.optimizers.rmsprop import RMSprop
from distopt.optimizers.sgd import SGD

__all__ = ["deserialize", "get", "registry", "serialize"]

#: Optimizer classes by case-insensitive name. Plugins use the entry-point group ``distopt.optimizers``.
registry = Registry(
    "optimizer",
    by_name(
        *(SGD, RMSprop, Adam, AdamW, Adamax, Nadam, Adagrad, Adadelta, Ftrl),
        *(AdaBelief, Adafactor, LAMB, LARS, Lion, Muon, RAdam),
    ),
    group="distopt.optimizers",
    normalize=str.lower,
)


def serialize(optimizer: Optimizer | None) -> Any:
    """Returns the config of an optimizer, ``{"class_name": ..., "config": {...}}``; None for None.

    >>> from distopt.optimizers import SGD
    >>> serialize(SGD(0.5))["config"]["learning_rate"]
    0.5
    """
    return serialize_object(optimizer)


def deserialize(config: Mapping[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
    """Creates an optimizer from the result of :func:`serialize`.

    Args:
        config: not modified. The names of built-in classes are case-insensitive.
        custom_objects: your own classes by name, case-sensitive.

    Raises:
        KeyError: ``"class_name"`` is missing.
        TypeError: ``config`` is not a dict, or has arguments that the class does not take.
        ValueError: ``"config"`` is missing, or the class is unknown.
    """
    config = as_config(config, "an optimizer, with 'class_name' and 'config',")
    if "class_name" not in config:
        raise KeyError("class_name")
    if "config" not in config:
        raise ValueError(f"Improper config format: {shown(config)} has no 'config'")
    return registry.deserialize(config, custom_objects)


def get(identifier: Any) -> Any:
    """Returns the optimizer that ``identifier`` describes.

    Args:
        identifier: an optimizer, which is returned unchanged, a name (for default arguments), or a config.

    Raises:
        ValueError: ``identifier`` is something else, or unknown.

    >>> get("adam").get_config()["beta_1"]
    0.9
    """
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, str):
        identifier = {"class_name": identifier, "config": {}}
    if isinstance(identifier, Mapping):
        return deserialize(identifier)
    raise ValueError(
        f"Could not interpret optimizer identifier: {shown(identifier)}. Pass an instance, a name "
        "such as 'adam', or a config"
    )
