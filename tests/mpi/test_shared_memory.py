"""Memory that the MPI library shares out has no name once the job has begun: nothing of it can be left."""

from pathlib import Path
from typing import Any

from distopt.distribute import get_replica_context


def test_the_librarys_own_memory_has_no_name(replicas: Any) -> None:
    def program() -> list[str]:
        get_replica_context().all_reduce("sum", 1.0)
        lines = Path("/proc/self/maps").read_text().splitlines()
        return [line for line in lines if "/dev/shm/mpich_shm_" in line]

    for named in replicas.run(program):
        assert all(line.endswith("(deleted)") for line in named)
