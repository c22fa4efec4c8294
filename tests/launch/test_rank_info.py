"""Ranks, threads and cores of one process."""

import pytest
from distopt_launch import environment
from distopt_launch.cores import THREAD_VARIABLES, binding, cores, threads, usable
from distopt_launch.errors import JobStartError
from distopt_launch.rank_info import RankInfo, rank_info

from distopt.launched import launched

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
    assert rank_info(family, environ) == RankInfo(rank=3, size=4, local_rank=1, local_size=2)


def test_unsaid_local_place_means_all_on_this_machine():
    assert rank_info("mpich", {"PMI_RANK": "1", "PMI_SIZE": "4"}) == RankInfo(1, 4, 1, 4)


def test_foreign_launcher():
    with pytest.raises(JobStartError, match="PMI_RANK and PMI_SIZE are not set"):
        rank_info("mpich", OPEN_MPI)
    assert rank_info("single", HYDRA) == RankInfo()


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
    assert environment.cleaned(environ) == {"HOME": "/", "OMP_NUM_THREADS": "2"}


def test_settings_of_open_mpis_launcher_stay():
    """What it reads is PRTE_MCA_* and PMIX_MCA_*; what else begins so it tells its processes."""
    settings = {"PRTE_MCA_plm_ssh_agent": "rsh", "PMIX_MCA_ptl_base_if_include": "eth0"}
    outer = {"PRTE_LAUNCHED": "1", "PRTE_SHARED_FS": "FALSE", "PMIX_NAMESPACE": "prterun-n1-7@1"}
    assert environment.cleaned({**settings, **outer, **OPEN_MPI}) == settings


def test_of_a_slurm_step_only_the_job_is_left():
    job = {
        **{
            "SLURM_JOB_ID": "4711",
            "SLURM_JOBID": "4711",
            "SLURM_JOB_NODELIST": "n[1-2]",
            "SLURM_NTASKS": "4",
        },
        **{"SLURM_NODELIST": "n[1-2]", "SLURM_TASKS_PER_NODE": "2(x2)", "SLURM_JOB_CPUS_PER_NODE": "8(x2)"},
        **{"SLURM_CONF": "/etc/slurm.conf", "SLURM_STEPMGR": "n1", "SLURM_SUBMIT_DIR": "/home/me"},
    }
    step = {
        **{"SLURM_STEP_ID": "0", "SLURM_STEPID": "0", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_GTIDS": "2,3"},
        **{"SLURM_NODEID": "1", "SLURM_TASK_PID": "77", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1"},
        **{"SLURM_SRUN_COMM_HOST": "10.0.0.1", "SLURM_SRUN_COMM_PORT": "34567"},
    }
    assert environment.cleaned({**job, **step, **SRUN}) == job


def test_a_replica_alone_after_an_outer_step_is_one_of_one():
    outer = {**SRUN, "SLURM_STEP_ID": "0"}
    assert launched(outer) is not None
    assert launched(environment.cleaned(outer)) is None
