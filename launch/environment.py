"""Environment variables. Only this module reads the environment; the others take mappings."""

from __future__ import annotations

import os
from collections.abc import Mapping

#: Variables that the launcher sets for the program; `distopt.settings` knows these names.
LAUNCHER = "DISTOPT_LAUNCHER"
SIZE = "DISTOPT_LAUNCH_SIZE"
RESTART = "DISTOPT_LAUNCH_RESTART"
#: An ID of this run of distoptrun, the same for all its attempts.
JOB = "DISTOPT_LAUNCH_JOB"
TTY = "DISTOPT_LAUNCH_TTY"
#: The folder of the named pipes between the launcher and the processes on its machine.
CHANNEL = "DISTOPT_LAUNCH_CHANNEL"
#: Which telemetry the launcher asks for, see `telemetry.Wishes`.
WISHES = "DISTOPT_LAUNCH_WISHES"
#: The replica's file descriptor for telemetry and its rank, if the launcher asks for telemetry.
TELEMETRY = "DISTOPT_LAUNCH_TELEMETRY"
#: The signals that were ignored when the launcher started, as comma-separated numbers.
IGNORED = "DISTOPT_LAUNCH_IGNORED"

#: The variables that every process reads, also on other hosts.
FOR_PROCESSES = (RESTART, JOB, CHANNEL, IGNORED, WISHES)

#: Prefixes of variables that another launcher sets. With them, a new job would act as part of the old one.
_FOREIGN = (
    *("PMI_", "PMIX_", "OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "HYDI_", "MPI_LOCAL", "PRTE_", "ORTE_"),
    # Of a job step and its tasks. The variables of the batch job stay: mpiexec and srun need them.
    *("SLURM_STEP_", "SLURM_STEPID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_GTIDS"),
    *("SLURM_TASK_PID", "SLURM_SRUN_COMM_", "SLURM_LAUNCH_NODE_IPADDR"),
    "DISTOPT_LAUNCH",
)
#: Prefixes of variables that users set for Open MPI's launcher, e.g. PRTE_MCA_plm_ssh_agent.
_SETTINGS = ("PRTE_MCA_", "PMIX_MCA_")


def inherited() -> dict[str, str]:
    """A copy of this process's environment."""
    return dict(os.environ)


def cleaned(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` without the variables of another job of which distoptrun itself may be a process."""
    return {
        name: value
        for name, value in environ.items()
        if name.startswith(_SETTINGS) or not name.startswith(_FOREIGN)
    }


def put(values: Mapping[str, str]) -> None:
    """Sets variables for this process and its children."""
    os.environ.update(values)


def drop(name: str) -> None:
    """Unsets a variable, if it is set."""
    os.environ.pop(name, None)
