"""Arrays and random keys of JAX in states, in a program that has imported it; nothing here imports it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from distopt.core.dtypes import kind_of
from distopt.typing import Array

__all__ = ["array_of_jax", "from_jax", "is_jax_array"]


def _jax() -> Any:
    jax = sys.modules.get("jax")
    return jax if hasattr(jax, "Array") else None


def is_jax_array(value: Any) -> bool:
    """Whether the value is an array, or an array of random keys, of JAX."""
    jax = _jax()
    return jax is not None and isinstance(value, jax.Array)


def from_jax(value: Any, where: str) -> tuple[Array, str | None]:
    """The values of an array, or the data of keys with the name of their implementation.

    Raises:
        TypeError: it is spread over processes, or has a dtype that a checkpoint cannot hold.
    """
    jax = _jax()
    implementation = None
    if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        implementation = str(jax.random.key_impl(value))
        value = jax.random.key_data(value)
    if not value.is_fully_addressable or kind_of(value.dtype) not in "biufc":
        raise TypeError(
            f"{where} is an array of JAX of {value.dtype} on {value.sharding}: a checkpoint can hold whole "
            f"arrays of numbers and Booleans"
        )
    return np.asarray(value), implementation


def array_of_jax(array: Array, implementation: str | None) -> Any:
    """The array, or keys, of which :func:`from_jax` gave the values; in memory of its own.

    Raises:
        ValueError: JAX has not been imported, or has no such keys, or would round the values.
    """
    jax = _jax()
    if jax is None:
        raise ValueError("it holds arrays of JAX, which this program has not imported: import jax")
    found = jax.numpy.array(array)
    if found.dtype != array.dtype:
        raise ValueError(f"it holds an array of {array.dtype}, which JAX has with jax_enable_x64 only")
    return found if implementation is None else jax.random.wrap_key_data(found, impl=implementation)
