"""A file lock, so that one process compiles a kernel while the others wait and then load it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["compile_lock"]

#: Seconds that a process waits for another one to compile a kernel, before it compiles it itself.
_PATIENCE = 10.0
#: Seconds between two attempts.
_PAUSE = 0.02


@contextlib.contextmanager
def compile_lock(folder: Path, name: str) -> Iterator[None]:
    """A context that holds a kernel's lock, unless the kernel is in the cache already.

    If locking fails, or another process holds the lock for 10 s, the caller continues without the lock. That
    two processes compile the same kernel is harmless.

    Args:
        folder: the cache folder.
        name: the kernel's name, which only the names of its own files contain.
    """
    lock = None if any(folder.glob(f"*{name}*.nbc")) else _acquired(folder / f"{name}.lock")
    try:
        yield
    finally:
        if lock is not None:
            # A process that opened this file before, and gets the lock now, finds the kernel in the cache.
            with contextlib.suppress(OSError):
                (folder / f"{name}.lock").unlink()
            os.close(lock)


def _acquired(path: Path) -> int | None:
    """The descriptor of the locked file; None if it cannot be locked."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            time.sleep(_PAUSE)
        except OSError:  # a file system without locks
            break
    os.close(descriptor)
    return None
