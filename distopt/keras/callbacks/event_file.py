"""TensorBoard's event files: a protocol buffer to a record, and a checksum around each."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping

from distopt.file_access import make_folders, open_to_append

__all__ = ["EventFile"]


def _checksum_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _checksum_table()


def masked_checksum(data: bytes) -> int:
    """CRC-32C of ``data``, rotated and shifted as the TFRecord format has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


class EventFile:
    """A file of numbers over steps, which ``tensorboard --logdir`` shows.

    Args:
        folder: made, for this user alone, if it is not there; the file in it gets a name of its own.
    """

    def __init__(self, folder: str) -> None:
        make_folders(folder)
        stamp = f"{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self.path = os.path.join(folder, f"events.out.tfevents.{stamp}")
        self._file = open_to_append(self.path)
        self._write(_text(3, "brain.Event:2"))

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes the numbers of one step, by tag."""
        values = b"".join(
            _bytes(1, _text(1, tag) + _key(2, 5) + struct.pack("<f", value)) for tag, value in numbers.items()
        )
        self._write(_key(2, 0) + _varint(step) + _bytes(5, values))

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def _write(self, fields: bytes) -> None:
        """One record: ``Event`` of tensorflow/core/util/event.proto, its wall time first."""
        event = _key(1, 1) + struct.pack("<d", time.time()) + fields
        length = struct.pack("<Q", len(event))
        checks = (struct.pack("<I", masked_checksum(part)) for part in (length, event))
        self._file.write(length + next(checks) + event + next(checks))
        self._file.flush()


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _bytes(field: int, data: bytes) -> bytes:
    return _key(field, 2) + _varint(len(data)) + data


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())
