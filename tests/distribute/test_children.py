"""Children of a replica: workers, other programs, forks. Each is alone, and its end is nobody's business."""

import sys

import jobs
import pytest
from mpi_family import skip_with_open_mpi

pytestmark = [pytest.mark.launches, pytest.mark.timeout(200)]

WORKERS = """
import multiprocessing, os, subprocess, sys
import numpy as np
import distopt as tf

CHILD = '''
{first}
import distopt as tf
context = tf.distribute.get_replica_context()
v = tf.Variable([1.0])
tf.optimizers.SGD(1.0).apply_gradients([([2.0], v)])
print("other program", context.num_replicas_in_sync, float(context.all_reduce("sum", 1.0)), v.numpy())
'''
saved = []

def alone(scale):
    context = tf.distribute.get_replica_context()
    w = tf.Variable(np.zeros(2, np.float32))
    tf.optimizers.SGD(1.0).apply_gradients([(np.full(2, scale, np.float32), w)])
    return context.num_replicas_in_sync, float(context.all_reduce("sum", 1.0)), w.numpy().tolist()

def of_the_parent(_):
    before = v.numpy().tolist()
    optimizer.apply_gradients([(np.full(2, 8, np.float32), v)])
    v.assign_add([1.0, 1.0])
    return before, v.numpy().tolist()

def in_its_job(_):
    try:
        saved[0].all_reduce("sum", 1.0)
    except RuntimeError as error:
        return str(error)

def main():
    global v, optimizer
    context = tf.distribute.get_replica_context()
    saved.append(context)
    rank, size = context.replica_id_in_sync_group, context.num_replicas_in_sync
    v, optimizer = tf.Variable(np.zeros(2, np.float32), name="v"), tf.optimizers.SGD(0.5, momentum=0.9)
    lines = []

    def step():
        optimizer.apply_gradients([(np.ones(2, np.float32), v)])

    step()
    for how in HOWS:
        with multiprocessing.get_context(how).Pool(2) as pool:
            lines.append(f"{how} {pool.map(alone, [1, 2])}")
            if how == "fork":
                lines.append(f"parent's {pool.map(of_the_parent, [0])[0]}")
                if size > 1:
                    assert "forked from the replica" in pool.map(in_its_job, [0])[0]
    for first in FIRSTS:
        text = CHILD.replace("{first}", first)
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
        lines.append(done.stdout.strip() + done.stderr)
    step()
    lines.append(f"weights {v.numpy().tolist()} of {int(context.all_reduce('sum', 1))}")
    os.write(1, "".join(f"{rank}| {line}\\n" for line in lines).encode())  # in one piece

if __name__ == "__main__":
    main()
"""

CHILD = "other program 1 1.0 [-1.]"


def expected(replicas, hows, programs):
    """The lines of each replica; a step of SGD with momentum is worked out by hand."""
    first = -0.5 * replicas
    second = first + 0.9 * first - 0.5 * replicas
    alone = "[(1, 1.0, [-1.0, -1.0]), (1, 1.0, [-2.0, -2.0])]"
    after = first + 0.9 * first - 0.5 * 8 + 1
    lines = []
    for how in hows:
        lines.append(f"{how} {alone}")
        if how == "fork":
            lines.append(f"parent's ([{first}, {first}], {[after] * 2})")
    lines += [CHILD] * programs
    return [*lines, f"weights [{second}, {second}] of {replicas}"]


def check(done, replicas, hows, programs):
    assert done.code == 0, done.err + done.out
    for rank in range(replicas):
        mark = f"{rank}| "
        own = [line.partition(mark)[2] for line in done.out.splitlines() if mark in line[:9]]
        assert rounded(own) == rounded(expected(replicas, hows, programs))


def rounded(lines):
    """Numbers in their six first digits: what was worked out by hand is in another precision."""
    words = [word.strip("([,])") for line in lines for word in line.split()]
    return [f"{float(w):.6g}" if w.replace(".", "").lstrip("-").isdigit() else w for w in words]


@pytest.fixture
def workers(tmp_path):
    def write(hows, firsts, before=""):
        file = tmp_path / "train.py"
        text = WORKERS.replace("HOWS", repr(hows)).replace("FIRSTS", repr(firsts))
        file.write_text(before + text)
        return file

    return write


FIRSTS = ["", "from mpi4py import MPI"]


@pytest.mark.slow
def test_workers_of_a_program_alone(workers):
    hows = ("fork", "spawn")
    check(jobs.run(jobs.python(workers(hows, ["", ""]))), 1, hows, 2)


