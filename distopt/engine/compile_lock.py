"""One process compiles a kernel, the others of its cache wait and load it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["compile_lock"]

#: Seconds that a process waits for another's kernel, before it compiles its own.
_PATIENCE = 10.0
_PAUSE = 0.02


@contextlib.contextmanager
def compile_lock(folder: Path, name: str) -> Iterator[None]:
    """Holds the lock of a kernel that is not in the cache yet; does not wait where it is.

    Where the lock cannot be had, or another process holds it for 10 s, the caller goes on without: two that
    compile one kernel do each other no harm.

    Args:
        folder: of the cache.
        name: the kernel's, part of the names of its files and of no other's.
    """
    lock = None if any(folder.glob(f"*{name}*.nbc")) else _acquired(folder / f"{name}.lock")
    try:
        yield
    finally:
        if lock is not None:
            # Who has opened the file before and comes by the lock now finds the kernel.
            with contextlib.suppress(OSError):
                (folder / f"{name}.lock").unlink()
            os.close(lock)


def _acquired(path: Path) -> int | None:
    """The descriptor of the locked file; None where it cannot be locked."""
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
