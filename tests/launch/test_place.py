"""Ranks, threads and cores of one process."""

import pytest
from distopt_launch import environment
from distopt_launch.cores import THREAD_VARIABLES, binding, cores, threads, usable
from distopt_launch.errors import LaunchError
from distopt_launch.place import Place, place

HYDRA = {
    "PMI_RANK": "3",
    "PMI_SIZE": "4",
    "MPI_LOCALRANKID": "1",
    "MPI_LOCALNRANKS": "2",
    "SLURM_PROCID": "0",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}
SRUN = {
    "SLURM_PROCID": "3",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}


@pytest.mark.parametrize(
    ("family", "environ"), [("mpich", HYDRA), ("intel", HYDRA), ("openmpi", OPEN_MPI), ("srun", SRUN)]
)
def test_place(family, environ):
    assert place(family, environ) == Place(rank=3, size=4, local_rank=1, local_size=2)


def test_unsaid_local_place_means_all_on_this_machine():
    assert place("mpich", {"PMI_RANK": "1", "PMI_SIZE": "4"}) == Place(1, 4, 1, 4)


def test_foreign_launcher():
    with pytest.raises(LaunchError, match="PMI_RANK and PMI_SIZE are not set"):
        place("mpich", OPEN_MPI)
    assert place("single", HYDRA) == Place()


def test_threads_divide_the_cores():
    assert threads("auto", 8, 2, {}) == dict.fromkeys(THREAD_VARIABLES, "4")
    assert threads("auto", 2, 8, {})["OMP_NUM_THREADS"] == "1"


def test_the_users_own_threads_win():
    values = threads("auto", 8, 2, {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "2"})
    assert "OMP_NUM_THREADS" not in values
    assert "MKL_NUM_THREADS" not in values
    # OpenBLAS would otherwise prefer our number to the user's OMP_NUM_THREADS.
    assert values["OPENBLAS_NUM_THREADS"] == "3"
    assert threads("5", 8, 2, {"OMP_NUM_THREADS": "3"})["OMP_NUM_THREADS"] == "5"


def test_binding_only_between_numa_nodes():
    assert binding(range(8), 2, 1, 4) == [2, 3]
    assert binding(range(8), 1, 1, 4) == []
    assert binding(range(2), 2, 1, 4) == []
    together = [core for rank in range(3) for core in binding(range(8), 2, rank, 3)]
    assert len(together) == len(set(together)) == 6


def test_this_machine_has_cores():
    available = cores()
    assert len(available) == len(set(available)) > 0
    assert 1 <= usable(len(available)) <= len(available)


def test_marks_of_an_outer_job_are_taken_away():
    environ = {**HYDRA, **OPEN_MPI, "PMI_FD": "7", "HOME": "/", "OMP_NUM_THREADS": "2"}
    assert environment.cleaned(environ) == {"HOME": "/", "OMP_NUM_THREADS": "2", "SLURM_PROCID": "0"}
