"""Files that are whole or not there at all, and directories of checkpoints."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from distopt.checkpoint.manifest import LONGEST, MANIFEST, Damaged, FileRecord, Manifest
from distopt.file_access import create, make_folders, open_to_read, read_all

__all__ = [
    "begin",
    "checkpoints",
    "clear",
    "make_directory",
    "prune",
    "publish",
    "read_manifest",
    "remove_if_empty",
    "verify",
    "warn_of_others",
    "write_file",
]

_log = logging.getLogger("distopt")

#: Longer numbers are not ours: the next one's name would be too long for a file.
_NAME = re.compile(r"checkpoint-(\d{8,18})")
#: A checkpoint that is being written, or removed, has this ending; it is none for :func:`checkpoints`.
PART = ".part"
_CHUNK = 1 << 20


def write_file(path: str, data: bytes) -> FileRecord:
    """Writes a file under a temporary name, syncs it to the disk, and gives it its name."""
    scratch = path + PART
    with create(scratch) as file:
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
        OSError: the directory cannot be written.
    """
    left = [name.removesuffix(PART) for name in os.listdir(directory) if name.endswith(PART)]
    numbers = [_number(path) for path in checkpoints(directory)]
    for name in filter(_NAME.fullmatch, left):
        path = os.path.join(directory, name)
        try:
            _remove_tree(path + PART)
        except OSError as error:
            numbers.append(_number(path))  # its name is taken
            _once(path + PART, "%s, which an interrupted save left behind, cannot be removed: %s", error)
    number = max(numbers, default=0) + 1
    if not _NAME.fullmatch(os.path.basename(path_of(directory, number))):
        text = f"checkpoint-{number - 1} has the highest possible number: move it away"
        raise OSError(errno.EEXIST, text, path_of(directory, number - 1))
    # Who can read the directory can read what is in it; nobody else can write there.
    mode = 0o700 | os.stat(directory).st_mode & 0o055
    os.mkdir(path_of(directory, number) + PART, mode)
    return number


def make_directory(directory: str) -> None:
    """Makes the directory, for this user alone, if it is not there.

    Raises:
        OSError: it cannot be made.
    """
    make_folders(directory)


def warn_of_others(directory: str) -> None:
    """Says once if other users can put checkpoints into the directory, or take them away."""
    try:
        found = os.stat(directory)
    except OSError:
        return
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        why = "every user of this machine can change what is in it: chmod o-w"
    elif found.st_uid not in (os.geteuid(), 0):
        why = f"it belongs to another user (uid {found.st_uid}), who can change what is in it"
    else:
        return
    _once(directory, "checkpoint directory %s: %s", why)


# Process-wide: several managers may write into one directory, and each warning comes once.
_warned: set[str] = set()


def _once(path: str, text: str, why: object) -> None:
    if path not in _warned:
        _warned.add(path)
        _log.warning(text, path, why)


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
    """Removes all checkpoints, the newest last.

    Raises:
        OSError: something cannot be removed.
    """
    for path in checkpoints(directory):
        _remove(path)


def remove_if_empty(directory: str) -> None:
    """Removes the directory if nothing is in it; a link to one stays."""
    if os.path.isdir(directory) and not os.path.islink(directory) and not os.listdir(directory):
        os.rmdir(directory)


def _remove(path: str) -> None:
    # Under the temporary name first: half of a checkpoint must not look like one.
    os.rename(path, path + PART)
    _remove_tree(path + PART)


def _remove_tree(path: str) -> None:
    """Removes what has this name; of a link, which may lead to an archive, the link alone."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def prune(directory: str, keep: int, damaged: set[str]) -> None:
    """Removes all checkpoints but the newest ``keep``, not counting those that are not whole.

    Those are removed when they are older than all that are kept.

    Args:
        directory: that of the checkpoints.
        keep: how many whole ones stay.
        damaged: paths of some that are known not to be whole; of the others only the lengths are looked at.
    """
    there = checkpoints(directory)
    # From the newest on, so that the older ones, of which there may be many, are not looked at.
    whole = (path for path in reversed(there) if path not in damaged and _seems_whole(path))
    oldest = next(islice(whole, keep - 1, None), None)
    if oldest is None:
        return
    for path in there[: there.index(oldest)]:
        try:
            _remove(path)
        except OSError as error:
            _once(path, "the old checkpoint %s cannot be removed: %s", error)


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
        data = read_all(os.path.join(path, MANIFEST), LONGEST)
    except OSError as error:
        raise Damaged(f"{MANIFEST} cannot be read: {error.strerror}") from error
    manifest = Manifest.parse(data)
    if path_of(os.path.dirname(path), manifest.number) != path:
        raise Damaged(f"{MANIFEST} is that of checkpoint {manifest.number}")
    manifest.check_files()
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
    try:
        with open_to_read(os.path.join(path, record.name)) as file:
            length = os.fstat(file.fileno()).st_size
            if length != record.nbytes:
                raise Damaged(f"{record.name} has {length:,} bytes, not {record.nbytes:,}")
            if contents and _sha256(file, length) != record.sha256:
                raise Damaged(f"{record.name} has changed since it was written (its SHA-256 differs)")
    except OSError as error:
        raise Damaged(f"{record.name} cannot be read: {error.strerror}") from error


def _sha256(file: BinaryIO, length: int) -> str:
    hashed = hashlib.sha256()
    for chunk in _chunks(file, length):
        hashed.update(chunk)
    return hashed.hexdigest()


def _chunks(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length > 0 and (chunk := file.read(min(_CHUNK, length))):
        length -= len(chunk)
        yield chunk
