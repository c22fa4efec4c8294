"""Records the values of every step in a file, so that two runs can be compared step by step.

A file holds records: one line of JSON, ``{"step": n, "variables": [[name, dtype, shape], ...]}``, then
the arrays' bytes in that order.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distopt.file_access import make_folders, open_to_append, open_to_read, open_to_write

__all__ = ["FILE", "StepRecord", "StepRecorder", "read"]

#: The file's name in the directory that ``DISTOPT_RECORD`` names.
FILE = "steps"


class StepRecorder:
    """Writes the values of all variables after each step.

    Args:
        directory: where the file is written, replacing an older one; created if missing, private to this
            user.
    """

    def __init__(self, directory: str) -> None:
        make_folders(directory)
        self._path = Path(directory) / FILE
        open_to_write(self._path).close()
        self._steps = 0

    def write(self, values: Iterable[tuple[str, npt.NDArray[Any]]]) -> None:
        """Appends a record of names and arrays; it is in the file on return, since a job may crash."""
        self._steps += 1
        pairs = list(values)
        names = [[name, array.dtype.str, list(array.shape)] for name, array in pairs]
        with open_to_append(self._path) as file:
            file.write(json.dumps({"step": self._steps, "variables": names}).encode() + b"\n")
            for _, array in pairs:
                file.write(array.tobytes())


@dataclass(frozen=True)
class StepRecord:
    """One step.

    Attributes:
        step: its number, from 1.
        names: the variables' names.
        values: their values after it.
    """

    step: int
    names: tuple[str, ...]
    values: tuple[npt.NDArray[Any], ...]


def read(directory: str) -> Iterator[StepRecord]:
    """The records of a directory, in order; an incomplete last one is left out.

    Raises:
        FileNotFoundError: nothing was recorded there.
    """
    with open_to_read(Path(directory) / FILE) as file:
        end = os.fstat(file.fileno()).st_size
        while line := file.readline():
            if not line.endswith(b"\n"):
                return
            head = json.loads(line)
            names, values = [], []
            for name, dtype, shape in head["variables"]:
                kind = np.dtype(dtype)
                length = math.prod(shape) * kind.itemsize
                if length > end - file.tell():
                    return
                data = file.read(length)
                names.append(name)
                values.append(np.frombuffer(data, kind).reshape(shape))
            yield StepRecord(head["step"], tuple(names), tuple(values))
