"""``distoptrun --check``: is this installation, and are these hosts, fit for a job?"""

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
from .errors import LaunchError
from .installed import faults, folder, version
from .interpreter import START, running
from .job import Job
from .mpi import find_launcher, find_library
from .options import Options
from .plan import Plan
from .prepare import make_plan
from .program import Program

_SHARED_MEMORY = Path("/dev/shm")
_ROOM = 64 << 20  # below this even small models do not fit
_RING_SECONDS = 60.0
_PROBE_SECONDS = 60.0


@dataclass(frozen=True)
class Finding:
    """One line of the table; ``good`` None for what is only told."""

    name: str
    value: str
    good: bool | None = None


def run_check(options: Options, environ: dict[str, str]) -> int:
    """Prints the table; returns 0 if nothing is wrong, otherwise 1."""
    findings = [
        Finding("Python", f"{platform.python_version()} ({sys.executable})"),
        *_package(),
    ]
    if _good(findings):  # what follows imports the package
        findings += [*_machine(environ), *_mpi(environ)]
    if _good(findings):
        findings += _job(options, environ)
    _print(findings)
    return int(not _good(findings))


def _good(findings: list[Finding]) -> bool:
    return all(finding.good is not False for finding in findings)


def _package() -> list[Finding]:
    if wrong := faults():
        return [Finding("distopt", fault, good=False) for fault in wrong]
    return [Finding("distopt", f"{version()} ({folder()})", good=True)]


def _mpi(environ: Mapping[str, str]) -> list[Finding]:
    try:
        library = find_library(environ)
    except LaunchError as error:
        return [Finding("MPI", str(error), good=False)]
    findings = [
        Finding("mpi4py", library.mpi4py),
        Finding("MPI that mpi4py loads", f"{library.name} ({library.path or 'file unknown'})", good=True),
    ]
    try:
        launcher = find_launcher(library, environ)
    except LaunchError as error:
        return [*findings, Finding("its mpiexec", str(error), good=False)]
    text = f"{launcher.path} ({launcher.family} {launcher.version})"
    return [*findings, Finding("its mpiexec", text, good=True)]


def _machine(environ: dict[str, str]) -> list[Finding]:
    available = cores()
    count = usable(len(available))
    findings = [Finding("cores", f"{count} of {os.cpu_count()}")]
    try:
        usage = shutil.disk_usage(_SHARED_MEMORY)
        text = f"{usage.free >> 20} of {usage.total >> 20} MiB free in {_SHARED_MEMORY}"
        findings.append(Finding("shared memory", text, good=usage.free >= _ROOM))
    except OSError as error:
        findings.append(Finding("shared memory", f"{_SHARED_MEMORY}: {error.strerror}"))
    findings.append(_compile_cache(environ))
    return findings


def _compile_cache(environ: dict[str, str]) -> Finding:
    """Where Numba keeps compiled kernels, and whether others could put code there."""
    name = "compile cache"
    spec = importlib.util.find_spec("distopt")
    if spec is None or not spec.origin:
        return Finding(name, "distopt is not installed", good=False)
    if why := warning(environ, Path()):
        return Finding(name, why, good=False)
    command = running("distopt.engine.cache")
    try:
        done = subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(name, f"importing Numba did not end within {_PROBE_SECONDS:.0f} s", good=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Finding(name, f"Numba cannot be asked: {said}", good=False)
    folder = done.stdout.rstrip("\n")
    if not folder:
        text = "there is no folder that Numba may write to: kernels are compiled at each start"
        return Finding(name, text, good=False)
    # Beside the source it is as safe as the installation is.
    why = "" if Path(folder).is_relative_to(Path(spec.origin).parent) else distrust(Path(folder))
    return Finding(name, f"{folder}: {why}; they could run code as you" if why else folder, good=not why)


def _job(options: Options, environ: dict[str, str]) -> list[Finding]:
    """Runs the ring on the hosts asked for."""
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
        except (LaunchError, OSError, ValueError) as error:
            return [Finding("ring", str(error), good=False)]
    if code:
        return [Finding("ring", f"failed with exit code {code}", good=False)]
    return [*_described(plan, rows), *_threads(options, environ, rows)]


def _deadline(options: Options) -> float:
    return time.monotonic() + (options.timeout or _RING_SECONDS)


def _described(plan: Plan, rows: list[dict[str, Any]]) -> list[Finding]:
    whole = all(row["size"] == plan.processes for row in rows) and len(rows) == plan.processes
    findings = [
        Finding("processes", f"{len(rows)} of {plan.processes} in one world", good=whole),
        Finding("ring", f"{max(row['hop_us'] for row in rows):.1f} us a hop", good=True),
    ]
    links: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        links.setdefault((row["host"], rows[row["next"]]["host"]), []).append(row["bandwidth"])
    for (host, other), rates in links.items():
        where = f"within {host}" if host == other else f"{host} to {other}"
        findings.append(Finding(f"bandwidth {where}", f"{min(rates) / 1e9:.2f} GB/s"))
    return findings


def _threads(options: Options, environ: Mapping[str, str], rows: list[dict[str, Any]]) -> list[Finding]:
    counts = sorted({row["threads"] for row in rows})
    own = not threads(options.threads_per_replica, 1, 1, environ)
    return [Finding("threads per replica", "/".join(counts) + (" (set by you)" if own else ""))]


def _print(findings: list[Finding]) -> None:
    marks = {True: "ok", False: "WRONG", None: ""}
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{marks[finding.good]:5}  {finding.name:{width}}  {finding.value}")
        return
    table = Table("", "what", "found", title="distoptrun --check")
    for finding in findings:
        table.add_row(marks[finding.good], finding.name, finding.value)
    # Without a terminal to fit into, cut nothing.
    Console(width=None if sys.stdout.isatty() else 200, markup=False).print(table)
