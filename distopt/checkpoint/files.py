"""Files that are whole or not there at all, and directories of checkpoints."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator

from distopt.checkpoint.manifest import MANIFEST, Damaged, FileRecord, Manifest

__all__ = ["begin", "checkpoints", "clear", "prune", "publish", "read_manifest", "verify", "write_file"]

_NAME = re.compile(r"checkpoint-(\d{8,})")
#: A checkpoint that is being written, or removed, has this ending; it is none for :func:`checkpoints`.
PART = ".part"
_CHUNK = 1 << 20


def write_file(path: str, data: bytes) -> FileRecord:
    """Writes a file under a temporary name, syncs it to the disk, and gives it its name."""
    scratch = path + PART
    with open(scratch, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)
    return FileRecord(os.path.basename(path), len(data), hashlib.sha256(data).hexdigest())


def sync_directory(path: str) -> None:
    """Makes the names in a directory last."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checkpoints(directory: str) -> list[str]:
    """The paths of all checkpoints in ``directory``, the oldest first; whether they are whole is not known.

    Raises:
        OSError: the directory cannot be read; it may be missing.
    """
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    found = sorted((int(m[1]), name) for name in names if (m := _NAME.fullmatch(name)))
    return [os.path.join(directory, name) for _, name in found]


def begin(directory: str) -> int:
    """Makes room for a new checkpoint: takes away what broken-off runs left; returns its number.

    Raises:
        OSError: the directory cannot be made or written.
    """
    os.makedirs(directory, exist_ok=True)
    for name in os.listdir(directory):
        if name.endswith(PART) and _NAME.fullmatch(name.removesuffix(PART)):
            shutil.rmtree(os.path.join(directory, name))
    number = max((_number(path) for path in checkpoints(directory)), default=0) + 1
    os.mkdir(path_of(directory, number) + PART)
    return number


def path_of(directory: str, number: int) -> str:
    """The path of checkpoint ``number``."""
    return os.path.join(directory, f"checkpoint-{number:08d}")


def _number(path: str) -> int:
    return int(os.path.basename(path).rpartition("-")[2])


def publish(directory: str, manifest: Manifest) -> None:
    """Writes the manifest into the checkpoint's temporary directory, which then gets its name."""
    final = path_of(directory, manifest.number)
    write_file(os.path.join(final + PART, MANIFEST), manifest.dump())
    sync_directory(final + PART)
    os.rename(final + PART, final)
    sync_directory(directory)


def clear(directory: str) -> None:
    """Removes all checkpoints, the newest last, and the directory if nothing else is in it.

    Raises:
        OSError: something cannot be removed.
    """
    for path in checkpoints(directory):
        _remove(path)
    if os.path.isdir(directory) and not os.listdir(directory):
        os.rmdir(directory)


def _remove(path: str) -> None:
    # Under the temporary name first: half of a checkpoint must not look like one.
    os.rename(path, path + PART)
    shutil.rmtree(path + PART)


def prune(directory: str, keep: int, damaged: set[str]) -> None:
    """Removes all checkpoints but the newest ``keep``, not counting those that are not whole.

    Those are removed when they are older than all that are kept.

    Args:
        directory: that of the checkpoints.
        keep: how many whole ones stay.
        damaged: paths of some that are known not to be whole; of the others only the lengths are looked at.
    """
    whole = [path for path in checkpoints(directory) if path not in damaged and _seems_whole(path)]
    if len(whole) <= keep:
        return
    for path in checkpoints(directory):
        if _number(path) >= _number(whole[-keep]):
            return
        _remove(path)


def _seems_whole(path: str) -> bool:
    try:
        for record in read_manifest(path)[0].files:
            verify(path, record, contents=False)
    except ValueError:
        return False
    return True


def read_manifest(path: str) -> tuple[Manifest, str]:
    """The manifest of the checkpoint at ``path``, and the SHA-256 of its file.

    Raises:
        Damaged: it is missing or not whole.
        ValueError: the format of a newer version.
    """
    try:
        with open(os.path.join(path, MANIFEST), "rb") as file:
            data = file.read()
    except OSError as error:
        raise Damaged(f"{MANIFEST} cannot be read: {error.strerror}") from error
    manifest = Manifest.parse(data)
    if path_of(os.path.dirname(path), manifest.number) != path:
        raise Damaged(f"{MANIFEST} is that of checkpoint {manifest.number}")
    return manifest, hashlib.sha256(data).hexdigest()


def verify(path: str, record: FileRecord, contents: bool) -> None:
    """Compares a file with what the manifest says of it.

    Args:
        path: the checkpoint.
        record: the file.
        contents: whether to read it, or to look at its length only.

    Raises:
        Damaged: it is missing, of another length, or changed.
    """
    file = os.path.join(path, record.name)
    try:
        length = os.path.getsize(file)
        if length != record.nbytes:
            raise Damaged(f"{record.name} has {length:,} bytes, not {record.nbytes:,}")
        if contents:
            hashed = hashlib.sha256()
            for chunk in _chunks(file):
                hashed.update(chunk)
            if hashed.hexdigest() != record.sha256:
                raise Damaged(f"{record.name} has changed since it was written (its SHA-256 is another)")
    except OSError as error:
        raise Damaged(f"{record.name} cannot be read: {error.strerror}") from error


def _chunks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
