"""Checks of arguments. Each returns the converted value, or raises an error that names the argument."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distopt.core.dtypes import bfloat16, kind_of
from distopt.core.floatx import floatx
from distopt.typing import DTypeLike

__all__ = [
    "as_config",
    "as_count",
    "as_dtype",
    "as_flag",
    "as_frequency",
    "as_name",
    "as_one_of",
    "as_path",
    "as_seed",
    "as_sequence",
    "as_shape",
    "shown",
]


def shown(value: Any) -> str:
    """``value`` for an error message, on one line; shortened if it is long, deeply nested or recursive."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 120
    return " ".join(short.repr(value).split())


def as_config(config: Any, what: str) -> dict[str, Any]:
    """Returns a copy of ``config`` as keyword arguments.

    Raises:
        TypeError: it is not a mapping with strings as keys.
    """
    if not isinstance(config, Mapping) or not all(isinstance(key, str) for key in config):
        raise TypeError(
            f"the config of {what} must be a dict of arguments by name, as get_config() gives it; "
            f"got {shown(config)}"
        )
    return dict(config)


def as_dtype(value: DTypeLike) -> np.dtype[Any]:
    """Returns the numeric dtype of ``value``. None is the default dtype, see ``floatx``.

    Raises:
        TypeError: it is not a numeric dtype.
        MissingExtra: it is "bfloat16", and ml_dtypes is not installed.
    """
    if isinstance(value, str) and value == "bfloat16":
        return bfloat16()
    try:
        dtype = np.dtype(floatx() if value is None else value)
    except (TypeError, ValueError, RecursionError, SyntaxError):
        raise TypeError(f"dtype={shown(value)} is not a dtype: pass one such as 'float32'") from None
    if kind_of(dtype) not in "biufc":
        raise TypeError(f"dtype={shown(value)} is not a dtype of numbers: pass one such as 'float32'")
    return dtype


def as_name(value: Any, argument: str = "name") -> Any:
    """Returns ``value``, a string or None.

    Raises:
        TypeError: it is something else.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{argument} must be a str or None; got {shown(value)}")
    return value


def as_flag(value: Any, argument: str) -> bool:
    """Returns ``value`` as a bool.

    Raises:
        TypeError: it is neither a Boolean nor 0 or 1.
    """
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, (int, np.integer)) and value in (0, 1)):
        return bool(value)
    raise TypeError(f"{argument} must be True or False; got {shown(value)}")


def as_count(value: Any, argument: str, least: int = 1, most: int | None = None) -> int:
    """Returns ``value`` as an int from ``least`` to ``most``.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is out of range.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{argument} must be a whole number; got {shown(value)}")
    if value < least or (most is not None and value > most):
        above = "" if most is None else f" and at most {most}"
        raise ValueError(f"{argument} must be at least {least}{above}; got {shown(value)}")
    return int(value)


def as_seed(value: Any) -> int | None:
    """Returns ``value`` as a seed, an int from 0 to 2**64 - 1, or None.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is out of range.
    """
    return None if value is None else as_count(value, "seed", least=0, most=2**64 - 1)


def as_sequence(value: Any, what: str) -> Sequence[Any]:
    """Returns ``value`` if it is a list or tuple, or else a list of its items.

    Raises:
        TypeError: it is not iterable, or is a string or mapping.
    """
    if isinstance(value, (list, tuple)):
        return value
    if not isinstance(value, (str, bytes, Mapping)):
        try:
            return list(value)
        except TypeError:
            pass
    raise TypeError(f"{what} must be a list; got {shown(value)}")


def as_shape(value: Any, argument: str = "shape", unknown: bool = False) -> tuple[Any, ...]:
    """Returns ``value`` as a shape: a tuple of ints, or with ``unknown`` also of None.

    Raises:
        TypeError: it is not a list of integers.
        ValueError: a length is negative.
    """
    if isinstance(value, (int, np.integer)):
        raise TypeError(f"{argument} must be a list of lengths; got {value}: write ({value},)")
    lengths = tuple(as_sequence(value, argument))
    for length in lengths:
        if not (unknown and length is None):
            as_count(length, f"each length in {argument}={shown(value)}", least=0)
    return tuple(None if length is None else int(length) for length in lengths)


def as_one_of(value: Any, argument: str, allowed: Sequence[str]) -> str:
    """Returns ``value``, one of the ``allowed`` strings.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, allowed))}; got {shown(value)}")
    return value


def as_frequency(value: Any, argument: str) -> Any:
    """Returns ``value``: ``"epoch"``, or a positive number of batches.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, str) and value == "epoch":
        return value
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1:
        return int(value)
    raise ValueError(f"{argument} must be 'epoch' or a positive integer; got {shown(value)}")


def as_path(value: Any, argument: str) -> str:
    """Returns a path as a string.

    Raises:
        TypeError: it is neither a string nor a path.
        ValueError: it is empty or contains a null character.
    """
    if not isinstance(value, (str, os.PathLike)) or not isinstance(path := os.fspath(value), str):
        raise TypeError(f"{argument} must be a path; got {shown(value)}")
    if not path or "\0" in path:
        raise ValueError(f"{argument} must name a file or directory; got {path!r}")
    return path
