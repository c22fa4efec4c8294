"""Makes a launch plan from the options: finds hosts and MPI, and adds what the MPI launcher needs."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping

from .allocation import SchedulerAllocation, find_allocation
from .argv import encode_argv
from .commands import ROOT_ALLOWED
from .cores import cores, usable
from .errors import JobStartError
from .hosts import Host, is_here, parse_hostfile, parse_hosts
from .interpreter import START, running
from .launch_plan import LaunchPlan, fit
from .limits import check_processes, check_threads
from .mpi import find_launcher, find_library, search_path
from .options import Options
from .program import Program
from .text_file import read_text

_IN_PROCESS = "distopt.testing.inprocess"
_PMI: Mapping[str, str] = {"mpich": "pmi2", "intel": "pmi2", "openmpi": "pmix"}


def program_of(options: Options) -> Program:
    """The user's program.

    Raises:
        JobStartError: there is none.
    """
    if not options.program:
        raise JobStartError("no program given. Write: distoptrun -n N script.py args...")
    return Program(options.program[0], options.program[1:], options.module)


def in_process_argv(options: Options, program: Program) -> tuple[str, ...]:
    """The module that runs several replicas in one process, and its arguments."""
    argv = [_IN_PROCESS, "--replicas", str(options.in_process or options.replicas_per_process)]
    if options.break_at is not None:
        argv += ["--break", str(options.break_at)]
    if options.post_mortem:
        argv += ["--post-mortem"]
    return (*argv, *program.argv)


def check_in_process(options: Options) -> None:
    """Checks the options of ``--in-process`` before the start.

    Raises:
        JobStartError: ``--break`` names no replica, or there are too many replicas.
    """
    replicas = options.in_process or 1
    check_threads(replicas)
    if options.break_at is not None and options.break_at >= replicas:
        raise JobStartError(f"--break {options.break_at}: the replicas are 0 to {replicas - 1}")


def make_plan(options: Options, program: Program, environ: Mapping[str, str]) -> LaunchPlan:
    """The plan for these options on this machine.

    Args:
        options: the user's options.
        program: the program.
        environ: this process's environment, for the allocation of a batch system and the MPI.

    Raises:
        JobStartError: the number of processes is unknown, there are too few slots, or no MPI launcher
            matches.
    """
    allocation = find_allocation(environ)
    hosts, notes = _hosts(options, allocation)
    processes = _processes(options, hosts)
    fit(processes, hosts, options.oversubscribe)
    absent = [rank for rank in options.ranks_filter or () if rank >= processes]
    if absent:
        raise JobStartError(f"--ranks-filter {absent[0]}: the processes are 0 to {processes - 1}")
    if is_here(hosts):
        hosts = ()
    check_processes(processes, here=not hosts)
    argv = program.argv
    if options.replicas_per_process:
        check_threads(options.replicas_per_process)
        argv = (START, *in_process_argv(options, program))
    single = processes == 1 and not hosts and not options.mpi_args and options.launcher == "auto"
    family, launcher, pmi = "single", "", ""
    if not single:
        family, launcher, pmi = _launcher(options, allocation, environ)
    settings = (f"family={family}", f"threads={options.threads_per_replica}", f"bind={options.bind}")
    own, passed = variables_of(options, environ)
    root = family == "openmpi" and hasattr(os, "geteuid") and os.geteuid() == 0
    if root and not environ.keys() >= ROOT_ALLOWED.keys():
        notes.append("started by root: adding --allow-run-as-root for Open MPI")
    oversubscribe = options.oversubscribe
    if not hosts and not oversubscribe and (note := _shared_cores(processes, family)):
        oversubscribe = family == "openmpi"  # which otherwise rejects more processes than cores
        notes.append(note)
    return LaunchPlan(
        family,
        launcher,
        processes,
        running("distopt_launch.child", *settings, *encode_argv(argv)),
        hosts,
        own,
        passed,
        oversubscribe,
        root,
        starter=_starter(allocation, hosts, family, options.mpi_args, environ),
        pmi=pmi,
        extra=_extra(options),
        notes=tuple(notes),
    )


def _starter(
    allocation: SchedulerAllocation | None,
    hosts: tuple[Host, ...],
    family: str,
    extra: str,
    environ: Mapping[str, str],
) -> str:
    """How Hydra (MPICH, Intel MPI) should start processes within a Slurm job; "" for its default.

    By default it uses srun, even on this machine. That hangs if a container has no srun, or if the job step
    in which distoptrun runs uses the whole allocation.

    Raises:
        JobStartError: there are other hosts, but no srun to reach them.
    """
    if "SLURM_JOB_ID" not in environ or family not in ("mpich", "intel"):
        return ""
    if not hosts:
        chosen = extra or any(name.startswith(("HYDRA_", "I_MPI_HYDRA_")) for name in environ)
        return "" if chosen else "fork"
    if allocation is None or allocation.system != "slurm":
        return ""
    if not shutil.which("srun", path=environ.get("PATH", "")):
        raise JobStartError(
            f"the other nodes of Slurm job {allocation.job_id} are reached by srun, which is not on PATH. "
            "In a container let Slurm start the processes, from outside: "
            "srun -n N <container> python script.py"
        )
    return "slurm"


def _shared_cores(processes: int, family: str) -> str:
    """The note for a job with more processes than this machine has cores; "" if it has enough."""
    places = usable(len(cores()))
    if processes <= places:
        return ""
    what = "they take turns, which is slow (use --oversubscribe if you want this)"
    if family == "openmpi":
        what = "adding --map-by slot:OVERSUBSCRIBE for Open MPI"
    return f"{processes} processes on {places} core{'s' * (places > 1)}: {what}"


def _hosts(options: Options, allocation: SchedulerAllocation | None) -> tuple[tuple[Host, ...], list[str]]:
    if options.hosts:
        return parse_hosts(options.hosts), []
    if options.hostfile:
        try:
            text = read_text(options.hostfile, "replace")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise JobStartError(f"cannot read the host file {options.hostfile}: {why}") from None
        return parse_hostfile(text, options.hostfile), []
    if allocation is None:
        return (), []
    note = f"{allocation.system} job {allocation.job_id}: {', '.join(map(str, allocation.hosts))}"
    return allocation.hosts, [note]


def _processes(options: Options, hosts: tuple[Host, ...]) -> int:
    places = sum(host.slots for host in hosts)
    if options.nproc:
        return options.nproc
    if hosts and all(host.slots for host in hosts):
        return places
    raise JobStartError("how many processes? Pass -n N, or hosts with slots: -H a:4,b:4")


def _launcher(
    options: Options, allocation: SchedulerAllocation | None, environ: Mapping[str, str]
) -> tuple[str, str, str]:
    """The launcher's family and file, and Slurm's plugin for the MPI that mpi4py loads."""
    library = find_library(environ)
    slurm = allocation is not None and allocation.system == "slurm"
    srun = shutil.which("srun", path=os.pathsep.join(search_path(environ)))
    if options.launcher != "srun":
        try:
            found = find_launcher(library, environ)
            return found.family, found.path, ""
        except JobStartError:
            # MPI builds for clusters often lack mpiexec, because Slurm starts the processes.
            if options.launcher == "mpiexec" or not (slurm and srun):
                raise
    if not srun:
        raise JobStartError("--launcher srun: there is no srun on PATH")
    return "srun", srun, _PMI[library.family]


def variables_of(
    options: Options, environ: Mapping[str, str]
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """The variables of ``--env``: those with a value, and the names of those to forward.

    Raises:
        JobStartError: a variable to forward is not set.
    """
    given: dict[str, str | None] = {}
    for word in options.env:
        name, equals, value = word.partition("=")
        if not equals and name not in environ:
            raise JobStartError(f"--env {name}: the variable is not set here, so it cannot be forwarded")
        given[name] = value if equals else None
    own = tuple((name, value) for name, value in given.items() if value is not None)
    return own, tuple(name for name, value in given.items() if value is None)


def _extra(options: Options) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(options.mpi_args))
    except ValueError as error:
        raise JobStartError(f"--mpi-args {options.mpi_args!r}: {error}") from None
