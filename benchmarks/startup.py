"""``startup``: from the command line to the end of the first step, two replicas, beside torchrun."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.report import Picture, Report, Target

__all__ = ["PROGRAMS", "report", "until_said"]

REPLICAS = 2
WARM, COLD, TORCHRUN = "distoptrun, warm compile cache", "distoptrun, cold compile cache", "torchrun"

PROGRAMS = Path(__file__).parent / "programs"


def report(effort: Effort) -> Report:
    """Starts everything by turns."""
    found = Report(
        "startup",
        "From the command line to the first finished step, 2 replicas",
        Picture("bars", "case", "peer", "s"),
    )
    timeout = min(effort.timeout, 120.0)
    rounds = 1 if effort.tiny else min(effort.rounds, 5)
    with tempfile.TemporaryDirectory(prefix="distopt-bench-") as folder:
        warm = Path(folder, "warm")
        _distoptrun(warm, timeout)  # fills the cache, and the system's of files
        _torchrun(timeout)
        cases: dict[str, Callable[[int], float]] = {
            WARM: lambda _: _distoptrun(warm, timeout),
            COLD: lambda k: _distoptrun(Path(folder, f"cold-{k}"), timeout),
            TORCHRUN: lambda _: _torchrun(timeout),
        }
        times: dict[str, list[float]] = {name: [] for name in cases}
        for k in range(rounds):
            for name, start in cases.items():
                times[name].append(start(k))
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    found.rows = [
        {"case": name, "peer": name.split(",")[0], "s": medians[name], "rounds_s": times[name]}
        for name in times
    ]
    found.targets = [Target("warm", medians[WARM], 1.0, " s"), Target("cold", medians[COLD], 4.0, " s")]
    return found


def _distoptrun(cache: Path, timeout: float) -> float:
    words = [_beside_python("distoptrun"), "-n", str(REPLICAS), str(PROGRAMS / "startup_distopt.py")]
    return until_said(words, timeout, {"NUMBA_CACHE_DIR": str(cache)})


def _torchrun(timeout: float) -> float:
    words = [_beside_python("torchrun"), "--nproc-per-node", str(REPLICAS), "--master-addr", "127.0.0.1"]
    words += ["--master-port", str(jobs.free_port()), str(PROGRAMS / "startup_torch.py")]
    return until_said(words, timeout, {})


def until_said(words: Sequence[str], timeout: float, env: dict[str, str]) -> float:
    """The seconds until the program finished its step; it says when in the file that it is given."""
    with tempfile.TemporaryDirectory(prefix="distopt-bench-") as folder:
        said = Path(folder, "finished")
        begin = time.time()
        jobs.run_command([*words, str(said)], timeout, jobs.environment(env))
        return float(said.read_text()) - begin


def _beside_python(command: str) -> str:
    """A command of this Python's environment."""
    path = Path(sys.executable).parent / command
    if not path.exists():
        raise jobs.JobFailed(f"{path} is missing: pip install '.[bench]'")
    return str(path)
