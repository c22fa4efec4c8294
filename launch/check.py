"""``distoptrun --check``: checks this installation and the hosts of a job."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .cache import distrust, warning
from .cores import cores, threads, usable
from .display import Display
from .errors import JobStartError
from .installed import faults, folder, version
from .interpreter import START, running
from .job import Job
from .launch_plan import LaunchPlan
from .mpi import find_launcher, find_library
from .options import Options
from .prepare import make_plan
from .program import Program

_SHARED_MEMORY = Path("/dev/shm")
_ROOM = 64 << 20  # bytes of shared memory that even small models need
_RING_SECONDS = 60.0
_PROBE_SECONDS = 60.0


@dataclass(frozen=True)
class CheckResult:
    """One row of the table. ``good`` is whether the value is as it should be; None for information."""

    name: str
    value: str
    good: bool | None = None


def run_check(options: Options, environ: dict[str, str]) -> int:
    """Prints the table. Returns the exit code: 0 if all checks succeeded, otherwise 1."""
    results = [
        CheckResult("Python", f"{platform.python_version()} ({sys.executable})"),
        *_package(),
    ]
    if _good(results):  # the rest imports the package
        results += [*_machine(environ), *_mpi(environ)]
    if _good(results):
        results += _job(options, environ)
    _print(results)
    return int(not _good(results))


def _good(results: list[CheckResult]) -> bool:
    return all(result.good is not False for result in results)


def _package() -> list[CheckResult]:
    if wrong := faults():
        return [CheckResult("distopt", fault, good=False) for fault in wrong]
    return [CheckResult("distopt", f"{version()} ({folder()})", good=True)]


def _mpi(environ: Mapping[str, str]) -> list[CheckResult]:
    try:
        library = find_library(environ)
    except JobStartError as error:
        return [CheckResult("MPI", str(error), good=False)]
    results = [
        CheckResult("mpi4py", library.mpi4py),
        CheckResult("MPI that mpi4py loads", f"{library.name} ({library.path or 'file unknown'})", good=True),
    ]
    try:
        launcher = find_launcher(library, environ)
    except JobStartError as error:
        return [*results, CheckResult("its mpiexec", str(error), good=False)]
    text = f"{launcher.path} ({launcher.family} {launcher.version})"
    return [*results, CheckResult("its mpiexec", text, good=True)]


def _machine(environ: dict[str, str]) -> list[CheckResult]:
    available = cores()
    count = usable(len(available))
    results = [CheckResult("cores", f"{count} of {os.cpu_count()}")]
    try:
        usage = shutil.disk_usage(_SHARED_MEMORY)
        text = f"{usage.free >> 20} of {usage.total >> 20} MiB free in {_SHARED_MEMORY}"
        results.append(CheckResult("shared memory", text, good=usage.free >= _ROOM))
    except OSError as error:
        results.append(CheckResult("shared memory", f"{_SHARED_MEMORY}: {error.strerror}"))
    results.append(_compile_cache(environ))
    return results


def _compile_cache(environ: dict[str, str]) -> CheckResult:
    """Where Numba caches compiled kernels, and whether other users could put code there."""
    name = "compile cache"
    spec = importlib.util.find_spec("distopt")
    if spec is None or not spec.origin:
        return CheckResult(name, "distopt is not installed", good=False)
    if why := warning(environ, Path()):
        return CheckResult(name, why, good=False)
    command = running("distopt.engine.cache")
    try:
        done = subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return CheckResult(name, f"importing Numba did not end within {_PROBE_SECONDS:.0f} s", good=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return CheckResult(name, f"the cache cannot be located: {reason}", good=False)
    folder = done.stdout.rstrip("\n")
    if not folder:
        text = "there is no folder that Numba may write to: kernels are compiled at each start"
        return CheckResult(name, text, good=False)
    # A cache beside the source is as safe as the installation.
    why = "" if Path(folder).is_relative_to(Path(spec.origin).parent) else distrust(Path(folder))
    return CheckResult(name, f"{folder}: {why}; they could run code as you" if why else folder, good=not why)


def _job(options: Options, environ: dict[str, str]) -> list[CheckResult]:
    """Runs the ring program on the hosts of the options."""
    if not (options.nproc or options.hosts or options.hostfile):
        options = replace(options, nproc=2)
    options = replace(options, replicas_per_process=None)
    with tempfile.TemporaryDirectory(prefix="distoptrun-") as folder:
        answer = Path(folder) / "ring.json"
        program = Program(START, (f"{__package__}.ring", str(answer)))
        try:
            plan = make_plan(options, program, environ)
            display = Display(None, True, False, None)
            code = Job(plan, display, environ, _deadline(options), options.grace).run(0).code
            rows = json.loads(answer.read_text()) if code == 0 else []
        except (JobStartError, OSError, ValueError) as error:
            return [CheckResult("ring", str(error), good=False)]
    if code:
        return [CheckResult("ring", f"failed with exit code {code}", good=False)]
    return [*_described(plan, rows), *_threads(options, environ, rows)]


def _deadline(options: Options) -> float:
    return time.monotonic() + (options.timeout or _RING_SECONDS)


def _described(plan: LaunchPlan, rows: list[dict[str, Any]]) -> list[CheckResult]:
    whole = all(row["size"] == plan.processes for row in rows) and len(rows) == plan.processes
    results = [
        CheckResult("processes", f"{len(rows)} of {plan.processes} in one world", good=whole),
        CheckResult("ring", f"{max(row['hop_us'] for row in rows):.1f} us a hop", good=True),
    ]
    links: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        links.setdefault((row["host"], rows[row["next"]]["host"]), []).append(row["bandwidth"])
    for (host, other), rates in links.items():
        where = f"within {host}" if host == other else f"{host} to {other}"
        results.append(CheckResult(f"bandwidth {where}", f"{min(rates) / 1e9:.2f} GB/s"))
    return results


def _threads(options: Options, environ: Mapping[str, str], rows: list[dict[str, Any]]) -> list[CheckResult]:
    counts = sorted({row["threads"] for row in rows})
    own = not threads(options.threads_per_replica, 1, 1, environ)
    return [CheckResult("threads per replica", "/".join(counts) + (" (set by you)" if own else ""))]


def _print(results: list[CheckResult]) -> None:
    marks = {True: "ok", False: "WRONG", None: ""}
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        width = max(len(result.name) for result in results)
        for result in results:
            print(f"{marks[result.good]:5}  {result.name:{width}}  {result.value}")
        return
    table = Table("", "what", "found", title="distoptrun --check")
    for result in results:
        table.add_row(marks[result.good], result.name, result.value)
    # Without a terminal, a large width, so that rich does not cut anything.
    Console(width=None if sys.stdout.isatty() else 200, markup=False).print(table)
