"""Turns a launch plan into the command line of an MPI launcher."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence

from . import environment
from .launch_plan import LaunchPlan, shares

#: The variables that Open MPI requires to start as root.
ROOT_ALLOWED = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def command(plan: LaunchPlan) -> list[str]:
    """The command that starts the plan."""
    return _BUILDERS[plan.family](plan)


def variables(plan: LaunchPlan) -> dict[str, str]:
    """The environment variables to set for the MPI launcher."""
    own: dict[str, str] = dict(plan.env)
    if plan.family == "openmpi" and plan.root:
        own |= ROOT_ALLOWED
    if plan.family == "intel":
        own["I_MPI_PIN"] = "off"  # the supervisors bind processes, in the same way for all MPIs
        if plan.env or plan.passed:
            own["I_MPI_HYDRA_ENV"] = "all"  # forwards all variables, over those that a remote shell sets
    return own


def shown(plan: LaunchPlan) -> str:
    """The variables and the command as one shell line."""
    return line(variables(plan), plan.passed, command(plan))


def line(own: Mapping[str, str], passed: Iterable[str], argv: Sequence[str]) -> str:
    """The variables and the command as one shell line.

    Those in ``passed`` are written as ``NAME="$NAME"``.
    """
    names = [f"{name}={shlex.quote(value)}" for name, value in own.items()]
    names += [f'{name}="${name}"' for name in passed if name not in own]
    return " ".join([*names, shlex.join(argv)])


def _mpich(plan: LaunchPlan) -> list[str]:
    argv = [plan.launcher, "-n", str(plan.processes), "-bind-to", "none"]
    if plan.hosts:
        argv += ["-hosts", ",".join(f"{host.name}:{count}" for host, count in shares(plan))]
    if plan.starter:
        argv += ["-launcher", plan.starter]
    # Hydra forwards its whole environment, so no option is needed for variables.
    return [*argv, *plan.extra, *plan.command]


def _openmpi(plan: LaunchPlan) -> list[str]:
    argv = [plan.launcher, "-np", str(plan.processes), "--bind-to", "none"]
    if plan.hosts:
        argv += ["--host", ",".join(f"{host.name}:{count}" for host, count in shares(plan))]
    if plan.oversubscribe:
        argv += ["--map-by", "slot:OVERSUBSCRIBE"]
    if plan.root:
        argv += ["--allow-run-as-root"]
    own = environment.FOR_PROCESSES if plan.hosts else ()
    for name in dict.fromkeys((*dict(plan.env), *plan.passed, *own)):
        argv += ["-x", name]  # the value is in the launcher's own environment
    return [*argv, *plan.extra, *plan.command]


def _intel(plan: LaunchPlan) -> list[str]:
    argv = [plan.launcher, "-genv", "I_MPI_PIN", "off"]  # it forwards all other variables by itself
    if plan.starter:
        argv += ["-bootstrap", plan.starter]
    if not plan.hosts:
        return [*argv, "-n", str(plan.processes), *plan.extra, *plan.command]
    argv += plan.extra
    for index, (host, count) in enumerate(shares(plan)):
        argv += [*([":"] if index else []), "-host", host.name, "-n", str(count), *plan.command]
    return argv


def _srun(plan: LaunchPlan) -> list[str]:
    argv = [plan.launcher, "--ntasks", str(plan.processes), "--kill-on-bad-exit=1", "--cpu-bind=none"]
    argv += ["--export=ALL"]  # all variables, even if the batch job was started with fewer
    if plan.pmi:
        argv += [f"--mpi={plan.pmi}"]
    if plan.hosts:
        argv += ["--nodelist", ",".join(host.name for host, _count in shares(plan))]
    if plan.oversubscribe:
        argv += ["--overcommit"]
    return [*argv, *plan.extra, *plan.command]


def _single(plan: LaunchPlan) -> list[str]:
    return list(plan.command)


_BUILDERS: Mapping[str, Callable[[LaunchPlan], list[str]]] = {
    "mpich": _mpich,
    "openmpi": _openmpi,
    "intel": _intel,
    "srun": _srun,
    "single": _single,
}
