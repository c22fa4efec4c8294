"""The cores of this machine, and their distribution over replicas: thread counts and binding."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

#: The variables with the thread counts of libraries. They must be set before NumPy is loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)

_CPU = Path("/sys/devices/system/cpu")
_NODE = Path("/sys/devices/system/node")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores() -> list[int]:
    """The physical cores that this process may use, ordered by NUMA node.

    Each is given by one logical CPU.
    """
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    allowed = os.sched_getaffinity(0)
    seen: set[frozenset[int]] = set()
    found = []
    for cpu in sorted(allowed):
        siblings = frozenset(_cpu_list(_CPU / f"cpu{cpu}/topology/thread_siblings_list")) or frozenset({cpu})
        if siblings not in seen:
            seen.add(siblings)
            found.append(cpu)
    order = {cpu: index for index, node in enumerate(numa_nodes()) for cpu in node}
    return sorted(found, key=lambda cpu: (order.get(cpu, 0), cpu))


def numa_nodes() -> list[list[int]]:
    """The CPUs of each NUMA node; empty if unknown."""
    folders = sorted(_NODE.glob("node[0-9]*"), key=lambda folder: int(folder.name[4:]))
    return [cpus for folder in folders if (cpus := _cpu_list(folder / "cpulist"))]


def usable(count: int) -> int:
    """``count`` cores, or fewer if the container's CPU quota is lower."""
    try:
        quota, period = _QUOTA.read_text().split()[:2]
        return max(1, min(count, round(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):
        return count


def threads(asked: str, count: int, local_size: int, environ: Mapping[str, str]) -> dict[str, str]:
    """The thread variables to set for one process.

    Args:
        asked: ``auto``, or the number of threads, which overrides the environment.
        count: the number of usable cores of the machine.
        local_size: the number of processes on the machine.
        environ: the environment. With ``auto``, variables that it sets keep their values, and
            ``OMP_NUM_THREADS`` is the default of the others.
    """
    if asked != "auto":
        return dict.fromkeys(THREAD_VARIABLES, asked)
    share = environ.get("OMP_NUM_THREADS") or str(max(1, count // local_size))
    return {name: share for name in THREAD_VARIABLES if not environ.get(name)}


def binding(available: Sequence[int], nodes: int, local_rank: int, local_size: int) -> list[int]:
    """The cores to bind a process to; [] for no binding.

    Processes are bound only on machines with several NUMA nodes. On one NUMA node, binding gains nothing, and
    two jobs would compete for the same cores while others are idle. With more processes than cores, the
    scheduler of the system does better.
    """
    if nodes < 2 or local_size > len(available):
        return []
    share = len(available) // local_size
    return list(available[local_rank * share : (local_rank + 1) * share])


def _cpu_list(file: Path) -> list[int]:
    """Reads the kernel's list format, e.g. ``0-3,8``."""
    try:
        parts = file.read_text().strip().split(",")
        bounds = [part.partition("-") for part in parts if part]
        return [cpu for low, _, high in bounds for cpu in range(int(low), int(high or low) + 1)]
    except (OSError, ValueError):
        return []
