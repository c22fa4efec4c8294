"""Whole jobs: output, exit codes, ends, restarts."""

import signal
import time
from pathlib import Path

import pytest
from distopt_launch.cores import cores, usable
from mpi_family import is_open_mpi

pytest.importorskip("mpi4py")
pytestmark = [pytest.mark.launches, pytest.mark.timeout(120)]


SEES = """
names = ("A", "B", "DISTOPT_LAUNCHER", "DISTOPT_LAUNCH_SIZE")
print("hello", size, sys.argv[1:], __name__, os.path.basename(sys.path[0]))
print("variables", *(os.environ[name] for name in names))
print("threads", *(os.environ[name + "_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "NUMBA")))
"""


def test_each_line_has_its_replica_which_sees_what_was_asked_for(launch):
    words = ("-n", "3", "--threads-per-replica", "3", "--env", "A=1 2", "--env", "B")
    done = launch(SEES, *words, args=("-n", "a b"), env={"B": "b"}, name="a folder/my program.py")
    assert done.code == 0, done.err
    expected = ["hello 3 ['-n', 'a b'] __main__ a folder", "variables 1 2 b distoptrun 3", "threads 3 3 3"]
    for rank in range(3):
        assert [line for line in done.lines if line.startswith(f"[{rank}]")] == [
            f"[{rank}] {line}" for line in expected
        ]
    assert len(done.lines) == 9


