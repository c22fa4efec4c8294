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

    with tempfile.TemporaryDirectory(prefix="distopt-bench-") as folder:
        warm = Path(folder, "warm")
        ours = "startup_distopt_torch.py"
        seconds(ours, warm)  # fills the cache, and the system's of files
        starts: dict[tuple[str, str], Callable[[int], float]] = {
            ("startup", IMPORT): lambda _: seconds("startup_import_torch.py", warm),
            ("startup, warm", OURS): lambda _: seconds(ours, warm),
            ("startup, cold", OURS): lambda k: seconds(ours, Path(folder, f"cold-{k}")),
        }
        times: dict[tuple[str, str], list[float]] = {name: [] for name in starts}
        for k in range(rounds):
            for name, start in starts.items():
                times[name].append(1e3 * start(k))
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
