"""Reading the arrays of a checkpoint whose files have been verified."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np

from distopt.checkpoint.encoding import decode, dtype_of
from distopt.checkpoint.manifest import (
    Damaged,
    Manifest,
    Record,
    StateRecord,
    array_name,
    own_file,
    tensor_name,
)
from distopt.file_access import open_to_read
from distopt.tensor_files import load_errors, open_tensors, safetensors
from distopt.typing import Array

__all__ = ["Reader"]


class Reader:
    """The contents of one checkpoint.

    Args:
        path: the checkpoint.
        manifest: its manifest.
    """

    def __init__(self, path: str, manifest: Manifest) -> None:
        self._path, self._manifest = path, manifest
        self._open: dict[str, Any] = {}

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *args: object) -> None:
        self._open.clear()

    def variable(self, group: str, place: int, record: Record, replica: int) -> Array:
        """A variable's value on ``replica``."""
        file = record.file or own_file(replica)
        return self._array(file, tensor_name(group, place, record.name), dtype_of(record.dtype), record.shape)

    def state(self, name: str, record: StateRecord, replica: int) -> Any:
        """A state on ``replica``."""
        file, tree = record.file or own_file(replica), record.tree
        if not record.file:
            texts = self._file(file).metadata() or {}
            try:
                tree = json.loads(texts["states"])[name]
            except (KeyError, TypeError, ValueError, RecursionError) as error:
                raise Damaged(f"{file} does not hold the state {name!r}") from error
        read: set[int] = set()

        def array(number: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
            if number in read:  # a short text could ask for one array without end
                raise Damaged(f"the state {name!r} holds its array {number} twice")
            read.add(number)
            return self._array(file, array_name(name, number), dtype, shape)

        try:
            return decode(tree, array)
        except RecursionError as error:
            raise Damaged(f"the state {name!r} is nested too deeply") from error

    def _array(self, file: str, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        try:
            there = self._file(file)
            # The header first: a tensor of another size would be read in vain.
            stored = there.get_slice(name).get_shape()
            if stored != list(shape) and math.prod(stored) != math.prod(shape) * dtype.itemsize:
                raise Damaged(f"{file} holds {name!r} as {stored}, not as {list(shape)}")
            array: Array = there.get_tensor(name)
            if array.dtype != dtype:
                array = np.frombuffer(array.tobytes(), dtype)  # one that safetensors has not: kept as bytes
            return array.reshape(shape)
        except load_errors() as error:
            if isinstance(error, Damaged):
                raise
            raise Damaged(f"{file} does not hold {name!r} as {dtype}{list(shape)}: {error}") from error

    def _file(self, name: str) -> Any:
        if name not in self._open:
            nbytes = {file.name: file.nbytes for file in self._manifest.files}.get(name)
            path = os.path.join(self._path, name)
            try:
                with open_to_read(path) as file:
                    if os.fstat(file.fileno()).st_size != nbytes:
                        raise Damaged(f"{name} has changed its length since it was verified")
                    self._open[name] = open_tensors(file, path)
            except (safetensors("distopt.checkpoint").SafetensorError, OSError) as error:
                raise Damaged(f"{name} cannot be read: {error}") from error
        return self._open[name]
