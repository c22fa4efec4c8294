"""Jobs that fail under MPI: their exit codes, their last lines, and that they end at all."""

import os
import signal
from pathlib import Path

import jobs
import pytest
from distopt_launch.mpi import find_library

pytestmark = pytest.mark.launches

ALONE = "import distopt\ndistopt.distribute.get_replica_context()\n"


def test_an_uncaught_exception_ends_the_job_at_once(job):
    done = job('if rank == 1: raise LookupError("the reason")\nstep(); time.sleep(300)')
    assert done.code not in (0, None)
    assert done.seconds < 60
    traceback = done.err[done.err.index("Traceback") :]
    assert 'raise LookupError("the reason")' in traceback
    assert "LookupError: the reason" in traceback
    assert done.err.count("Traceback") == 1


def test_settings_of_one_replica_only_end_the_job(job):
    """Else replica 0 would wait for a message about shared memory that replica 1 does not send."""
    differs = """
import os, pathlib
from mpi4py import MPI
(pathlib.Path(os.environ["PIDS"]) / str(os.getpid())).touch()
if MPI.COMM_WORLD.rank == 1:
    os.environ["DISTOPT_MEMORY"] = "private"
"""
    done = job(ALONE, prologue=differs)
    assert done.code not in (0, None)
    assert "the settings of processes 0 and 1 differ" in done.err
    assert "DISTOPT_MEMORY=private" in done.err


@pytest.mark.slow
def test_it_ends_also_when_the_others_are_in_no_call(job):
    done = job('if rank == 0: raise LookupError("the reason")\ntime.sleep(300)')
    assert done.code != 0
    assert "LookupError: the reason" in done.err


@pytest.mark.parametrize(
    "before", ["sys.stdout = None", pytest.param("sys.stdout.close()", marks=pytest.mark.slow)]
)
def test_it_ends_whatever_the_program_did_to_its_streams(job, before):
    done = job(f'if rank == 1:\n    {before}\n    raise LookupError("the reason")\ntime.sleep(300)')
    assert done.code != 0
    assert "LookupError: the reason" in done.err


def test_it_ends_also_when_the_programs_own_hook_fails(job):
    text = """
import os, pathlib, sys, time
(pathlib.Path(os.environ["PIDS"]) / str(os.getpid())).touch()
sys.excepthook = lambda *error: no_such_name
import distopt
if distopt.distribute.get_replica_context().replica_id_in_sync_group == 1:
    raise LookupError("the reason")
time.sleep(300)
"""
    done = job(text, prologue="")
    assert done.code != 0
    assert "NameError" in done.err
    assert "LookupError: the reason" in done.err


MISMATCHES = {
    "a variable less": ("step(v) if rank else step()", "apply_gradients of SGD on v:0 float32[300, 70]"),
    "another call": ('context.all_reduce("sum", 1.0) if rank else step()', "all_reduce('sum') of float64[]"),
    "another shape": (
        'context.all_reduce("sum", np.ones(2 + rank))',
        "all_reduce('sum') of float64[3]",
    ),
    "a step more": ("if rank: step()", "the end of its program"),
    "another rate": ("optimizer.learning_rate = 0.5 + 0.25 * rank\nstep()", "lr_t=0.75"),
}


@pytest.mark.parametrize(
    ("name", "replicas", "nodes"),
    [
        ("a variable less", 2, 1),
        ("a step more", 2, 1),
        *(
            pytest.param(name, 2, 1, marks=pytest.mark.slow)
            for name in MISMATCHES
            if name not in ("a variable less", "a step more")
        ),
        pytest.param("a step more", 4, 2, marks=pytest.mark.slow),
        pytest.param("another call", 2, 2, marks=pytest.mark.slow),
        pytest.param("another call", 4, 2, marks=pytest.mark.slow),
        pytest.param("a step more", 2, 2, marks=pytest.mark.slow),
    ],
)
def test_mismatches_name_both_calls_and_the_replicas(job, name, replicas, nodes):
    program, text = MISMATCHES[name]
    done = job(f"rank //= {replicas // 2}\n{program}\nprint('went on')", replicas, DISTOPT_NODES=str(nodes))
    assert done.code != 0
    assert "went on" not in done.out or name == "a step more"
    lines = [line for line in done.err.splitlines() if line.startswith(("  replica ", "  replicas "))]
    first, second = ("replica 0", "replica 1") if replicas == 2 else ("replicas 0, 1", "replicas 2, 3")
    assert any(line.startswith(f"  {first}: ") for line in lines), done.err
    assert any(line.startswith(f"  {second}: ") for line in lines), done.err
    assert any(text in line for line in lines), done.err
    assert all("program.py:" in line or line.endswith("the end of its program") for line in lines)


