"""The lock of a checkpoint directory: one job at a time writes there, and a second one is told at once.

The lock is a small file that names its owner. It is made under another name and then linked, so that it
is whole or not there at all, on network file systems too. ``flock`` alone would not do: some of these do
not have it, others keep it to one machine. A lock whose owner has ended is stale, and taken over. Whether
it has can be known on the owner's own machine, or when the same job has been started again since.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import socket
import time
import weakref
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distopt.file_access import create, read_all
from distopt.launched import JobId, is_child, job_ids

__all__ = ["FILE", "hold", "let_go"]

FILE = "checkpoints.lock"
_LONGEST = 1 << 16
#: What file systems without links say.
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock: replica 0 of a job.

    Attributes:
        host: its machine's name.
        machine: a number of that installation, or "".
        boot: a number of that machine's start; containers on it share it.
        space: the space in which its pid counts: containers have one each.
        pid: its number there.
        born: when it was started, in the system's ticks since the boot: numbers come again.
        since: when it took the lock, for people.
        jobs: what the batch system and the launcher call the job.
        token: tells this lock from all others.
    """

    host: str
    machine: str
    boot: str
    space: str
    pid: int
    born: int
    since: str
    jobs: tuple[JobId, ...]
    token: str

    def __str__(self) -> str:
        named = "".join(f", {job.system} job {job.number}" for job in self.jobs if job.meaningful)
        return f"process {self.pid} on {self.host}, which has held it since {self.since}{named}"


@dataclass
class _Held:
    """A lock that this process holds: its token, its open file (-1: none), the process, who uses it."""

    token: str
    file: int
    process: int
    users: set[int]


# By the directory's real path. Process-wide: a lock is the process's, whichever managers use it.
_held: dict[str, _Held] = {}


def hold(directory: str, user: object) -> None:
    """Takes the directory's lock for this job, or makes sure that it still has it.

    It is given back when all that use it here are gone (see :func:`let_go`), or with the process.

    Args:
        directory: it is there.
        user: what uses it, such as a manager.

    Raises:
        RuntimeError: another job holds it; or the lock is none of ours.
        OSError: the lock cannot be made.
    """
    place = os.path.realpath(directory)
    held, key = _held.get(place), id(user)
    if held is not None and held.process != os.getpid() and is_child():
        held = None  # what a replica forked has no part in the job, whose lock this is
    path = os.path.join(place, FILE)
    owner = _read(path)
    if held is None or owner is None or owner.token != held.token:
        held = _held[place] = _renewed(path, owner, held)
    if key not in held.users:
        held.users.add(key)
        weakref.finalize(user, _drop, place, key)


def _renewed(path: str, owner: Owner | None, before: _Held | None) -> _Held:
    """The lock of this process, in place of one that it never had, or has lost."""
    if owner is not None and _same_process(owner):
        held = _Held(owner.token, -1, os.getpid(), set())
    elif owner is not None and not _is_stale(owner, path):
        raise RuntimeError(_refusal(path, owner))
    else:
        held = _taken(path, owner)
    if before is not None:
        held.users |= before.users
        if before.file >= 0:
            os.close(before.file)
    return held


def let_go(directory: str, user: object) -> None:
    """Says that ``user`` no longer writes into the directory."""
    _drop(os.path.realpath(directory), id(user))


def _drop(place: str, key: int) -> None:
    held = _held.get(place)
    if held is None:
        return
    held.users.discard(key)
    # A child made by fork has a copy of this, but the lock is its parent's.
    if held.users or held.process != os.getpid():
        return
    del _held[place]
    path = os.path.join(place, FILE)
    with suppress(OSError, RuntimeError):
        owner = _read(path)
        if owner is not None and owner.token == held.token:
            os.unlink(path)
    if held.file >= 0:
        os.close(held.file)


