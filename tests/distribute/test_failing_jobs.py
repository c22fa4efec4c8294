"""Jobs that fail under MPI: their exit codes, their last lines, and that they end at all."""

import os
import signal
import time
from pathlib import Path

import jobs
import pytest

pytestmark = pytest.mark.launches

PROLOGUE = """
import os, pathlib, signal, sys, time
import numpy as np
from distopt import Variable
from distopt.distribute import get_replica_context
from distopt.optimizers import SGD
context = get_replica_context()
rank = context.replica_id_in_sync_group
(pathlib.Path(os.environ["PIDS"]) / str(os.getpid())).touch()
v, w, optimizer = Variable(np.ones((300, 70), "f4"), name="v"), Variable([1.0], name="w"), SGD(0.5)
def say(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())  # in one piece
def step(*variables):
    optimizer.apply_gradients([(np.ones(x.shape, "f4"), x) for x in variables or (v, w)])
step()
"""

ALONE = "import distopt\ndistopt.distribute.get_replica_context()\n"


@pytest.fixture
def job(tmp_path):
    """``job(text, replicas=2, send=None, **environment)``: runs the program; nothing may be left of it."""

    def run(text, replicas=2, send=None, prologue=PROLOGUE, limit=60, **variables):
        script, pids = tmp_path / "program.py", tmp_path / "pids"
        pids.mkdir()
        script.write_text(prologue + text)
        before = set(os.listdir("/dev/shm"))
        command = jobs.mpi(replicas, script) if replicas else jobs.python(script)
        begin = time.monotonic()
        process = jobs.start(command, PIDS=str(pids), **variables)
        if send is not None:
            while not list(tmp_path.glob("ready*")) and time.monotonic() < begin + limit:
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
            send(process, [int(file.name) for file in pids.iterdir()])
            begin = time.monotonic()
        done = jobs.finish(process, begin, limit)
        known = [int(file.name) for file in pids.iterdir()]
        assert jobs.gone(known), "processes were left behind"
        mine = {name for name in set(os.listdir("/dev/shm")) - before if "distopt" in name}
        assert not mine, "shared memory was left behind"
        assert len(known) == replicas, done.err
        return done

    return run


def test_a_good_job(job):
    done = job('step(); say("sum", v.numpy().sum())')
    assert done.code == 0, done.err
    assert done.out.splitlines() == ["sum -21000.0"] * 2
    assert done.err == ""


def test_an_uncaught_exception_ends_the_job_at_once(job):
    done = job('if rank == 1: raise LookupError("the reason")\nstep(); time.sleep(300)')
    assert done.code not in (0, None)
    assert done.seconds < 60
    traceback = done.err[done.err.index("Traceback") :]
    assert 'raise LookupError("the reason")' in traceback
    assert "LookupError: the reason" in traceback
    assert done.err.count("Traceback") == 1


def test_it_ends_also_when_the_others_are_in_no_call(job):
    done = job('if rank == 0: raise LookupError("the reason")\ntime.sleep(300)')
    assert done.code != 0
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


@pytest.mark.parametrize("name", MISMATCHES)
def test_mismatches_name_both_calls_and_the_replicas(job, name):
    program, text = MISMATCHES[name]
    done = job(program + "\nprint('went on')")
    assert done.code != 0
    assert "went on" not in done.out or name == "a step more"
    lines = [line for line in done.err.splitlines() if line.startswith(("  replica ", "  replicas "))]
    assert any(line.startswith("  replica 0: ") for line in lines), done.err
    assert any(line.startswith("  replica 1: ") for line in lines), done.err
    assert any(text in line for line in lines), done.err
    assert all("program.py:" in line or "end of its program" in line for line in lines)


def test_a_mismatch_that_is_caught_leaves_the_job_usable(job):
    done = job(
        """
from distopt.errors import ReplicaMismatch
try:
    step(v) if rank else step()
except ReplicaMismatch:
    step()
    say("went on", float(w[0]))
"""
    )
    assert done.code == 0, done.err
    assert done.out.splitlines() == ["went on -1.0"] * 2


def test_a_bad_gradient_on_one_replica_is_told_to_all(job):
    done = job(
        """
from distopt.errors import ReplicaFailed
try:
    optimizer.apply_gradients([(np.ones(2 if rank else 1, "f4"), w)])
except (ReplicaFailed, ValueError) as error:
    say(rank, type(error).__name__, "not broadcast" in str(error), float(w[0]))
""",
        replicas=3,
    )
    assert done.code == 0, done.err
    # rank 0's gradient fits; the first replica that failed is the one that the others are told of
    assert sorted(done.out.splitlines()) == [
        "0 ReplicaFailed True -0.5",
        "1 ValueError True -0.5",
        "2 ValueError True -0.5",
    ]


def test_the_watchdog_names_who_is_waited_for_and_ends_the_job(job):
    done = job(
        "if rank == 1:\n    time.sleep(300)\nstep()",
        DISTOPT_STALL_SECONDS="1",
        DISTOPT_ABORT_SECONDS="3",
    )
    assert done.code != 0
    assert 3 <= done.seconds < 60
    assert "distopt: waiting for 1 s" in done.err
    assert "replica 0: in apply_gradients of SGD" in done.err
    assert "program.py:" in done.err
    stalled = [line for line in done.err.splitlines() if "replica 1: has not come" in line]
    assert stalled
    assert "last seen in apply_gradients of SGD" in stalled[0]
    assert "ending the job (abort limit 3 s)" in done.err


def test_the_watchdog_watches_a_jobs_first_call(tmp_path):
    """What is made at a job's first call is made by MPI itself, which waits in silence."""
    (tmp_path / "program.py").write_text(FIRST_CALL)
    command = jobs.mpi(2, tmp_path / "program.py")
    done = jobs.run(command, DISTOPT_STALL_SECONDS="1", DISTOPT_ABORT_SECONDS="3")
    assert done.code != 0
    assert "replica 1: has not come" in done.err
    assert "replica 0: in all_reduce('sum') at program.py:" in done.err


FIRST_CALL = """
import time
from distopt.distribute import get_replica_context
context = get_replica_context()
if context.replica_id_in_sync_group == 1:
    time.sleep(30)
context.all_reduce("sum", 1.0)
"""


@pytest.mark.parametrize(
    "variables",
    [
        {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"},
        {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_ID": "0"},
    ],
    ids=["Open MPI", "srun"],
)
def test_a_launcher_of_another_mpi_is_an_error(job, variables):
    """Its variables say several processes; the MPI that is loaded sees one."""
    done = job("", replicas=0, prologue=ALONE, **variables)
    assert done.code != 0
    error = next(line for line in done.err.splitlines() if "LaunchError: " in line)
    assert "MPI.COMM_WORLD has size 1" in error
    assert "own mpiexec" in error


def test_unknown_settings_are_errors(job):
    done = job("", replicas=0, prologue=ALONE, DISTOPT_STALL_SECOND="1")
    assert done.code != 0
    assert "Did you mean DISTOPT_STALL_SECONDS?" in done.err.splitlines()[-1]


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


@pytest.mark.parametrize("send", [kill_one, kill_all, terminate_one, terminate_the_launcher])
def test_a_killed_job_leaves_nothing(job, send):
    done = job(READY, send=send, DISTOPT_STALL_SECONDS="2", DISTOPT_ABORT_SECONDS="10")
    assert done.code != 0
