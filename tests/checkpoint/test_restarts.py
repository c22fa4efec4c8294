"""Whole jobs that end, also badly, and are started again; also in other processes than before."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distopt.checkpoint import CheckpointManager

pytestmark = [pytest.mark.launches, pytest.mark.timeout(240)]

HERE = Path(__file__).parent
MPIEXEC = Path(sys.executable).parent / "mpiexec"
INPROCESS = ["-m", "distopt.testing.inprocess", "--replicas"]


def environment():
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PMI_", "OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "SLURM_", "DISTOPT_", "HYDI_"))
    }
    return {**inherited, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


def run(processes, *words, limit=100, **variables):
    command = [str(MPIEXEC), "-n", str(processes)] if processes > 1 else []
    if processes > 1 and not MPIEXEC.exists():
        pytest.skip("no mpiexec in this environment")
    return subprocess.run(
        [*command, sys.executable, *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit,
        env={**environment(), **variables},
        check=False,
    )


def digest(processes, local, *words, **variables):
    """What the training script prints on ``processes`` of ``local`` replicas each."""
    script = [HERE / "saved_training.py", *words]
    done = run(processes, *([*INPROCESS, local] if local > 1 else []), *script, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("digest ")[1].split()[0]


#: Processes, replicas in each, environment.
LAYOUTS = {
    "2 processes": (2, 1, {}),
    "2 processes, private memory": (2, 1, {"DISTOPT_MEMORY": "private"}),
    "2 processes as if on 2 nodes": (2, 1, {"DISTOPT_NODES": "2"}),
    "1 process of 2": (1, 2, {}),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The digest of the training without a break, the same under every layout of two replicas."""
    return digest(1, 2, tmp_path_factory.mktemp("whole"), 8)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1 process of 2", "2 processes as if on 2 nodes"),
        pytest.param("2 processes", "2 processes", marks=pytest.mark.slow),
        pytest.param("2 processes as if on 2 nodes", "2 processes, private memory", marks=pytest.mark.slow),
        pytest.param("2 processes, private memory", "1 process of 2", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_a_job_goes_on_elsewhere_with_the_same_bits(tmp_path, whole, before, after):
    (p, n, e), (q, m, f) = LAYOUTS[before], LAYOUTS[after]
    digest(p, n, tmp_path / "parts", 5, 5, **e)
    assert digest(q, m, tmp_path / "parts", 8, **f) == whole


@pytest.mark.slow
def test_eight_replicas_in_one_process_go_on_as_two_of_four(tmp_path):
    whole = digest(1, 8, tmp_path / "whole", 8)
    assert digest(1, 8, tmp_path / "parts", 5, 5)
    assert digest(2, 4, tmp_path / "parts", 8) == whole


STEPS_OF_A_SAVE = """
import os, signal, sys
import numpy as np
from distopt import Variable
from distopt.checkpoint import CheckpointManager

directory = sys.argv[1]
w, mine = Variable(np.zeros(300), name="w"), {"n": 0}
manager = CheckpointManager(directory, keep=1, variables=[w], mine=mine)
manager.save()  # imports everything, starts no thread that lives on

def die_at(call):
    left = [call]
    def counted(real):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        return wrapped
    for name in ("mkdir", "fsync", "replace", "rename", "open", "unlink", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))

good, killed, call = 0, 0, 0
while True:
    pid = os.fork()
    if pid == 0:
        die_at(call)
        mine["n"] = good + 1
        w.assign(np.full(300, float(good + 1)))
        manager.save()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    w.assign(np.full(300, -1.0))
    assert manager.restore()
    # All of the new one, or all of the one before.
    assert mine["n"] in (good, good + 1), (call, mine)
    assert (w.numpy() == mine["n"]).all()
    good = mine["n"]
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
    killed += 1
    call += 1
print(killed, good)
"""


def test_killed_at_each_step_of_a_save(tmp_path):
    done = run(1, "-c", STEPS_OF_A_SAVE, tmp_path / "saved")
    assert done.returncode == 0, done.stderr
    killed, good = map(int, done.stdout.split())
    assert killed > 12
    assert good > 1


SAVES_FOR_EVER = """
import sys
import numpy as np
from distopt import Variable
from distopt.checkpoint import CheckpointManager

w, mine = Variable(np.zeros(200_000), name="w"), {"n": 0}
manager = CheckpointManager(sys.argv[1], variables=[w], mine=mine)
manager.restore()
assert (w.numpy() == mine["n"]).all()
while True:
    mine["n"] += 1
    w.assign(np.full(200_000, float(mine["n"])))
    print(mine["n"], manager.save(background=mine["n"] % 2 == 1), flush=True)
"""


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_at_any_moment(tmp_path, processes):
    command = [str(MPIEXEC), "-n", "2"] if processes == 2 else []
    words = [*command, sys.executable, "-c", SAVES_FOR_EVER, str(tmp_path)]
    before = 0
    for attempt in range(3):
        job = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment(), start_new_session=True
        )
        try:
            for _ in range(2 * processes):  # one save at least was waited for
                assert job.stdout.readline(), "it could not go on"
            time.sleep(0.11 + 0.17 * attempt)
        finally:
            os.killpg(job.pid, signal.SIGKILL)
            job.communicate(timeout=30)
        mine = {}
        assert CheckpointManager(tmp_path, mine=mine).restore()
        assert mine["n"] > before
        before = mine["n"]