def _taken(path: str, before: Owner | None) -> _Held:
    """Makes the lock file, in place of a stale one."""
    own = _this_process()
    scratch = f"{path}.{own.token}"
    file = create(scratch)
    descriptor = os.dup(file.fileno())
    try:
        with file:
            file.write(json.dumps(asdict(own)).encode())
            file.flush()
            with suppress(OSError):  # what is wrong with the disk, the checkpoint's own files will tell
                os.fsync(file.fileno())
        with suppress(OSError):  # not everywhere; then pids alone tell
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if before is not None:
            _remove_stale(path, before)
        _publish(scratch, path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    finally:
        for name in os.listdir(os.path.dirname(path)):  # also what killed jobs have left
            if name.startswith(f"{FILE}.") and (name.endswith(own.token) or _holds(path, own)):
                with suppress(OSError):
                    os.unlink(os.path.join(os.path.dirname(path), name))
    return _Held(own.token, descriptor, os.getpid(), set())


def _holds(path: str, own: Owner) -> bool:
    with suppress(RuntimeError):
        owner = _read(path)
        return owner is not None and owner.token == own.token
    return False


def _publish(scratch: str, path: str, descriptor: int) -> None:
    """Gives the file its name; ``descriptor`` keeps a file lock on what has it then."""
    try:
        try:
            os.link(scratch, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _publish_copy(scratch, path, descriptor)
    except (FileExistsError, FileNotFoundError):
        raise RuntimeError(_refusal(path, _read(path))) from None


def _publish_copy(scratch: str, path: str, descriptor: int) -> None:
    copy = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with os.fdopen(copy, "wb") as file:
        file.write(read_all(scratch, _LONGEST))
        with suppress(OSError):
            fcntl.flock(copy, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.dup2(copy, descriptor, inheritable=False)


def _remove_stale(path: str, owner: Owner) -> None:
    aside = f"{path}.{owner.token}.stale"
    with suppress(FileNotFoundError):
        os.rename(path, aside)
        found = _read(aside)
        if found is not None and found.token != owner.token:
            # Another job was faster: it is its lock that was taken away.
            with suppress(OSError):
                os.link(aside, path)
            os.unlink(aside)
            raise RuntimeError(_refusal(path, found))
        os.unlink(aside)


def _is_stale(owner: Owner, path: str) -> bool:
    here = _this_process()
    pairs = [(mine, its) for mine in here.jobs for its in owner.jobs if mine.same_as(its)]
    if any(mine.start > its.start >= 0 for mine, its in pairs):
        return True  # started again, so its earlier start has ended, or is about to
    if owner.boot == here.boot:
        if owner.space == here.space:
            return not _is_alive(owner)
        return _is_free(path)  # another container's number: only the file lock can tell
    if any(mine.start < 0 for mine, _ in pairs):
        return True  # the batch system has moved the job to another machine
    # The same installation under another number has been started anew since.
    return bool(owner.machine) and (owner.machine, owner.host) == (here.machine, here.host)


def _is_alive(owner: Owner) -> bool:
    born = _born(owner.pid)
    if born:
        return born == owner.born
    try:
        os.kill(owner.pid, 0)
    except PermissionError:
        return True  # another user's, which cannot be seen in /proc
    except (ProcessLookupError, OverflowError):
        return False
    return owner.born == 0  # a system without /proc; else it has ended, and nobody has asked how


def _is_free(path: str) -> bool:
    """Whether no process of this machine has a file lock on it; not, where that cannot be known."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _refusal(path: str, owner: Owner | None) -> str:
    who = f"it belongs to {owner}" if owner is not None else "another job was faster"
    return (
        f"the checkpoint directory {os.path.dirname(path)} is in use by another job: {who}. Nothing was "
        "written. Use another directory for this job, or end the other one. If the other job has ended, "
        f"on a machine that cannot be checked from here, remove {path} and start again"
    )


def _read(path: str) -> Owner | None:
    """The owner that a lock file names; None if there is no lock.

    Raises:
        RuntimeError: the file is no lock of ours.
    """
    for _ in range(10):
        try:
            content = json.loads(read_all(path, _LONGEST))
            content["jobs"] = tuple(JobId(**job) for job in content["jobs"])
            owner = Owner(**content)
            if type(owner.pid) is type(owner.born) is int and owner.pid > 0 and owner.token.isalnum():
                return owner
            problem: Exception = ValueError("it names no process")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            problem = error
        time.sleep(0.05)  # where there are no links, it may be half written
    raise RuntimeError(
        f"{path} should name the job that writes checkpoints there, but cannot be read ({problem}). Nothing "
        "was written. If no job uses the directory, remove this file and start again"
    )


def _this_process() -> Owner:
    pid = os.getpid()
    return Owner(
        socket.gethostname(),
        _first_line("/etc/machine-id"),
        _first_line("/proc/sys/kernel/random/boot_id") or socket.gethostname(),
        _space(),
        pid,
        _born(pid),
        time.strftime("%Y-%m-%d %H:%M:%S %z"),
        job_ids(),
        secrets.token_hex(8),
    )


def _same_process(owner: Owner) -> bool:
    here = _this_process()
    mine: tuple[Any, ...] = (here.host, here.boot, here.space, here.pid, here.born)
    return mine == (owner.host, owner.boot, owner.space, owner.pid, owner.born)


def _born(pid: int) -> int:
    """When a process was started; 0 if none can be seen, or it has ended and nobody has asked how."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""
