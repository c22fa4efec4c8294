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
    """The small number by which losses keep logarithms and divisors away from zero."""
    return _EPSILON


def set_epsilon(value: float) -> None:
    """Accepts the number that :func:`epsilon` is.

    Raises:
        ValueError: another one.
    """
    if value != _EPSILON:
        raise ValueError(
            f"set_epsilon({shown(value)}): it is {_EPSILON} here and cannot be changed; optimizers take "
            "the argument epsilon"
        )


def cast_to_floatx(x: Any) -> Array:
    """``x`` as an array of the dtype :func:`floatx`."""
    return np.asarray(as_array(x), floatx())


def image_data_format() -> str:
    """How images lie: "channels_last", which is ``[batch, height, width, channels]``."""
    return "channels_last"


def set_image_data_format(data_format: str) -> None:
    """Accepts "channels_last".

    Raises:
        ValueError: another format.
    """
    if data_format != "channels_last":
        raise ValueError(
            f"set_image_data_format({shown(data_format)}): images are [batch, height, width, channels] here, "
            "which is 'channels_last'"
        )


def clear_session() -> None:
    """Resets the names of layers and the numbers of seeded calls, as in a program just started.

    There is nothing else to clear: what no variable of the program holds is gone.
    """
    reset_names()
    reset_calls()