def test_within_a_slurm_job_without_srun_threads_are_divided(launch):
    """As in a container, which Slurm's variables come into and its programs do not."""
    environ = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "(null)", "SLURM_TASKS_PER_NODE": "4"}
    text = "print(size, *(os.environ[name + '_NUM_THREADS'] for name in ('OMP', 'OPENBLAS', 'NUMBA')))"
    done = launch(text, "-n", "2", env=environ)
    share = max(1, usable(len(cores())) // 2)
    assert done.code == 0, done.err
    assert sorted(done.lines) == [f"[{rank}] 2 {share} {share} {share}" for rank in range(2)]


def test_the_users_own_numbers_of_threads_win(launch):
    text = "print(*(os.environ[name + '_NUM_THREADS'] for name in ('OMP', 'OPENBLAS', 'NUMBA')))"
    done = launch(text, "-n", "2", env={"OMP_NUM_THREADS": "5", "NUMBA_NUM_THREADS": "1"})
    assert sorted(done.lines) == ["[0] 5 5 1", "[1] 5 5 1"]


@pytest.mark.slow
def test_a_module_of_somebody_else(launch):
    done = launch("", "-n", "2", "-m", "json.tool", "--help", name="unused.py")
    assert done.code == 0
    assert "json.tool" in done.out


def test_whole_lines_under_load(launch):
    text = """
for i in range(3000):
    print(f"{rank}{i:05d}" * 30)
os.write(1, b"the end, without a line end")
os._exit(0) if size == 1 else None
"""
    done = launch(text, "-n", "3")
    assert done.code == 0, done.err
    assert len(done.lines) == 9003
    for rank in range(3):
        own = [line[4:] for line in done.lines if line.startswith(f"[{rank}] ")]
        assert own == [f"{rank}{i:05d}" * 30 for i in range(3000)] + ["the end, without a line end"]


FAILURES = [
    ("raise ValueError('mine')", 1, "[1] ValueError: mine"),
    ("os.kill(os.getpid(), 9)", 137, "distoptrun: replica 1 was killed by signal 9 (SIGKILL)"),
]
MORE_FAILURES = [
    ("sys.exit(3)", 3, "distoptrun: replica 1 ended with exit code 3"),
    ("sys.exit('no data')", 1, "distoptrun: replica 1 ended with exit code 1"),
    ("os._exit(7)", 7, "distoptrun: replica 1 ended with exit code 7"),
    ("os.kill(os.getpid(), 15)", 143, "distoptrun: replica 1 was killed by signal 15 (SIGTERM)"),
    ("import ctypes; ctypes.string_at(0)", 139, "distoptrun: replica 1 was killed by signal 11 (SIGSEGV)"),
]


@pytest.mark.parametrize(
    ("act", "code", "last"),
    [
        *(pytest.param(*case, id=case[0]) for case in FAILURES),
        *(pytest.param(*case, id=case[0], marks=pytest.mark.slow) for case in MORE_FAILURES),
    ],
)
def test_the_failing_replica_decides(launch, act, code, last):
    # The others wait in a collective that never comes about.
    done = launch(f"print('before')\nworld.barrier()\nif rank == 1:\n    {act}\nworld.barrier()", "-n", "2")
    assert done.code == code, done.err
    assert done.last == last
    assert sorted(done.lines) == ["[0] before", "[1] before"]
    assert "BAD TERMINATION" not in done.err
    assert done.seconds < 10


def test_the_first_traceback_comes_last_and_once(launch):
    text = """
import atexit
atexit.register(print, "atexit ran")
if rank == 2:
    raise KeyError("first")
time.sleep(0.3)
print("late words", file=sys.stderr)
raise RuntimeError("a consequence")
"""
    done = launch(text, "-n", "3")
    assert done.code == 1
    lines = done.err.splitlines()
    begin = lines.index("distoptrun: replica 2 raised KeyError")
    assert lines[begin + 1] == "[2] Traceback (most recent call last):"
    assert lines[-1] == "[2] KeyError: 'first'"
    assert "distopt_launch" not in done.err
    assert "launch/" not in "".join(lines[begin:])
    assert "[2] atexit ran" in done.lines


@pytest.mark.slow
def test_equal_tracebacks_are_shown_once(launch):
    done = launch("world.barrier()\nimport no_such_module", "-n", "3")
    assert done.code == 1
    assert done.err.count("No module named 'no_such_module'") <= 2
    assert "raised ModuleNotFoundError" in done.err


def test_abort_hook_of_the_program_goes_together_with_ours(launch):
    text = """
def hook(kind, value, trace, before=sys.excepthook):
    before(kind, value, trace)
    sys.stderr.flush()
    world.Abort(1)
sys.excepthook = hook
if rank == 0:
    raise ValueError("with a hook")
world.barrier()
"""
    done = launch(text, "-n", "2")
    assert done.code == 1
    assert done.last == "[0] ValueError: with a hook"
    assert "MPI_Abort" not in done.err


@pytest.mark.parametrize("code", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_abort_by_the_program(launch, code):
    done = launch(f"if rank == 1:\n    world.Abort({code})\nworld.barrier()", "-n", "2")
    assert done.code == code
    who = "replica 1 ended" if is_open_mpi() else "the job was aborted"
    assert done.last == f"distoptrun: {who} with exit code {code}"


CTRL_C = {
    "in MPI": "ready()\nworld.recv(source=(rank + 1) % size)",
    "deaf, with a child": (
        "signal.signal(2, signal.SIG_IGN)\nsignal.signal(15, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '60'])\n(pids / str(child.pid)).touch()\nready()\ntime.sleep(60)"
    ),
    "asleep": "ready()\ntime.sleep(60)",
}


@pytest.mark.parametrize("where", [*list(CTRL_C)[:2], pytest.param("asleep", marks=pytest.mark.slow)])
def test_ctrl_c_ends_everything(launch, where):
    done = launch(CTRL_C[where], "-n", "2", send=(signal.SIGINT, 2))
    assert done.code == 130
    assert done.seconds < 15  # far from the minute that the program would take
    assert done.last == "distoptrun: interrupted"
    assert "Traceback" not in done.err


def test_sigterm_lets_the_replicas_save(launch):
    text = """
def save(*_):
    print("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
ready()
time.sleep(60)
"""
    done = launch(text, "-n", "2", "--max-restarts", "3", send=(signal.SIGTERM, 2))
    assert done.code == 143
    assert "[0] saved" in done.lines or "[1] saved" in done.lines


def test_nothing_survives_the_launchers_own_death(launch, tmp_path):
    text = """
child = subprocess.Popen(["sleep", "60"])
(pids / str(child.pid)).touch()
ready()
time.sleep(60)
"""
    launch(text, "-n", "2", send=(signal.SIGKILL, 2))
    known = [int(file.name) for file in (tmp_path / "pids").iterdir() if file.name.isdigit()]
    end = time.monotonic() + 5
    while (left := [pid for pid in known if Path(f"/proc/{pid}/fd/0").exists()]) and time.monotonic() < end:
        time.sleep(0.05)
    assert len(known) == 4
    assert not left


def test_timeout(launch):
    done = launch(
        "signal.signal(15, signal.SIG_IGN)\ntime.sleep(60)", "-n", "2", "--timeout", "1", "--grace", "0.5"
    )
    assert done.code == 124
    assert done.seconds < 6
    assert "time limit reached" in done.err


def test_restarts_until_it_works(launch, tmp_path):
    text = """
attempt = int(os.environ["DISTOPT_LAUNCH_RESTART"])
print("attempt", attempt)
world.barrier()
if attempt < 2 and rank == 1:
    os.kill(os.getpid(), 9)
world.barrier()
"""
    logs = tmp_path / "logs"
    done = launch(text, "-n", "2", "--max-restarts", "3", "--log-dir", str(logs))
    assert done.code == 0, done.err
    assert done.err.count("starting again") == 2
    assert done.out == ""
    for rank in range(2):
        assert (logs / f"replica-{rank}.log").read_text() == "attempt 0\nattempt 1\nattempt 2\n"


@pytest.mark.slow
def test_restarts_run_out(launch):
    done = launch("sys.exit(4)", "-n", "2", "--max-restarts", "1")
    assert done.code == 4
    assert done.err.count("starting again") == 1


def test_logs_filter_tee_and_timestamps(launch, tmp_path):
    logs = tmp_path / "a/b"
    words = ("-n", "3", "--log-dir", str(logs), "--tee", "--ranks-filter", "2,0", "--timestamps")
    done = launch("print('line', rank)\nprint('bad', rank, file=sys.stderr)", *words)
    assert done.code == 0, done.err
    assert sorted(line.split(" ", 1)[1] for line in done.lines) == ["[0] line 0", "[2] line 2"]
    assert all(line[2] == line[5] == ":" for line in done.lines)
    assert (logs / "replica-1.log").read_text().splitlines() in (["line 1", "bad 1"], ["bad 1", "line 1"])


def test_a_faulty_program_is_reported_once(launch):
    done = launch("x = (", "-n", "4")
    assert done.code == 1
    assert done.err.count("SyntaxError") == 1
    assert done.out == ""


def test_one_replica_needs_no_mpi(launch):
    done = launch("print(size, 'PMI_RANK' in os.environ)\nsys.exit(9)", "-n", "1")
    assert done.code == 9
    assert done.lines == ["[0] 1 False"]


def test_output_of_other_machines_comes_through_the_mpi_launcher(launch, tmp_path):
    wrap = tmp_path / "wrap.sh"
    wrap.write_text('#!/bin/sh\nexec env DISTOPT_LAUNCH_CHANNEL=/nowhere "$@"\n')
    wrap.chmod(0o755)
    text = (
        "print('x' * 9000)\nworld.barrier()\nif rank == 1:\n    raise ValueError('far away')\nworld.barrier()"
    )
    done = launch(text, "-n", "2", "--mpi-args", str(wrap))
    assert done.code == 1
    assert sorted(done.lines) == [f"[{rank}] {'x' * 9000}" for rank in range(2)]
    assert done.last == "[1] ValueError: far away"


def test_a_stopped_replica_cannot_outlive_the_timeout(launch):
    text = "if rank == 1:\n    os.kill(os.getpid(), signal.SIGSTOP)\nworld.barrier()"
    done = launch(text, "-n", "2", "--timeout", "1", "--grace", "0.5")
    assert done.code == 124
    assert done.seconds < 6


def test_a_host_that_does_not_exist(launch):
    done = launch("", "-n", "2", "-H", "no-such-host.invalid:2")
    assert done.code not in (0, 124)
    assert "2 of 2 processes had not started" in done.last


def test_a_killed_guardian_is_a_killed_replica(launch):
    text = "if rank == 0:\n    os.kill(os.getppid(), 9)\n    time.sleep(30)\nworld.barrier()"
    done = launch(text, "-n", "2")
    assert done.code == 137
    assert done.seconds < 10


def test_output_survives_a_closed_reader(launch):
    done = launch("os.close(1)\nprint('still here', file=sys.stderr)\nos._exit(0)", "-n", "1")
    assert done.code == 0
    assert "[0] still here" in done.err.splitlines()
