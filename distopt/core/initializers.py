"""Initializers by name: first values of variables, with the formulas and names of Keras.

They stand below optimizers and models because both make variables "by the name of an initializer".
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from distopt.core.checks import shown
from distopt.core.custom_objects import deserialize_object, serialize_object
from distopt.core.initializer import Constant, Identity, Initializer, Ones, Zeros
from distopt.core.random_initializers import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
)

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "deserialize",
    "get",
    "serialize",
]

#: Class names and the short names of Keras.
_KNOWN: Mapping[str, Any] = MappingProxyType(
    {
        **{
            cls.__name__: cls
            for cls in (
                Constant,
                GlorotNormal,
                GlorotUniform,
                HeNormal,
                HeUniform,
                Identity,
                LecunNormal,
                LecunUniform,
                Ones,
                Orthogonal,
                RandomNormal,
                RandomUniform,
                TruncatedNormal,
                VarianceScaling,
                Zeros,
            )
        },
        "constant": Constant,
        "glorot_normal": GlorotNormal,
        "glorot_uniform": GlorotUniform,
        "he_normal": HeNormal,
        "he_uniform": HeUniform,
        "identity": Identity,
        "lecun_normal": LecunNormal,
        "lecun_uniform": LecunUniform,
        "normal": RandomNormal,
        "one": Ones,
        "ones": Ones,
        "orthogonal": Orthogonal,
        "random_normal": RandomNormal,
        "random_uniform": RandomUniform,
        "truncated_normal": TruncatedNormal,
        "uniform": RandomUniform,
        "variance_scaling": VarianceScaling,
        "zero": Zeros,
        "zeros": Zeros,
    }
)


def serialize(initializer: Any) -> Any:
    """``{"class_name": ..., "config": {...}}`` of an initializer, a function's name, None for None."""
    return serialize_object(initializer)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The initializer that :func:`serialize` made ``config`` of, or the one of that name.

    Raises:
        ValueError: unknown, or malformed.
    """
    return deserialize_object(config, _KNOWN, "initializer", custom_objects)


def get(identifier: Any) -> Any:
    """An initializer from a name, a config, a class, a callable, or None.

    Raises:
        ValueError: ``identifier`` is none of these, or unknown.

    >>> get("zeros")((2,)).numpy().tolist()
    [0.0, 0.0]
    """
    if identifier is None:
        return None
    if isinstance(identifier, (str, Mapping)):
        return deserialize(identifier)
    if isinstance(identifier, type):
        return identifier()
    if callable(identifier):
        return identifier
    raise ValueError(f"Could not interpret initializer identifier: {shown(identifier)}")
