"""TensorBoard's event files: a protocol buffer a record, with checksums around it."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

from distopt.file_access import make_folders, open_to_append
from distopt.file_writing import append_whole, explained_errors

__all__ = ["EventFile"]


class EventFile:
    """A file of numbers over steps, which ``tensorboard --logdir`` shows.

    Args:
        folder: created, for this user alone, if it does not exist; the file in it gets a unique name.
    """

    def __init__(self, folder: str) -> None:
        # Here, since this imports PyTorch as well where it is installed, which takes seconds.
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import masked_crc32c

        self._event, self._checksum = Event, masked_crc32c
        stamp = f"{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self.path = os.path.join(folder, f"events.out.tfevents.{stamp}")
        # The writers of tensorboardX follow links and replace a file of the same second.
        with explained_errors(self.path, "TensorBoard's events"):
            make_folders(folder)
            self._file = open_to_append(self.path)
        self._write(file_version="brain.Event:2")

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes the numbers of one step, by tag."""
        values = [{"tag": tag, "simple_value": value} for tag, value in numbers.items()]
        self._write(step=step, summary={"value": values})

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def _write(self, **fields: Any) -> None:
        """One record of the TFRecord format."""
        event = self._event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack("<Q", len(event))
        record = b"".join(part + struct.pack("<I", self._checksum(part)) for part in (length, event))
        append_whole(self._file, record, self.path, "TensorBoard's events")
