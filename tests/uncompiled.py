"""Compiled code run as plain Python, so that its lines can be counted: ``pytest -p tests.uncompiled``.

Numba's functions stay what they are in the source, and what stands for machine instructions (intrinsics,
functions of the C library) has a twin here that does the same through ctypes. Slow: for small arrays.
"""

import ctypes
import functools
import time
from typing import Any

import numba
import numpy as np

_LIBRARY = ctypes.CDLL(None)
_LINE = 64


def _at(address: int, dtype: Any) -> Any:
    """The one element of ``dtype`` at an address."""
    memory = (ctypes.c_char * np.dtype(dtype).itemsize).from_address(int(address))
    return np.frombuffer(memory, dtype, 1)


def _load(begins: Any, i: int, dtype: Any) -> tuple[Any, ...]:
    return tuple(_at(begin + i * dtype.itemsize, dtype)[0] for begin in begins)


def _store(begins: Any, i: int, values: Any) -> None:
    for begin, value in zip(begins, values, strict=True):
        _at(begin + i * value.dtype.itemsize, value.dtype)[0] = value


def _move(nbytes: int) -> Any:
    return lambda target, source: ctypes.memmove(int(target), int(source), nbytes)


def _set(array: Any, index: int, value: int) -> None:
    array[index] = value


#: By module and name; what a function makes has that function's name before its own.
TWINS = {
    "distopt.collectives.pointers.place": lambda array: array.ctypes.data,
    "distopt.collectives.pointers._move_byte": _move(1),
    "distopt.collectives.pointers._move_line.<locals>.move": _move(_LINE),
    "distopt.collectives.raw_memory._pointer": lambda address: ctypes.c_void_p(int(address)),
    "distopt.collectives.raw_memory.fence": lambda: None,
    "distopt.collectives.ledger_rows._now": time.monotonic_ns,
    "distopt.collectives.array_specs._load": lambda address: int(_at(address, np.int64)[0]),
    "distopt.comm.spin._load": lambda array, index: int(array[index]),
    "distopt.comm.spin._store": _set,
    "distopt.engine.tuples.addresses": lambda at, like, shift: [int(at[k]) + shift for k in range(len(like))],
    "distopt.engine.tuples.load": _load,
    "distopt.engine.tuples.store": _store,
}


def intrinsic(function: Any) -> Any:
    """In place of Numba's: the twin."""
    return TWINS[f"{function.__module__}.{function.__qualname__}"]


_CARRAY = numba.carray


def carray(pointer: Any, size: int, dtype: Any) -> Any:
    """Numba's, which does not take its own types in plain Python."""
    return _CARRAY(pointer, size, np.dtype(getattr(dtype, "name", dtype)))


class External:
    """In place of Numba's: a function of the C library, of integers and addresses."""

    def __init__(self, name: str, signature: Any) -> None:
        self._function = getattr(_LIBRARY, name)

    def __call__(self, *arguments: int) -> int:
        return self._function(*(ctypes.c_int64(int(argument)) for argument in arguments))


class Plain:
    """In place of a compiled function: the function itself, which computes as compiled code does."""

    def __init__(self, function: Any) -> None:
        functools.update_wrapper(self, function)
        self.py_func = function

    def __call__(self, *arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return self.py_func(*arguments)

    def compile(self, signature: Any) -> None:
        """Nothing needs it."""

    def disable_compile(self) -> None:
        """Nothing is compiled anyway."""


def njit(*given: Any, **_options: Any) -> Any:
    """In place of Numba's."""
    return Plain(given[0]) if given and callable(given[0]) else Plain


numba.njit = njit
numba.carray = carray
numba.extending.intrinsic = intrinsic
numba.extending.register_jitable = lambda function: function
numba.types.ExternalFunction = External
