"""From the command line to the end of the first step of a PyTorch model, beside PyTorch's import alone."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import jobs
from benchmarks.effort import Effort
from benchmarks.report import Row
from benchmarks.startup import PROGRAMS, until_said
from benchmarks.torch_peers import OURS

__all__ = ["measured"]

REPLICAS = 2
IMPORT = "import torch"


def measured(effort: Effort) -> list[Row]:
    """Starts everything by turns, two processes each; rows of the table."""
    timeout = min(effort.timeout, 120.0)
    rounds = 1 if effort.tiny else min(effort.rounds, 3)

    def seconds(program: str, cache: Path) -> float:
        words = [*jobs.launcher(REPLICAS), sys.executable, str(PROGRAMS / program)]
        return until_said(words, timeout, {"NUMBA_CACHE_DIR": str(cache)})

    ours = "startup_distopt_torch.py"
    with tempfile.TemporaryDirectory(prefix="distopt-bench-") as folder:
        caches = [Path(folder, str(k)) for k in range(rounds)]
        starts: dict[tuple[str, str], Callable[[Path], float]] = {
            ("startup", IMPORT): lambda cache: seconds("startup_import_torch.py", cache),
            ("startup, cold", OURS): lambda cache: seconds(ours, cache),  # fills the cache
            ("startup, warm", OURS): lambda cache: seconds(ours, cache),
        }
        times: dict[tuple[str, str], list[float]] = {name: [] for name in starts}
        for cache in caches:
            for name, start in starts.items():
                times[name].append(1e3 * start(cache))
    least = statistics.median(times["startup", IMPORT])
    return [
        {
            "case": case,
            "peer": peer,
            "ms": statistics.median(lasted),
            "over bare ms": statistics.median(lasted) - least,
            "rounds_ms": lasted,
        }
        for (case, peer), lasted in times.items()
    ]
