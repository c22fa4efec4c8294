"""Reading the arrays of a checkpoint whose files have been verified."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from distopt.checkpoint.encoding import decode
from distopt.checkpoint.manifest import Damaged, Manifest, Record, StateRecord, array_name, tensor_name
from distopt.checkpoint.writing import safetensors
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
        file = record.file or _own(replica)
        return self._array(file, tensor_name(group, place, record.name), np.dtype(record.dtype), record.shape)

    def state(self, name: str, record: StateRecord, replica: int) -> Any:
        """A state on ``replica``."""
        file, tree = record.file or _own(replica), record.tree
        if not record.file:
            texts = self._file(file).metadata() or {}
            try:
                tree = json.loads(texts["states"])[name]
            except (KeyError, TypeError, ValueError, RecursionError) as error:
                raise Damaged(f"{file} does not hold the state {name!r}") from error
        try:
            return decode(tree, lambda i, dtype, shape: self._array(file, array_name(name, i), dtype, shape))
        except RecursionError as error:
            raise Damaged(f"the state {name!r} is nested too deeply") from error

    def _array(self, file: str, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        try:
            array: Array = self._file(file).get_tensor(name)
        except safetensors().SafetensorError as error:
            raise Damaged(f"{file} does not hold {name!r}: {error}") from error
        if array.dtype != dtype:
            array = np.frombuffer(array.tobytes(), dtype)  # one that safetensors has not: kept as bytes
        return array.reshape(shape)

    def _file(self, name: str) -> Any:
        if name not in self._open:
            path = os.path.join(self._path, name)
            try:
                self._open[name] = safetensors().safe_open(path, framework="numpy")
            except (safetensors().SafetensorError, OSError) as error:
                raise Damaged(f"{name} cannot be read: {error}") from error
        return self._open[name]


def _own(replica: int) -> str:
    return f"replica-{replica:05d}.safetensors"
