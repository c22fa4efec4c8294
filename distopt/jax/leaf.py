"""ParameterLeaf: a leaf of a pytree of parameters, and the distopt Variable with its value."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from distopt.core.parameter_variable import ParameterVariable
from distopt.core.variable import Variable
from distopt.typing import Array

__all__ = ["ParameterLeaf", "as_array", "check_concrete"]


class ParameterLeaf:
    """A leaf. It is trained if it is a non-empty array of real or complex floating-point numbers.

    Args:
        name: the path of the leaf, for messages, e.g. ``params['dense']['kernel']``.
        value: the leaf.

    Attributes:
        value: the leaf that the program gets: a JAX array if it is trained, else the original object.
        variable: the variable that the step updates; None if the leaf is not trained.
        device: the device or sharding of a committed JAX array, which new values get too; else None.

    Raises:
        ValueError: the leaf is trained, but is not on the CPU, or is sharded over processes.
    """

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.variable: Variable | None = None
        self.value = value
        if _is_array(value) and value.size and jnp.issubdtype(value.dtype, jnp.inexact):
            self.value = jnp.asarray(value)
            _check_place(name, self.value)
            self.variable = ParameterVariable(np.array(self.value), name=name)
        self.device = self.value.sharding if getattr(self.value, "committed", False) else None
        #: The value if it is weakly typed. New values are too, else JAX would recompile jitted functions.
        self._weak = self.value if self.variable is not None and self.value.weak_type else None
        #: The version of the variable's value that :attr:`value` holds.
        self._version = self._current_version()

    def _current_version(self) -> int:
        return -1 if self.variable is None else self.variable.storage.version

    @property
    def is_old(self) -> bool:
        """Whether the variable has changed since :attr:`value` was set."""
        return self._version != self._current_version()

    def show(self, value: jax.Array) -> None:
        """Sets :attr:`value` to an array that holds the variable's current value."""
        self.value = value if self._weak is None else jnp.zeros_like(self._weak).at[...].set(value)
        self._version = self._current_version()

    @property
    def is_shared(self) -> bool:
        """Whether the leaf is not trained but gets replica 0's value, as other arrays of numbers do."""
        kinds = jnp.number, jnp.bool_
        return (
            self.variable is None
            and _is_array(self.value)
            and any(jnp.issubdtype(self.value.dtype, kind) for kind in kinds)
        )

    def replace(self, value: Array) -> None:
        """Sets the value of a leaf that is not trained."""
        self.value = jax.device_put(value, self.device) if isinstance(self.value, jax.Array) else value

    def gradient(self, gradient: Any) -> Array | None:
        """Converts a gradient of this leaf, or a new value, to a contiguous array of the leaf's dtype.

        It is copied only if necessary.

        Returns:
            None if ``gradient`` is None or of dtype float0, or if the leaf is not trained.

        Raises:
            TypeError: ``gradient`` is not an array of numbers, or is complex for a real leaf; or the leaf is
                a Python number.
            ValueError: the shape differs.
        """
        if gradient is None or getattr(gradient, "dtype", None) == jax.dtypes.float0:
            return None
        if self.variable is None:
            if isinstance(self.value, (float, complex)):
                raise TypeError(
                    f"{self.name} is a Python number, which is not trained: make it an array before init(), "
                    f"with jnp.asarray({self.value!r})"
                )
            return None
        array = as_array(gradient, f"the gradient of {self.name}")
        if array.shape != self.variable.shape:
            raise ValueError(
                f"the gradient of {self.name} has shape {array.shape}, the parameter {self.variable.shape}"
            )
        if array.dtype != self.variable.dtype:
            array = _cast(array, self.variable, self.name)
        return np.asarray(array, order="C")


def as_array(value: Any, what: str) -> Array:
    """Views a JAX array on this process's CPU as a read-only array; converts anything else with NumPy.

    Raises:
        TypeError: it is not an array of numbers or Booleans.
        ValueError: it is not on the CPU, or is sharded over processes.
    """
    if isinstance(value, jax.Array):
        _check_place(what, value)
    array = np.asarray(value)
    if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == np.bool_):
        raise TypeError(f"{what} must be an array of numbers; got {type(value).__name__}")
    return array


def check_concrete(call: str, leaves: list[Any]) -> None:
    """Raises TypeError if one is a tracer: the call was made inside a function that JAX transforms."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        raise TypeError(
            f"{call} was called inside jit, grad or vmap: call it with their results. For a step inside jit "
            f"use optax.chain(distopt.jax.aggregate(), ...)"
        )


def _is_array(value: Any) -> bool:
    return isinstance(value, (jax.Array, np.ndarray, np.generic))


def _check_place(name: str, value: jax.Array) -> None:
    if not value.is_fully_addressable:
        raise ValueError(
            f"{name} is spread over the processes of jax.distributed: a replica of distopt holds whole arrays"
        )
    elsewhere = {device.platform for device in value.devices()} - {"cpu"}
    if elsewhere:
        raise ValueError(
            f"{name} is on {', '.join(sorted(elsewhere))}: distopt.jax trains on the CPUs of an MPI job; for "
            f"GPUs and TPUs use jax.distributed. JAX_PLATFORMS=cpu keeps a program on the CPU, and "
            f"jax.device_put(x, jax.devices('cpu')[0]) moves an array there"
        )


def _cast(array: Array, variable: Variable, name: str) -> Array:
    if np.iscomplexobj(array) and not np.issubdtype(variable.dtype, np.complexfloating):
        raise TypeError(f"the gradient of {name} has dtype {array.dtype}, the parameter {variable.dtype}")
    return array.astype(variable.dtype)
