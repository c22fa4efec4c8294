"""A model's weights in a file: NumPy's .npz, or .safetensors; nothing is ever unpickled.

A file's headers are read first, so that one of other weights is refused before its data take any memory:
three megabytes can unpack to three gigabytes.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np

from distopt.file_access import create, open_to_read
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
#: The longest headers in bytes: of a .safetensors file, which names a hundred thousand weights, and takes
#: twenty times the memory when read; and of each array in an .npz file.
_HEADER, _ARRAY_HEADER = 16 << 20, 1 << 16

_Shapes = list[tuple[int, ...]]


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
        with create(scratch) as file:
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


def read_weights(path: str, check: Callable[[_Shapes], None] | None = None) -> list[tuple[str, Array]]:
    """The names and arrays of a file that :func:`write_weights` wrote, in order.

    Args:
        path: the file.
        check: is called with the shapes of all arrays before any is read; raises if they do not fit.
            None: all fit.

    Raises:
        ValueError: another ending, or no such file's contents.
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, or is no regular file.
    """
    read = _read_npz if check_ending(path) == ".npz" else _read_safetensors
    with open_to_read(path) as file:
        return read(path, file, check or (lambda _: None))


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
    if len(text) > _HEADER:
        raise ValueError(f"so many weights have a header of {len(text):,} bytes: save as .npz")
    file.write(struct.pack("<Q", len(text)) + text)
    for array in named.values():
        file.write(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def _read_npz(path: str, file: BinaryIO, check: Callable[[_Shapes], None]) -> list[tuple[str, Array]]:
    # What zipfile, zlib and NumPy raise on damage is not documented.
    with _told(f"{path!r} is no .npz file of weights", Exception):
        archive = zipfile.ZipFile(file)
        members = sorted(archive.infolist(), key=lambda member: member.filename)
        shapes = [_npy_shape(archive, member) for member in members]
    check(shapes)
    with _told(f"{path!r} is no .npz file of weights", Exception):
        return [(_name(member.filename.removesuffix(".npy")), _npy(archive, member)) for member in members]


@contextmanager
def _told(what: str, *errors: type[Exception]) -> Iterator[None]:
    """Makes a ValueError of what reading rubbish raises."""
    try:
        yield
    except errors as error:
        raise ValueError(f"{what}: {type(error).__name__}: {error}") from None


def _npy_shape(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[int, ...]:
    """The shape of an array, whose header is whole and tells the truth about the length.

    The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename!r} is packed by a method that NumPy does not use")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        width, read = (
            (2, np.lib.format.read_array_header_1_0)
            if version == (1, 0)
            else (4, np.lib.format.read_array_header_2_0)
        )
        prefix = file.read(width)
        length = int.from_bytes(prefix, "little")
        if version not in ((1, 0), (2, 0)) or length > _ARRAY_HEADER:
            raise ValueError(f"{member.filename!r} has a header of {length:,} bytes in version {version}")
        shape, _, dtype = read(io.BytesIO(prefix + file.read(length)))
    if dtype.kind not in "biufc":
        raise ValueError(f"{member.filename!r} is an array of {dtype}, not of numbers")
    if member.file_size != 6 + 2 + width + length + math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{member.filename!r} has not the length that its header says")
    return tuple(shape)


def _npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    with archive.open(member) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
        file.read(1)  # its end, where the checksum is compared
    return array


def _read_safetensors(path: str, file: BinaryIO, check: Callable[[_Shapes], None]) -> list[tuple[str, Array]]:
    with _told(f"{path!r} is no safetensors file", *_MALFORMED):
        (length,) = struct.unpack("<Q", file.read(8))
        room = os.fstat(file.fileno()).st_size - 8 - length
        if room < 0 or length > _HEADER:
            raise ValueError(f"a header of {length:,} bytes")
        header = json.loads(file.read(length))
        tensors = {
            name: _checked(name, entry, room) for name, entry in header.items() if name != "__metadata__"
        }
    names = sorted(tensors)
    check([tensors[name][1] for name in names])
    return [(_name(name), _tensor(file, 8 + length, *tensors[name])) for name in names]


def _checked(name: str, entry: dict[str, Any], room: int) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Dtype, shape and start of a tensor that lies in a file with ``room`` bytes of data."""
    start, stop = entry["data_offsets"]
    dtype, shape = np.dtype(_NAMES[entry["dtype"]]).newbyteorder("<"), tuple(entry["shape"])
    numbers = (start, stop, *shape)
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(f"{name!r} has a shape or a place that is none")
    if stop > room or stop - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name!r} has not the length that its shape says")
    return dtype, shape, start


def _tensor(file: BinaryIO, data: int, dtype: np.dtype[Any], shape: tuple[int, ...], start: int) -> Array:
    file.seek(data + start)
    content = file.read(math.prod(shape) * dtype.itemsize)
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _name(name: str) -> str:
    """Without the number that keeps the order."""
    return name.partition("/")[2]