@pytest.mark.slow
def test_workers_under_mpi(workers):
    pytest.importorskip("mpi4py")
    hows = ("fork", "spawn")
    check(jobs.run(jobs.mpi(2, workers(hows, FIRSTS, before="from mpi4py import MPI\n"))), 2, hows, 2)


@pytest.mark.slow
def test_workers_under_distoptrun(workers):
    pytest.importorskip("mpi4py")
    hows = ("fork", "spawn")
    launch = jobs.python("-m", "distopt_launch", "-n", 2, workers(hows, FIRSTS))
    check(jobs.run(launch), 2, hows, 2)


@pytest.mark.slow
def test_workers_of_a_fork_server(workers):
    hows = ("forkserver",)
    launch = jobs.python("-m", "distopt_launch", "-n", 2, workers(hows, []))
    check(jobs.run(launch), 2, hows, 0)


@pytest.mark.slow
def test_workers_of_replicas_in_one_process(workers):
    hows = ("fork", "spawn")
    check(jobs.run(jobs.python(*jobs.inprocess(2, workers(hows, ["", ""])))), 2, hows, 2)


FORKS = """
import atexit, os, sys
import numpy as np
import distopt as tf
context = tf.distribute.get_replica_context()
rank, size = context.replica_id_in_sync_group, context.num_replicas_in_sync
v = tf.Variable(np.zeros(2, np.float32))
tf.optimizers.SGD(0.5).apply_gradients([(np.ones(2, np.float32), v)])
codes = []
for how in ("falls off the end", "sys.exit(3)", "raises", "os._exit(5)", "sys.exit(text)"):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        if how == "falls off the end":
            break
        if how == "sys.exit(3)":
            sys.exit(3)
        if how == "raises":
            raise LookupError("the child's own")
        if how == "os._exit(5)":
            os._exit(5)
        sys.exit("words at the end")
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
else:
    context.all_reduce("sum", 1.0)
    print(f"{rank}| {codes} {int(context.all_reduce('sum', 1))}", flush=True)
"""


def starts(script):
    """The ways to start a script as two replicas, by name; and alone."""
    return {
        "alone": jobs.python(script),
        "mpiexec": jobs.mpi(2, script),
        "distoptrun": jobs.python("-m", "distopt_launch", "-n", 2, script),
        "one process": jobs.python(*jobs.inprocess(2, script)),
    }


