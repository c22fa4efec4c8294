"""LaunchPlan: the data from which the command line of an MPI launcher is made."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import JobStartError
from .hosts import Host

FAMILIES = ("mpich", "openmpi", "intel", "srun", "single")


@dataclass(frozen=True)
class LaunchPlan:
    """How to start one job.

    Attributes:
        family: the kind of launcher, one of `FAMILIES`; ``single`` starts one process without MPI.
        launcher: the file of mpiexec or srun; "" for ``single``.
        processes: the number of processes.
        command: the command of each process.
        hosts: the hosts of the processes; () for this machine.
        env: variables to set for the processes, on all hosts.
        passed: names of variables to forward from here to all hosts. Their values do not appear in command
            lines, which all users of a machine can read.
        oversubscribe: whether there may be more processes than slots.
        root: whether the user is root.
        starter: how Hydra (MPICH, Intel MPI) starts processes: ``slurm`` or ``fork``; "" for its default.
        pmi: Slurm's PMI plugin for the MPI, with ``srun``.
        extra: further arguments for the launcher, from the user.
        notes: messages about what was added to the user's options, and why.
    """

    family: str
    launcher: str
    processes: int
    command: tuple[str, ...]
    hosts: tuple[Host, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    passed: tuple[str, ...] = ()
    oversubscribe: bool = False
    root: bool = False
    starter: str = ""
    pmi: str = ""
    extra: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def fit(processes: int, hosts: tuple[Host, ...], oversubscribe: bool) -> None:
    """Checks that the hosts have enough slots.

    Raises:
        JobStartError: there are too few, and ``oversubscribe`` is not set.
    """
    places = sum(host.slots for host in hosts)
    if hosts and all(host.slots for host in hosts) and processes > places and not oversubscribe:
        named = ",".join(map(str, hosts[:8])) + (",..." if len(hosts) > 8 else "")
        raise JobStartError(
            f"{processes} processes were asked for, but {named} have {places} places. "
            "Give more hosts or places, a smaller -n, or --oversubscribe."
        )


def shares(plan: LaunchPlan) -> list[tuple[Host, int]]:
    """The hosts with their numbers of processes: fills slots in order, and distributes the rest evenly."""
    known = all(host.slots for host in plan.hosts)
    left = plan.processes
    counts = []
    for index, host in enumerate(plan.hosts):
        even = -(-left // (len(plan.hosts) - index))
        counts.append(min(left, host.slots) if known else even)
        left -= counts[-1]
    for turn in range(left):
        counts[turn % len(counts)] += 1
    return [(host, count) for host, count in zip(plan.hosts, counts, strict=True) if count]
