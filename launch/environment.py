"""The one reader of the environment in this package; everything else takes mappings."""

from __future__ import annotations

import os
from collections.abc import Mapping

#: What the launcher tells the program; `distopt.settings` knows these names.
LAUNCHER = "DISTOPT_LAUNCHER"
SIZE = "DISTOPT_LAUNCH_SIZE"
RESTART = "DISTOPT_LAUNCH_RESTART"
#: A number of this run of distoptrun, the same for all of its attempts.
JOB = "DISTOPT_LAUNCH_JOB"
TTY = "DISTOPT_LAUNCH_TTY"
#: Folder of the named pipes between the launcher and the processes on its machine.
CHANNEL = "DISTOPT_LAUNCH_CHANNEL"
#: The signals that the launcher was started with ignored, as numbers with commas.
IGNORED = "DISTOPT_LAUNCH_IGNORED"

#: Those of them that every process reads, on other hosts too.
FOR_PROCESSES = (RESTART, JOB, CHANNEL, IGNORED)

#: What another launcher may have left: with them, a new job would take itself for a part of the old one.
_FOREIGN = (
    *("PMI_", "PMIX_", "OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "HYDI_", "MPI_LOCAL", "PRTE_", "ORTE_"),
    # Of a step and its tasks. What tells of the batch job stays: mpiexec and srun need it.
    *("SLURM_STEP_", "SLURM_STEPID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_GTIDS"),
    *("SLURM_TASK_PID", "SLURM_SRUN_COMM_", "SLURM_LAUNCH_NODE_IPADDR"),
    "DISTOPT_LAUNCH",
)


def inherited() -> dict[str, str]:
    """A copy of this process's environment."""
    return dict(os.environ)


def cleaned(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` without the marks of a job that this launcher itself is a process of."""
    return {name: value for name, value in environ.items() if not name.startswith(_FOREIGN)}


def put(values: Mapping[str, str]) -> None:
    """Sets variables of this process, and so of what it starts."""
    os.environ.update(values)


def drop(name: str) -> None:
    """Removes a variable of this process, if it is there."""
    os.environ.pop(name, None)