@pytest.mark.parametrize(
    "how",
    [
        "mpiexec",
        pytest.param("one process", marks=pytest.mark.slow),
        pytest.param("alone", marks=pytest.mark.slow),
        pytest.param("distoptrun", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_how_a_forked_child_ends_is_nobodys_business(tmp_path, how):
    if how in ("mpiexec", "distoptrun"):
        pytest.importorskip("mpi4py")
    script = tmp_path / "forks.py"
    script.write_text(FORKS)
    done = jobs.run(starts(script)[how])
    replicas = 1 if how == "alone" else 2
    assert done.code == 0, done.err
    for rank in range(replicas):
        assert f"{rank}| [0, 3, 1, 5, 1] {replicas}" in done.out, done.out + done.err
    assert done.err.count("LookupError: the child's own") == replicas
    assert done.err.count("words at the end") == replicas
    assert "distoptrun: replica" not in done.err


FORGETS = """
import ctypes, gc
import numpy as np
import distopt as tf
tf.distribute.get_replica_context().all_reduce("sum", 1.0)
from distopt.comm import finalization
vars(finalization).clear()  # as the interpreter does at its end, before MPI is finalized
gc.collect()
others = [np.full(n, 7) for n in (3, 1, 2, 4) for _ in range(1000)]  # where it had its memory
ctypes.pythonapi.Py_IncRef(ctypes.py_object(others))
print("end", flush=True)
"""


def test_the_end_of_mpi_needs_nothing_that_the_interpreter_has_let_go(tmp_path):
    pytest.importorskip("mpi4py")
    script = tmp_path / "forgets.py"
    script.write_text(FORGETS)
    done = jobs.run(jobs.mpi(2, script))
    assert done.code == 0, done.err
    assert done.out.count("end") == 2


def test_a_worker_that_comes_before_distopt_is_told_what_to_do(tmp_path):
    pytest.importorskip("mpi4py")
    skip_with_open_mpi("ends such a worker itself")
    script = tmp_path / "early.py"
    script.write_text(
        "import subprocess, sys\n"
        "text = 'import distopt; distopt.distribute.get_replica_context()'\n"
        "done = subprocess.run([sys.executable, '-c', text], capture_output=True, text=True, timeout=60)\n"
        "print(done.returncode, done.stderr.strip().splitlines()[-1])\n"
    )
    done = jobs.run(jobs.mpi(2, script))
    assert done.out.count("LaunchError: this process was not started by the MPI launcher itself") == 2


BEFORE = """
import multiprocessing, os, subprocess, sys

CHILD = "import distopt as tf; print(tf.distribute.get_replica_context().num_replicas_in_sync)"

def alone(_):
    import distopt as tf
    size = tf.distribute.get_replica_context().num_replicas_in_sync
    return size, subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True).stdout

if __name__ == "__main__":
    found = []
    for how in ("fork", "spawn"):
        with multiprocessing.get_context(how).Pool(1) as pool:
            found += pool.map(alone, [0])
    import distopt as tf
    size = int(tf.distribute.get_replica_context().all_reduce("sum", 1))
    os.write(1, f"{size} {found}\\n".encode())
"""


@pytest.mark.parametrize("how", ["mpiexec", pytest.param("distoptrun", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_workers_that_come_before_distopt_are_alone(tmp_path, how):
    pytest.importorskip("mpi4py")
    script = tmp_path / "before.py"
    script.write_text(BEFORE)
    done = jobs.run(starts(script)[how])
    assert done.code == 0, done.err
    assert done.out.count("2 [(1, '1\\n'), (1, '1\\n')]") == 2, done.out


@pytest.mark.slow
def test_a_job_that_a_replica_starts_is_a_job(tmp_path):
    pytest.importorskip("mpi4py")
    script = tmp_path / "outer.py"
    script.write_text(
        "import os, subprocess, sys\n"
        "import distopt as tf\n"
        "context = tf.distribute.get_replica_context()\n"
        "if len(sys.argv) > 1 and context.replica_id_in_sync_group == 0:\n"
        f"    command = [{str(jobs.MPIEXEC)!r}, '-n', '3', sys.executable, __file__]\n"
        "    done = subprocess.run(command, capture_output=True, text=True, timeout=60)\n"
        "    print('inner', done.stdout.split(), done.stderr)\n"
        "os.write(1, f\"{int(context.all_reduce('sum', 1))} replicas\\n\".encode())\n"
    )
    done = jobs.run(jobs.mpi(2, script, "outer"))
    assert done.code == 0, done.err
    assert "inner ['3', 'replicas', '3', 'replicas', '3', 'replicas']" in done.out
    assert done.out.count("2 replicas\n") == 2


@pytest.mark.parametrize("memory", ["auto", pytest.param("private", marks=pytest.mark.slow)])
def test_own_process_numbers_a_rank(tmp_path, memory):
    """As in a container a rank: process numbers mean others there."""
    pytest.importorskip("mpi4py")
    skip_with_open_mpi("crashes in its first message")
    apart = ["unshare", "-p", "-f", "-m", "--mount-proc", "--kill-child"]
    try:
        possible = jobs.run([*apart, "true"], limit=20).code == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("no namespaces for this user")
    script = tmp_path / "apart.py"
    script.write_text(
        "import os, pathlib\n"
        "import numpy as np\n"
        "import distopt as tf\n"
        "context = tf.distribute.get_replica_context()\n"
        "own = pathlib.Path(f'own-{context.replica_id_in_sync_group}').open('w+b')\n"
        "v = tf.Variable(np.zeros(200_000, np.float32))\n"
        "for _ in range(3):\n"
        "    gradient = np.full(200_000, context.replica_id_in_sync_group + 1, np.float32)\n"
        "    tf.optimizers.SGD(1.0).apply_gradients([(gradient, v)])\n"
        "said = f'{os.getpid()} {set(v.numpy().tolist())} {os.path.getsize(own.name)}\\n'\n"
        "os.write(1, said.encode())\n"  # one call: the launcher mixes lines that come in parts
    )
    command = [jobs.MPIEXEC, "-n", 2, *apart, sys.executable, script]
    done = jobs.run(["env", "-C", tmp_path, *command], DISTOPT_MEMORY=memory)
    assert done.code == 0, done.err
    assert sorted(done.out.splitlines()) == ["1 {-9.0} 0"] * 2
    assert done.err.count("no shared memory on this node") == 1
