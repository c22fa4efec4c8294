"""Reads event files: by their format, and by TensorBoard."""

from pathlib import Path

import pytest


def crc32c(data: bytes) -> int:
    """CRC-32C, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def records(data: bytes) -> list[bytes]:
    """The records of a file in the TFRecord format, whose checksums are right."""
    found = []
    while data:
        length = int.from_bytes(data[:8], "little")
        parts = {data[:8]: data[8:12], data[12 : 12 + length]: data[12 + length : 16 + length]}
        for part, stored in parts.items():
            crc = crc32c(part)
            masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
            assert int.from_bytes(stored, "little") == masked
        found.append(data[12 : 12 + length])
        data = data[16 + length :]
    return found


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What stands in the event file of a folder, by its format."""
    from tensorboardX.proto.event_pb2 import Event

    (file,) = folder.iterdir()
    first, *events = map(Event.FromString, records(file.read_bytes()))
    assert file.name.startswith("events.out.tfevents.")
    assert first.file_version == "brain.Event:2"
    assert all(event.wall_time > 1.6e9 for event in (first, *events))
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events:
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def scalars_of_tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
