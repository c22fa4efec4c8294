"""Reads the allocation of a batch system, hosts and numbers of processes, from its environment variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .errors import JobStartError
from .hosts import Host, is_name, merged, parse_hostfile
from .text_file import read_text

#: More nodes than any machine has.
_MOST = 100_000
_NUMBER = re.compile(r"[0-9]{1,9}")
#: The largest number of brackets in a name. Slurm itself allows two or three.
_MOST_BRACKETS = 20


@dataclass(frozen=True)
class SchedulerAllocation:
    """The machines of a batch job.

    Attributes:
        system: ``slurm`` or ``pbs``.
        job_id: the ID of the batch job.
        hosts: the hosts, each with its number of processes.
    """

    system: str
    job_id: str
    hosts: tuple[Host, ...]

    @property
    def size(self) -> int:
        """Total number of processes."""
        return sum(host.slots for host in self.hosts)


def find_allocation(
    environ: Mapping[str, str],
    read: Callable[[str], str] = lambda path: read_text(path, "replace"),
) -> SchedulerAllocation | None:
    """Returns the allocation that ``environ`` describes; None outside of a batch job.

    Raises:
        JobStartError: the batch system's variables contradict each other.
    """
    if "SLURM_JOB_ID" in environ and _value(environ, "SLURM_JOB_NODELIST"):
        return _slurm(environ)
    if "PBS_JOBID" in environ and environ.get("PBS_NODEFILE"):
        return _pbs(environ, read)
    return None


def _value(environ: Mapping[str, str], name: str) -> str:
    """A variable's value; empty where Slurm writes ``(null)``."""
    text = environ.get(name, "").strip()
    return "" if text == "(null)" else text


def _slurm(environ: Mapping[str, str]) -> SchedulerAllocation:
    names = expand_nodelist(environ["SLURM_JOB_NODELIST"])
    # Tasks if the job asked for tasks; otherwise one per group of CPUs.
    sources = ("SLURM_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE", "SLURM_JOB_CPUS_PER_NODE")
    counts = expand_counts(next((text for name in sources if (text := _value(environ, name))), "1"))
    if len(counts) == 1:
        counts *= len(names)
    if len(counts) != len(names):
        raise JobStartError(f"Slurm names {len(names)} nodes, but gives task counts for {len(counts)}")
    total = _value(environ, "SLURM_NTASKS")
    if _NUMBER.fullmatch(total) and int(total) < sum(counts):
        counts = _trim(counts, int(total))
    hosts = tuple(Host(name, count) for name, count in zip(names, counts, strict=True) if count)
    return SchedulerAllocation("slurm", environ["SLURM_JOB_ID"], hosts)


def _trim(counts: list[int], total: int) -> list[int]:
    """``counts`` reduced to a sum of ``total``, from the end."""
    kept = []
    for count in counts:
        kept.append(min(count, total))
        total -= kept[-1]
    return kept


def _pbs(environ: Mapping[str, str], read: Callable[[str], str]) -> SchedulerAllocation:
    file = environ["PBS_NODEFILE"]
    try:
        text = read(file)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise JobStartError(f"PBS_NODEFILE={file} cannot be read: {why}") from None
    # One line per process.
    hosts = merged(Host(host.name, host.slots or 1) for host in parse_hostfile(text, file))
    return SchedulerAllocation("pbs", environ["PBS_JOBID"], hosts)


def expand_nodelist(text: str) -> list[str]:
    """Expands Slurm's compressed list of host names, e.g. ``n[01-03,7]-ib,gpu1``.

    Raises:
        JobStartError: unbalanced brackets, an invalid range, or an invalid host name.
    """
    names: list[str] = []
    for part in re.split(r",(?![^\[]*\])", text.strip()):
        names += _expand(part, text)
        _limit(len(names), text)
    wrong = [name for name in names if not is_name(name)]
    if wrong:
        raise JobStartError(f"cannot read Slurm's node list {text[:200]!r}: {wrong[0]!r} is not a host name")
    return names


def _expand(part: str, whole: str) -> list[str]:
    if part.count("[") > _MOST_BRACKETS:
        raise JobStartError(f"cannot read Slurm's node list {whole[:200]!r}: it has too many brackets")
    head, bracket, rest = part.partition("[")
    if not bracket:
        if not head or "]" in head:
            raise JobStartError(f"cannot read Slurm's node list {whole!r}")
        return [head]
    inside, closed, tail = rest.partition("]")
    if not closed:
        raise JobStartError(f"cannot read Slurm's node list {whole!r}: a bracket is not closed")
    tails = _expand(tail, whole) if tail else [""]
    numbers: list[str] = []
    for piece in inside.split(","):
        low, dash, high = piece.partition("-")
        high = high if dash else low
        if not (_NUMBER.fullmatch(low) and _NUMBER.fullmatch(high) and int(low) <= int(high)):
            raise JobStartError(f"cannot read Slurm's node list {whole!r}: {piece!r} is not a range")
        _limit((len(numbers) + int(high) - int(low) + 1) * len(tails), whole)
        numbers += [str(number).zfill(len(low)) for number in range(int(low), int(high) + 1)]
    return [head + number + end for number in numbers for end in tails]


def _limit(count: int, text: str) -> None:
    """Raises JobStartError if a short list expands to more names than any machine has nodes."""
    if count > _MOST:
        raise JobStartError(f"Slurm's list {text[:200]!r} names more than {_MOST:,} nodes")


def expand_counts(text: str) -> list[int]:
    """Expands Slurm's list of counts per node, e.g. ``2(x3),1``.

    Raises:
        JobStartError: ``text`` is not such a list.
    """
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,6})(?:\(x(\d{1,6})\))?", part.strip())
        if not match:
            raise JobStartError(f"cannot read Slurm's tasks per node {text!r}")
        _limit(len(counts) + int(match[2] or 1), text)
        counts += [int(match[1])] * int(match[2] or 1)
    return counts
