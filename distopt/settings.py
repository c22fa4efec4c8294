"""The one reader of the environment.

``DISTOPT_*`` variables set limits and debugging aids; the variables of MPI launchers tell how many
processes they started. An unknown ``DISTOPT_*`` name is an error, since a typing error there would
otherwise be silent.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

__all__ = ["Job", "Launched", "Settings", "jobs", "launched", "settings"]


@dataclass(frozen=True)
class Settings:
    """What ``DISTOPT_*`` environment variables say; each field is one, in upper case.

    Attributes:
        stall_seconds: after so long in one collective call, say who is waited for.
        abort_seconds: after so long, end the job (0: never).
        audit_every: compare the replicas' state every so many steps (0: never).
        memory: default of ``MPIStrategy(memory=...)``.
        update: default of ``MPIStrategy(update=...)``.
        nodes: pretend that so many nodes share the processes out (for tests), 0 for the truth.
        abort_on_exception: whether an uncaught exception ends the whole job.
        record: a directory in which replica 0 writes down the variables' values after each step.
    """

    stall_seconds: float = 60.0
    abort_seconds: float = 600.0
    audit_every: int = 1000
    memory: str = "auto"
    update: str = "auto"
    nodes: int = 0
    abort_on_exception: bool = True
    record: str = ""


#: Names that belong to the launcher, which passes them on to its children.
_LAUNCHER_NAMES = frozenset(
    {
        "DISTOPT_LAUNCHER",
        "DISTOPT_LAUNCH_SIZE",
        "DISTOPT_LAUNCH_RESTART",
        "DISTOPT_LAUNCH_TRACE",
        "DISTOPT_LAUNCH_TTY",
        "DISTOPT_LAUNCH_CHANNEL",
        "DISTOPT_LAUNCH_JOB",
    }
)

_TRUTH = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings from ``environ`` (the process's by default).

    Raises:
        ValueError: an unknown ``DISTOPT_*`` name, or a value that cannot be read.
    """
    env = os.environ if environ is None else environ
    known = {"DISTOPT_" + f.name.upper(): f for f in fields(Settings)}
    values: dict[str, object] = {}
    for name, text in env.items():
        if not name.startswith("DISTOPT_") or name in _LAUNCHER_NAMES:
            continue
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(f"unknown environment variable {name}.{hint} Known: {', '.join(sorted(known))}")
        values[known[name].name] = _parse(name, text, known[name].default)
    return Settings(**values)  # type: ignore[arg-type]


def _parse(name: str, text: str, default: object) -> object:
    try:
        if isinstance(default, bool):
            return _TRUTH[text.strip().lower()]
        if isinstance(default, (int, float)):
            return type(default)(text)
        return text
    except (KeyError, ValueError):
        raise ValueError(f"{name}={text!r} is not a {type(default).__name__}") from None


@dataclass(frozen=True)
class Launched:
    """What an MPI launcher says of the job.

    Attributes:
        launcher: its name, for messages.
        size: the number of processes that it started.
        variable: the environment variable that says so.
        rank: this process's number; None if the launcher does not say.
    """

    launcher: str
    size: int
    variable: str
    rank: int | None = None


#: Where each launcher puts the number of processes and the process's own; a third variable must be a
#: number too, if named.
_SIZE_VARIABLES = (
    ("OMPI_COMM_WORLD_SIZE", "Open MPI's mpirun", "OMPI_COMM_WORLD_RANK", None),
    ("PMI_SIZE", "MPICH's mpiexec or a PMI launcher", "PMI_RANK", "PMI_RANK"),
    ("SLURM_STEP_NUM_TASKS", "srun", "SLURM_PROCID", "SLURM_STEP_ID"),
)


def launched(environ: Mapping[str, str] | None = None) -> Launched | None:
    """What started this process, or None when no MPI launcher did."""
    env = os.environ if environ is None else environ
    for variable, launcher, number, needed in _SIZE_VARIABLES:
        text, rank = env.get(variable, ""), env.get(number, "")
        if text.isdigit() and (needed is None or env.get(needed, "").isdigit()):
            return Launched(launcher, int(text), variable, int(rank) if rank.isdigit() else None)
    return None


@dataclass(frozen=True)
class Job:
    """What started this process calls the job.

    Attributes:
        system: who, e.g. ``"Slurm"``.
        number: the job's number there.
        start: which start of this job it is; -1 if the system does not say.
        told: whether the number says something to people.
    """

    system: str
    number: str
    start: int
    told: bool = True

    def same_as(self, other: Job) -> bool:
        """Whether the other is this job, in whatever start."""
        return (self.system, self.number) == (other.system, other.number)


#: Each system's variables: of the job's number, of how often it was started again ("": it does not say).
_JOB_VARIABLES = (
    ("Slurm", "SLURM_JOB_ID", "SLURM_RESTART_COUNT", True),
    ("PBS", "PBS_JOBID", "", True),
    ("LSF", "LSB_JOBID", "", True),
    ("distoptrun", "DISTOPT_LAUNCH_JOB", "DISTOPT_LAUNCH_RESTART", False),
)


def jobs(environ: Mapping[str, str] | None = None) -> tuple[Job, ...]:
    """The jobs that this process belongs to, by batch system and launcher."""
    env = os.environ if environ is None else environ
    found = []
    for system, number, count, told in _JOB_VARIABLES:
        if name := env.get(number, ""):
            text = env.get(count, "0") if count else "-1"
            found.append(Job(system, name, int(text) if text.lstrip("-").isdigit() else 0, told))
    return tuple(found)