PREEMPTED = """
import os, signal, sys, time
from distopt import Variable
from distopt.checkpoint import CheckpointManager
from distopt.distribute import get_replica_context
from distopt.optimizers import SGD

rank = get_replica_context().replica_id_in_sync_group
w, mine, optimizer = Variable([0.0], name="w"), {"step": 0}, SGD(1.0)
manager = CheckpointManager(sys.argv[1], variables=[w], optimizer=optimizer, mine=mine)
manager.on_preemption()
manager.restore()
while mine["step"] < 40:
    optimizer.apply_gradients([([1.0], w)])
    mine["step"] += 1
    if mine["step"] == int(sys.argv[2]) and rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    manager.step()
if rank == 0:
    print("end", mine["step"], w.numpy()[0], flush=True)
"""


@pytest.mark.parametrize("preemptions", [(10,), pytest.param((10, 20), marks=pytest.mark.slow)])
def test_preempted_and_started_again(tmp_path, preemptions):
    for at in preemptions:
        done = run(2, "-c", PREEMPTED, tmp_path, at)
        assert done.returncode == 143, (done.returncode, done.stdout, done.stderr)
        assert "asked to end: saved" in done.stderr
    done = run(2, "-c", PREEMPTED, tmp_path, 0)
    assert done.stdout.splitlines() == ["end 40 -80.0"], done.stderr


FALLS_AND_GOES_ON = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from saved_training import training
from distopt.distribute import get_replica_context

attempt, rank = int(os.environ["DISTOPT_LAUNCH_RESTART"]), get_replica_context().replica_id_in_sync_group

def after_step(step, manager):
    if step % 4 == 0:
        manager.save(background=True)
    if (attempt, step, rank) == (0, 6, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if (attempt, step, rank) == (1, 9, 0):
        raise ValueError("the second fall")
    if (attempt, step, rank) == (2, 11, 1):
        os._exit(3)
    assert attempt < 3 or step > 8, "it began anew"

digest = training(sys.argv[2], 15, after_step=after_step)
if rank == 0:
    print("digest", digest, flush=True)
"""


@pytest.mark.slow
def test_a_job_that_falls_is_started_again_and_goes_on(tmp_path):
    whole = digest(2, 1, tmp_path / "whole", 15)
    program = tmp_path / "program.py"
    program.write_text(FALLS_AND_GOES_ON)
    words = ["-m", "distopt_launch", "-n", "2", "--max-restarts", "3", program, HERE, tmp_path / "parts"]
    done = run(1, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"[0] digest {whole}"]
    said = [line for line in done.stderr.splitlines() if "starting again" in line]
    assert [line.split()[3] for line in said] == ["137;", "1;", "3;"]
