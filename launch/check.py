"""``distoptrun --check``: is this installation, and are these hosts, fit for a job?"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .cores import cores, threads, usable
from .display import Display
from .errors import LaunchError
from .interpreter import START
from .job import Job
from .mpi import find_launcher, find_library
from .options import Options
from .plan import Plan
from .prepare import make_plan
from .program import Program

_SHARED_MEMORY = Path("/dev/shm")
_ROOM = 64 << 20  # below this even small models do not fit
_RING_SECONDS = 60.0


@dataclass(frozen=True)
class Finding:
    """One line of the table; ``good`` None for what is only told."""

    name: str
    value: str
    good: bool | None = None


def run_check(options: Options, environ: dict[str, str]) -> int:
    """Prints the table; returns 0 if nothing is wrong, otherwise 1."""
    findings = [Finding("Python", f"{platform.python_version()} ({sys.executable})"), *_machine()]
    findings += _mpi(environ)
    if all(finding.good is not False for finding in findings):
        findings += _job(options, environ)
    _print(findings)
    return int(any(finding.good is False for finding in findings))


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


def _machine() -> list[Finding]:
    available = cores()
    count = usable(len(available))
    findings = [Finding("cores", f"{count} of {os.cpu_count()}")]
    try:
        usage = shutil.disk_usage(_SHARED_MEMORY)
        text = f"{usage.free >> 20} of {usage.total >> 20} MiB free in {_SHARED_MEMORY}"
        findings.append(Finding("shared memory", text, good=usage.free >= _ROOM))
    except OSError as error:
        findings.append(Finding("shared memory", f"{_SHARED_MEMORY}: {error.strerror}"))
    findings.append(_compile_cache())
    return findings


def _compile_cache() -> Finding:
    """Where Numba keeps compiled kernels: beside the source, or else in the user's cache folder."""
    name = "compile cache"
    spec = importlib.util.find_spec("distopt")
    if spec is None or not spec.origin:
        return Finding(name, "distopt is not installed", good=False)
    engine = Path(spec.origin).with_name("engine")
    if os.access(engine, os.W_OK):
        return Finding(name, f"{engine / '__pycache__'}", good=True)
    home = Path.home()
    writable = os.access(home, os.W_OK)
    what = "used instead" if writable else "so too: kernels are compiled at each start"
    return Finding(name, f"{engine} is read-only; {home} is {what}", good=writable)


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
