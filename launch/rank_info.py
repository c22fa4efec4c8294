"""RankInfo: rank and size of a process, from the variables that the MPI launcher sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .errors import JobStartError


@dataclass(frozen=True)
class RankInfo:
    """Rank and size in the job, and among the processes on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


#: family -> variables for (rank, size, local rank, local size).
_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "mpich": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    "intel": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    "openmpi": (
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    "srun": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"),
}


def rank_info(family: str, environ: Mapping[str, str]) -> RankInfo:
    """Reads this process's rank and size.

    Args:
        family: the kind of launcher that started it; ``single`` when none did.
        environ: the process's environment.

    Raises:
        JobStartError: rank or size is not set.
    """
    if family == "single":
        return RankInfo()
    rank, size, local_rank, local_size = (_number(environ.get(name)) for name in _VARIABLES[family])
    if rank is None or size is None:
        names = " and ".join(_VARIABLES[family][:2])
        raise JobStartError(f"{names} are not set: this process was not started by the {family} launcher")
    if local_rank is None or local_size is None or local_rank >= local_size:
        # If unknown, assume that all are on this machine, which gives too few threads rather than too many.
        local_rank, local_size = rank, size
    return RankInfo(rank, size, local_rank, local_size)


def _number(text: str | None) -> int | None:
    """The leading number: Slurm writes ``2(x3)`` for two tasks on each of three nodes."""
    digits = (text or "").partition("(")[0].partition(",")[0]
    return int(digits) if digits.isascii() and digits.isdigit() else None
