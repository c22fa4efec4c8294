"""Plain values as JSON and arrays, and back: numbers, texts, lists, tuples, dicts, arrays. Nothing else.

Tensors of PyTorch and arrays of JAX count as arrays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from distopt.checkpoint.foreign import is_tensor, tensor_as_array, tensor_of
from distopt.checkpoint.jax_arrays import array_of_jax, from_jax, is_jax_array
from distopt.core.dtypes import bfloat16, is_bfloat16, kind_of
from distopt.core.tensor import TensorLike, as_array
from distopt.typing import Array

__all__ = ["decode", "dtype_of", "encode", "is_plain", "text_of"]

_DTYPE = re.compile(r"[<>|=][biufcSUmM]\d{1,6}(\[\w{1,10}\])?")


def dtype_of(text: Any) -> np.dtype[Any]:
    """The dtype that :func:`text_of` gave the text of, such as ``"<f4"``.

    Raises:
        MissingExtra: it is "bfloat16", and ml_dtypes is not installed.
        ValueError: it is none, or one of objects.
    """
    if isinstance(text, str) and text == "bfloat16":
        return bfloat16()
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise ValueError(f"{text!r} is not a dtype of plain elements")
    try:
        return np.dtype(text)
    except TypeError as error:
        raise ValueError(f"{text!r} is not a dtype of plain elements") from error


def text_of(dtype: np.dtype[Any]) -> str:
    """NumPy's short text for a dtype, which for bfloat16 says no more than how long it is; then its name."""
    return "bfloat16" if is_bfloat16(dtype) else dtype.str


def is_plain(value: Any) -> bool:
    """Whether :func:`encode` takes the value: no objects are in it, at any depth."""
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(is_plain(item) for item in value)
    if isinstance(value, (np.ndarray, np.generic)):
        return kind_of(value.dtype) in "biufcSUmM"
    if is_tensor(value) or is_jax_array(value):
        return True
    return value is None or isinstance(value, (bool, int, float, str))


def encode(value: Any, arrays: list[Array], where: str) -> Any:
    """What JSON can hold of ``value``; its arrays are put into ``arrays`` and named by their place there.

    Every JSON object tells in its one key, or by ``"array"``, what it stands for, so that all that
    comes back is what was given: tuples, keys that are no texts, infinities and NumPy's scalars too.

    Args:
        value: plain values.
        arrays: is appended to; not copied.
        where: names the value, for messages.

    Raises:
        TypeError: something that is not plain.
        ValueError: a structure that holds itself.
    """
    try:
        return _encode(value, arrays, where)
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply, or contains itself") from None


def _encode(value: Any, arrays: list[Array], where: str) -> Any:
    if isinstance(value, dict):
        pairs = [[_encode(k, arrays, where), _encode(v, arrays, f"{where}[{k!r}]")] for k, v in value.items()]
        return {"dict": pairs}
    if isinstance(value, (list, tuple)):
        items = [_encode(item, arrays, f"{where}[{i}]") for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, (np.ndarray, np.generic, TensorLike)) or is_tensor(value) or is_jax_array(value):
        array, kind, more = _as_array(value, where)
        arrays.append(array)
        return {kind: len(arrays) - 1, **more, "dtype": text_of(array.dtype), "shape": list(array.shape)}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    raise TypeError(
        f"{where} is a {type(value).__name__}, which a checkpoint cannot hold: keep numbers, texts, arrays, "
        "lists, tuples and dicts of them, or give it get_state() and set_state()"
    )


def _as_array(value: Any, where: str) -> tuple[Array, str, dict[str, Any]]:
    """The values, what they are of, and what else there is to say."""
    if is_tensor(value):
        array, name = tensor_as_array(value, where)
        return array, "tensor", {"of": name}
    if is_jax_array(value):
        array, keys = from_jax(value, where)
        return array, "jax", {"keys": keys}
    array = as_array(value)
    if kind_of(array.dtype) not in "biufcSUmM":
        raise TypeError(f"{where} is an array of {array.dtype}, which a checkpoint cannot hold")
    return array, "scalar" if isinstance(value, np.generic) else "array", {}


def decode(tree: Any, array: Callable[[int, np.dtype[Any], tuple[int, ...]], Array]) -> Any:
    """The value that :func:`encode` was given.

    Args:
        tree: its result.
        array: gives an array by its number, dtype and shape.

    Raises:
        ValueError: ``tree`` is no such result.
    """
    if isinstance(tree, list):
        return [decode(item, array) for item in tree]
    if not isinstance(tree, dict):
        return tree
    try:
        return _decode(tree, array)
    except (TypeError, KeyError) as error:
        raise ValueError(f"a value cannot be read: {error!r}") from error


def _decode(tree: dict[str, Any], array: Callable[[int, np.dtype[Any], tuple[int, ...]], Array]) -> Any:
    match tree:
        case {"dict": list(pairs)} if all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            return {decode(key, array): decode(item, array) for key, item in pairs}
        case {"tuple": items}:
            return tuple([decode(item, array) for item in items])
        case {"float": text}:
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[text]
        case {"array": int(number), "dtype": dtype, "shape": shape}:
            return np.array(array(number, dtype_of(dtype), tuple(shape)))
        case {"scalar": int(number), "dtype": dtype}:
            return array(number, dtype_of(dtype), ())[()]
        case {"dtype": dtype, "shape": shape}:
            return _decode_foreign(tree, lambda number: array(number, dtype_of(dtype), tuple(shape)))
    raise ValueError(f"a value cannot be read: unknown form {sorted(tree)}")


def _decode_foreign(tree: dict[str, Any], array: Callable[[int], Array]) -> Any:
    match tree:
        case {"tensor": int(number), "of": str(name)}:
            return tensor_of(array(number), name)
        case {"jax": int(number), "keys": str() | None as keys}:
            return array_of_jax(array(number), keys)
    raise ValueError(f"a value cannot be read: unknown form {sorted(tree)}")
