"""Writing a checkpoint while the program goes on: a thread of each replica that has files to write.

The threads cannot use the job's communicator, which belongs to the program. Each leaves a note beside
each file that it has finished; replica 0's second thread waits for all notes, then publishes.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import asdict, replace

import numpy as np

from distopt.checkpoint import files
from distopt.checkpoint.manifest import FileRecord
from distopt.checkpoint.snapshot import File, SavePlan
from distopt.file_access import read_all
from distopt.tensor_files import is_storable, safetensors
from distopt.typing import Array

__all__ = ["Saving"]

_NOTE = ".written"
_LONGEST_NOTE = 1 << 16
#: safetensors takes headers of 100 MB at most, which hold the texts.
_LONGEST_TEXT = 40_000_000
_POLL_SECONDS = 0.002


class Saving:
    """A checkpoint on its way to the disk.

    Args:
        directory: that of the checkpoints.
        plan: what is written by whom.
        chief: whether this is replica 0, which publishes.
        copy: whether the arrays will change before they are written.
        timeout: seconds after which replica 0 gives the others' notes up; 0 for never.
        prune: called when the checkpoint is published.
    """

    def __init__(
        self,
        directory: str,
        plan: SavePlan,
        chief: bool,
        copy: bool,
        timeout: float,
        prune: Callable[[], None],
    ) -> None:
        self.number = plan.manifest.number
        self._directory, self._plan = directory, plan
        self._chief, self._timeout, self._prune = chief, timeout, prune
        self._folder = files.path_of(directory, self.number) + files.PART
        self._begun = time.monotonic()
        #: The optimizer steps that had been made.
        self.step = 0
        #: How long it took until it was complete; replica 0 knows.
        self.seconds = 0.0
        self._error: Exception | None = None
        self._publish_error: Exception | None = None
        self._given_up = threading.Event()
        self._threads: list[threading.Thread] = []
        try:
            if copy:
                for file in plan.files.values():
                    file.tensors = {name: np.array(array) for name, array in file.tensors.items()}
            self._writer = self._start(self._write, "write")
            self._publisher = self._start(self._publish, "publish") if chief else None
        except Exception as error:
            # Not raised: the other replicas are to learn of it when they meet.
            self._error = self._error or error

    def _start(self, run: Callable[[], None], task: str) -> threading.Thread:
        thread = threading.Thread(
            target=copy_context().run, args=(run,), name=f"checkpoint-{self.number}-{task}"
        )
        thread.start()
        self._threads.append(thread)
        return thread

    def written(self) -> Exception | None:
        """Waits until this replica has written its files; what went wrong."""
        for thread in self._threads[:1]:
            thread.join()
        return self._error

    def published(self) -> Exception | None:
        """Waits until the checkpoint is there, if this is replica 0; what went wrong."""
        for thread in self._threads:
            thread.join()
        return self._publish_error

    def give_up(self) -> None:
        """Takes away what was written, if this is replica 0, after a failure anywhere."""
        self._given_up.set()
        for thread in self._threads:
            thread.join()
        if self._chief:
            shutil.rmtree(self._folder, ignore_errors=True)

    # -- in the threads
    def _write(self) -> None:
        try:
            for name, file in self._plan.files.items():
                record = files.write_file(os.path.join(self._folder, name), _serialized(file))
                files.write_file(
                    os.path.join(self._folder, name + _NOTE), json.dumps(asdict(record)).encode()
                )
                file.tensors.clear()
        except Exception as error:
            self._error = error

    def _publish(self) -> None:
        try:
            records = self._records()
            if records is not None:
                for record in records:
                    os.unlink(os.path.join(self._folder, record.name + _NOTE))
                files.publish(self._directory, replace(self._plan.manifest, files=records))
                self.seconds = time.monotonic() - self._begun
                self._prune()
        except Exception as error:
            self._publish_error = error

    def _records(self) -> list[FileRecord] | None:
        """The notes of all files, when they are there; None if this has been given up."""
        end = time.monotonic() + (self._timeout or float("inf"))
        records = []
        for name in self._plan.expected:
            note = os.path.join(self._folder, name + _NOTE)
            while not os.path.exists(note):
                if self._given_up.wait(_POLL_SECONDS):
                    return None
                if not os.path.isdir(self._folder):
                    raise FileNotFoundError(errno.ENOENT, "it has been removed", self._folder)
                if time.monotonic() > end:
                    raise TimeoutError(f"{name} was not written within {self._timeout:g} seconds")
            records.append(FileRecord(**json.loads(read_all(note, _LONGEST_NOTE))))
        return records


def _serialized(file: File) -> bytes:
    length = sum(map(len, file.texts.values()))
    if length > _LONGEST_TEXT:
        raise ValueError(
            f"the states of the objects make {length:,} bytes of text: keep long lists as NumPy arrays"
        )
    tensors = {name: _storable(array) for name, array in file.tensors.items()}
    data: bytes = safetensors("distopt.checkpoint").numpy.save(tensors, metadata=file.texts or None)
    return data


def _storable(array: Array) -> Array:
    array = np.asarray(array, order="C")
    if is_storable(array):
        return array
    return np.frombuffer(array.tobytes(), np.uint8)
