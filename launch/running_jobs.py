"""Finds the running jobs of this user on this machine, from the ledgers that their processes have open."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import JobStartError
from .ledger import LedgerView, find, holders


def path_of(pid: int) -> str:
    """The path of the ledger of the job that a process belongs to.

    Args:
        pid: a replica, one of its ancestors, or distoptrun itself.

    Raises:
        JobStartError: there is no such process, it is another user's, or it does not belong to exactly one
            job.
    """
    process = Path("/proc", str(pid))
    try:
        if process.stat().st_uid != os.geteuid():
            raise JobStartError(f"process {pid} belongs to another user; only your own jobs can be shown")
        found = find(pid)
    except OSError:
        raise JobStartError(f"there is no process {pid}") from None
    if found is not None:
        return found
    jobs = {LedgerView(path).identity: path for holder, path in holders() if pid in _above(holder)}
    if len(jobs) == 1:
        return next(iter(jobs.values()))
    raise JobStartError(
        f"process {pid} is not of a job of distopt, or of one of several replicas on this machine that have "
        f"made a collective call.{_listed()}"
    )


def only_path() -> str:
    """The path of the ledger of the only job of this user on this machine.

    Raises:
        JobStartError: there is no job, or there are several.
    """
    jobs = _jobs()
    if len(jobs) == 1:
        return jobs[0].path
    if jobs:
        raise JobStartError(f"there are {len(jobs)} jobs; name one: distoptrun --live PID.{_listed()}")
    raise JobStartError(
        "there is no job of yours on this machine that has several replicas and has made a collective call"
    )


@dataclass(frozen=True)
class _Job:
    """A running job: one of its processes, its ledger's path, its number of replicas, and its command."""

    pid: int
    path: str
    replicas: int
    command: str


def _jobs() -> list[_Job]:
    found: dict[tuple[int, int], _Job] = {}
    for pid, path in sorted(holders()):
        with suppress(OSError, ValueError, KeyError):
            ledger = LedgerView(path)
            if ledger.identity not in found:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                command = b" ".join(words).decode(errors="replace").strip()
                found[ledger.identity] = _Job(pid, path, ledger.replicas, command[-200:])
    return list(found.values())


def _listed() -> str:
    jobs = _jobs()
    lines = [f"  {job.pid}: {job.replicas} replicas, {printable(job.command)}" for job in jobs]
    return "\n".join([" Jobs:", *lines]) if lines else ""


def printable(text: str) -> str:
    """``text`` with control characters, which a terminal would interpret, replaced by ``?``."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _above(pid: int) -> set[int]:
    """The process IDs of the ancestors of a process."""
    found: set[int] = set()
    with suppress(OSError, ValueError, IndexError):
        while pid > 1 and pid not in found:
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            pid = int(stat.rpartition(")")[2].split()[1])
            found.add(pid)
    return found
