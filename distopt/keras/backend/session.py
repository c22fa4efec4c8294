"""Settings that hold for the whole program."""

from __future__ import annotations

from typing import Any

import numpy as np

from distopt.core.checks import shown
from distopt.core.floatx import floatx
from distopt.core.tensor import as_array
from distopt.keras.backend.random import reset_calls
from distopt.keras.layers.naming import reset_names
from distopt.typing import Array

__all__ = [
    "cast_to_floatx",
    "clear_session",
    "epsilon",
    "image_data_format",
    "set_epsilon",
    "set_image_data_format",
]

_EPSILON = 1e-7


def epsilon() -> float:
    """The small number that losses use to avoid division by zero and the logarithm of zero."""
    return _EPSILON


def set_epsilon(value: float) -> None:
    """Accepts only the value of :func:`epsilon`.

    Raises:
        ValueError: another value.
    """
    if value != _EPSILON:
        raise ValueError(
            f"set_epsilon({shown(value)}): it is {_EPSILON} here and cannot be changed; optimizers take "
            "the argument epsilon"
        )


def cast_to_floatx(x: Any) -> Array:
    """Returns ``x`` as an array of dtype :func:`floatx`."""
    return np.asarray(as_array(x), floatx())


def image_data_format() -> str:
    """The layout of images: "channels_last", which is ``[batch, height, width, channels]``."""
    return "channels_last"


def set_image_data_format(data_format: str) -> None:
    """Accepts only "channels_last".

    Raises:
        ValueError: another format.
    """
    if data_format != "channels_last":
        raise ValueError(
            f"set_image_data_format({shown(data_format)}): images are [batch, height, width, channels] here, "
            "which is 'channels_last'"
        )


def clear_session() -> None:
    """Resets the numbering of layer names and of seeded calls, as at the start of a program.

    There is nothing else to clear: Python frees objects that the program no longer uses.
    """
    reset_names()
    reset_calls()