def test_a_good_job_and_a_mismatch_that_is_caught(job):
    done = job(
        """
from distopt.errors import ReplicaMismatch
step()
say("sum", v.numpy().sum())
context.all_reduce("sum", 0)
try:
    step(v) if rank else step()
except ReplicaMismatch:
    step()
    say("went on", float(w[0]))
"""
    )
    assert done.code == 0, done.err
    # What a replica writes may come after what another one writes later.
    assert sorted(done.out.splitlines()) == ["sum -21000.0"] * 2 + ["went on -2.0"] * 2
    assert done.err == ""


@pytest.mark.parametrize("nodes", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_bad_gradient_on_one_replica_is_told_to_all(job, nodes):
    done = job(
        """
from distopt.errors import ReplicaFailed
try:
    optimizer.apply_gradients([(np.ones(2 if rank else 1, "f4"), w)])
except (ReplicaFailed, ValueError) as error:
    say(rank, type(error).__name__, "not broadcast" in str(error), float(w[0]))
""",
        replicas=3,
        DISTOPT_NODES=str(nodes),
    )
    assert done.code == 0, done.err
    # rank 0's gradient fits; the first replica that failed is the one that the others are told of
    assert sorted(done.out.splitlines()) == [
        "0 ReplicaFailed True -0.5",
        "1 ValueError True -0.5",
        "2 ValueError True -0.5",
    ]


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, marks=pytest.mark.slow),
        # With this MPICH itself would end the process, before anybody could say why.
        {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0", "PMIX_NAMESPACE": "job-1"},
        {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_ID": "0"},
    ],
    ids=["Open MPI", "Open MPI and PMIx", "srun"],
)
def test_a_launcher_of_another_mpi_is_an_error(job, variables):
    """Its variables say several processes; the MPI that is loaded sees one."""
    if "PMIX_NAMESPACE" in variables and find_library(os.environ).family != "mpich":
        pytest.skip("another MPI would believe the variables")
    done = job("", replicas=0, prologue=ALONE, **variables)
    assert done.code != 0
    error = next(line for line in done.err.splitlines() if "LaunchError: " in line)
    assert "MPI.COMM_WORLD has size 1" in error or "MPI cannot be initialized" in error
    assert "own mpiexec" in error
    assert "unsupported PMI version" not in done.err


def test_unknown_settings_are_errors(job):
    done = job("", replicas=0, prologue=ALONE, DISTOPT_STALL_SECOND="1")
    assert done.code != 0
    assert "Did you mean 'DISTOPT_STALL_SECONDS'?" in done.err.splitlines()[-1]


READY = """
(pathlib.Path(os.environ["PIDS"]).parent / f"ready{rank}").touch()
while True:
    step()
    time.sleep(0.01)
"""


def blocks_of(pids):
    """Shared memory of the processes that has a name in a file system."""
    text = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in pids if jobs.alive(pid))
    return [line for line in text.splitlines() if "/dev/shm" in line and "distopt" in line]


def kill_one(process, pids):
    os.kill(max(pids), signal.SIGKILL)


def kill_all(process, pids):
    assert not blocks_of(pids)
    os.killpg(process.pid, signal.SIGKILL)
    for pid in pids:
        if jobs.alive(pid):
            os.kill(pid, signal.SIGKILL)


def terminate_one(process, pids):
    os.kill(min(pids), signal.SIGTERM)


def terminate_the_launcher(process, pids):
    process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    "send",
    [
        kill_one,
        terminate_the_launcher,
        pytest.param(kill_all, marks=pytest.mark.slow),
        pytest.param(terminate_one, marks=pytest.mark.slow),
    ],
)
def test_a_killed_job_leaves_nothing(job, send):
    done = job(READY, send=send, DISTOPT_STALL_SECONDS="2", DISTOPT_ABORT_SECONDS="10")
    assert done.code != 0
