"""A model's weights in a file: NumPy's .npz, or .safetensors; nothing is ever unpickled."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from distopt.typing import Array

__all__ = ["check_ending", "read_weights", "write_weights"]

#: The dtypes of safetensors by NumPy's names (https://github.com/huggingface/safetensors, "Format").
_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
#: What reading a header that holds something else ends in.
_MALFORMED = (
    struct.error, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip
_NAMES = {short: name for name, short in _DTYPES.items()}


def write_weights(path: str, weights: Sequence[tuple[str, Array]]) -> None:
    """Writes named arrays; the file is whole or the old one stays.

    Args:
        path: ends in ``.npz`` or ``.safetensors``.
        weights: names and arrays, in order. A name that comes twice is told apart by its place.

    Raises:
        ValueError: another ending, or a dtype that the format does not know.
    """
    named = {f"{i:04d}/{name}": array for i, (name, array) in enumerate(weights)}
    ending, scratch = check_ending(path), f"{path}.part"
    try:
        with open(scratch, "wb") as file:
            if ending == ".npz":
                np.savez(file, allow_pickle=False, **named)
            else:
                _write_safetensors(file, named)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(scratch)
        raise


def read_weights(path: str) -> list[tuple[str, Array]]:
    """The names and arrays of a file that :func:`write_weights` wrote, in order.

    Raises:
        ValueError: another ending, or no such file's contents.
        FileNotFoundError: there is no such file.
    """
    named = _read_npz(path) if check_ending(path) == ".npz" else _read_safetensors(path)
    return [(name.partition("/")[2], named[name]) for name in sorted(named)]


def check_ending(path: str) -> str:
    """The path's ending, which tells the format.

    Raises:
        ValueError: one that is not known.
    """
    ending = os.path.splitext(path)[1]
    if ending not in (".npz", ".safetensors"):
        raise ValueError(f"weights are kept in .npz or .safetensors files; got {path!r}")
    return ending


def _write_safetensors(file: Any, named: dict[str, Array]) -> None:
    header: dict[str, Any] = {}
    start = 0
    for name, array in named.items():
        if array.dtype.name not in _DTYPES:
            raise ValueError(f"safetensors has no dtype for {name!r} of {array.dtype}: save as .npz")
        header[name] = {
            "dtype": _DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, start + array.nbytes],
        }
        start += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for array in named.values():
        file.write(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def _read_npz(path: str) -> dict[str, Array]:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # what zipfile, zlib and NumPy raise on damage is not documented
        raise ValueError(f"{path!r} is no .npz file of weights: {type(error).__name__}: {error}") from None


def _read_safetensors(path: str) -> dict[str, Array]:
    with open(path, "rb") as file:
        data = file.read()
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        body = memoryview(data)[8 + length :]
        return {name: _tensor(entry, body) for name, entry in header.items() if name != "__metadata__"}
    except _MALFORMED as error:
        raise ValueError(f"{path!r} is no safetensors file: {error}") from None


def _tensor(entry: dict[str, Any], body: memoryview) -> Array:
    start, stop = entry["data_offsets"]
    dtype = np.dtype(_NAMES[entry["dtype"]]).newbyteorder("<")
    return np.frombuffer(body[start:stop], dtype).reshape(entry["shape"]).astype(dtype.newbyteorder("="))
