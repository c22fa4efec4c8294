"""A model's weights in a file: NumPy's .npz, or .safetensors; nothing is ever unpickled.

A file's headers are read first, so that one of other weights is refused before its data take any memory:
three megabytes can unpack to three gigabytes.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np

from distopt.core.dtypes import bfloat16, is_bfloat16
from distopt.file_access import open_to_read
from distopt.file_writing import replaced_file
from distopt.tensor_files import is_storable, load_errors, open_tensors, safetensors
from distopt.typing import Array

__all__ = ["check_ending", "read_weights", "write_weights"]

#: The longest headers in bytes: of a .safetensors file, for a hundred thousand weights; and of each array in
#: an .npz file.
_HEADER, _ARRAY_HEADER = 16 << 20, 1 << 16

_Shapes = list[tuple[int, ...]]


def write_weights(path: str, weights: Sequence[tuple[str, Array]]) -> None:
    """Writes named arrays; the file is whole or the old one stays.

    Args:
        path: ends in ``.npz`` or ``.safetensors``.
        weights: names and arrays, in order. Names that come twice differ by their place.

    Raises:
        MissingExtra, ValueError: see :func:`check_ending`.
        ValueError: a dtype that the format does not have.
        OSError: it could not be written; the text says where, and what room there is.
    """
    named = {f"{i:04d}/{name}": array for i, (name, array) in enumerate(weights)}
    ending = check_ending(path)
    if ending == ".npz":
        _check_npz(named)
    with replaced_file(path, "the weights", sum(array.nbytes for _, array in weights)) as file:
        if ending == ".npz":
            np.savez(file, allow_pickle=False, **named)
        else:
            file.write(_serialized(named))


def read_weights(path: str, check: Callable[[_Shapes], None] | None = None) -> list[tuple[str, Array]]:
    """The names and arrays of a file that :func:`write_weights` wrote, in order.

    Args:
        path: the file.
        check: is called with the shapes of all arrays before any is read; raises if they do not fit.
            None: all fit.

    Raises:
        MissingExtra, ValueError: see :func:`check_ending`.
        MissingExtra: there are weights of bfloat16, and ml_dtypes is not installed.
        ValueError: no such file's contents.
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, or is no regular file.
    """
    read = _read_npz if check_ending(path) == ".npz" else _read_safetensors
    with open_to_read(path) as file:
        return read(path, file, check or (lambda _: None))


def check_ending(path: str) -> str:
    """The path's ending, which says the format.

    Raises:
        MissingExtra: the package for the format is not installed.
        ValueError: one that is not known.
    """
    ending = os.path.splitext(path)[1]
    if ending not in (".npz", ".safetensors"):
        raise ValueError(f"weights are kept in .npz or .safetensors files; got {path!r}")
    if ending == ".safetensors":
        safetensors("a .safetensors file")
    return ending


def _check_npz(named: dict[str, Array]) -> None:
    for name, array in named.items():
        if is_bfloat16(array.dtype):
            raise ValueError(f"NumPy's files have no dtype for {name!r} of bfloat16: save as .safetensors")


def _serialized(named: dict[str, Array]) -> bytes:
    """The contents of a .safetensors file."""
    for name, array in named.items():
        if not is_storable(array):
            raise ValueError(f"safetensors has no dtype for {name!r} of {array.dtype}: save as .npz")
    data: bytes = safetensors("a .safetensors file").numpy.save(named)
    length = _header_length(data)
    if length > _HEADER:
        raise ValueError(f"the weights need a header of {length:,} bytes: save as .npz")
    return data


def _header_length(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")


def _read_npz(path: str, file: BinaryIO, check: Callable[[_Shapes], None]) -> list[tuple[str, Array]]:
    # What zipfile, zlib and NumPy raise on damage is not documented.
    with _refused(f"{path!r} is not an .npz file of weights", Exception):
        archive = zipfile.ZipFile(file)
        members = sorted(archive.infolist(), key=lambda member: member.filename)
        shapes = [_npy_shape(archive, member) for member in members]
    check(shapes)
    with _refused(f"{path!r} is not an .npz file of weights", Exception):
        return [(_name(member.filename.removesuffix(".npy")), _npy(archive, member)) for member in members]


@contextmanager
def _refused(what: str, *errors: type[Exception]) -> Iterator[None]:
    """Makes a ValueError of what reading rubbish raises."""
    try:
        yield
    except errors as error:
        raise ValueError(f"{what}: {type(error).__name__}: {error}") from None


def _npy_shape(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[int, ...]:
    """The shape of an array, whose header is whole and has the right length.

    The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename!r} is compressed with a method that NumPy does not use")
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
        raise ValueError(f"{member.filename!r} does not have the length that its header states")
    return tuple(shape)


def _npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    with archive.open(member) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
        file.read(1)  # its end, where the checksum is compared
    return array


def _read_safetensors(path: str, file: BinaryIO, check: Callable[[_Shapes], None]) -> list[tuple[str, Array]]:
    with _refused(f"{path!r} is not a safetensors file", *load_errors()):
        length = _header_length(file.read(8))
        if length > _HEADER:
            raise ValueError(f"a header of {length:,} bytes")
        tensors = open_tensors(file, path)
        names = sorted(tensors.keys())
        slices = [tensors.get_slice(name) for name in names]
        shapes = [tuple(part.get_shape()) for part in slices]
    check(shapes)
    if any(part.get_dtype() == "BF16" for part in slices):
        bfloat16()  # the package must be there before the first tensor of it
    with _refused(f"{path!r} is not a safetensors file", *load_errors()):
        return [(_name(name), tensors.get_tensor(name)) for name in names]


def _name(name: str) -> str:
    """Without the number that keeps the order."""
    return name.partition("/")[2]
