"""Whole jobs, seen from outside: standard input, signals, closed streams, and ends that are none."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from mpi_family import skip_with_open_mpi

pytest.importorskip("mpi4py")
pytestmark = [pytest.mark.launches, pytest.mark.timeout(120)]

LIMIT = 40.0
#: Without MPI, for a quick start; the number is that of MPICH and Open MPI.
PROLOGUE = """
import os, signal, subprocess, sys, time
rank = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")))
"""
#: Makes a job's processes believe that the launcher is on another machine.
ELSEWHERE = "env DISTOPT_LAUNCH_CHANNEL=/nowhere"


@pytest.fixture
def job(tmp_path):
    """``with job(text, *words, **how to start) as process``: a running ``distoptrun``, killed at the end."""

    @contextmanager
    def run(text, *words, **how):
        program = tmp_path / "program.py"
        program.write_text(PROLOGUE + text)
        command = [sys.executable, "-m", "distopt_launch", *(words or ("-n", "2")), str(program)]
        piped = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        environ = {**os.environ, "TMPDIR": str(tmp_path)}
        process = subprocess.Popen(command, env=environ, **{**piped, **how})
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    return run


def ended(process, data=None):
    out, err = process.communicate(data, timeout=LIMIT)
    return process.returncode, sorted((out or b"").decode().splitlines()), (err or b"").decode()


def wait_for_lines(process, count):
    return sorted(process.stdout.readline().decode().rstrip("\n") for _ in range(count))


def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


READ = "print(len(sys.stdin.buffer.read()))"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_replica_0_reads_all_of_the_input_and_the_others_an_empty_one(job, elsewhere):
    if elsewhere:
        skip_with_open_mpi("never passes on that the input has ended")
    words = ("-n", "3", "--oversubscribe", *(("--mpi-args", ELSEWHERE) if elsewhere else ()))
    size = 30_000 if elsewhere else 3_000_000  # there MPICH breaks, should it be read slowly
    with job(READ, *words) as process:
        assert ended(process, bytes(size)) == (0, [f"[0] {size}", "[1] 0", "[2] 0"], "")


def test_input_from_a_file(job, tmp_path):
    (tmp_path / "data").write_bytes(bytes(1_000_000))
    with (tmp_path / "data").open("rb") as file, job(READ, stdin=file) as process:
        assert ended(process) == (0, ["[0] 1000000", "[1] 0"], "")


def test_input_that_nobody_reads(job):
    with job("print('done')") as process:
        assert ended(process, bytes(3_000_000)) == (0, ["[0] done", "[1] done"], "")


ASK = "if rank == 0:\n    print('hello', input('name? '))"


def test_a_question_comes_before_its_answer_through_pipes(job):
    with job(ASK, bufsize=0) as process:
        assert os.read(process.stdout.fileno(), 100) == b"[0] "[:4] + b"name? "
        assert ended(process, b"you\n")[:2] == (0, ["hello you"])


def test_a_question_on_a_terminal(job):
    terminal, other = pty.openpty()
    seen = b""

    def read_until(words):
        nonlocal seen
        end = time.monotonic() + LIMIT
        while words not in seen and time.monotonic() < end:
            if select.select([terminal], [], [], 0.1)[0]:
                seen += os.read(terminal, 1000)
        assert words in seen

    with job(ASK, stdin=other, stdout=other, stderr=other) as process:
        read_until(b"[0] name? ")
        os.write(terminal, b"you\n")
        read_until(b"[0] hello you")
        assert process.wait(timeout=LIMIT) == 0
    assert seen.count(b"name?") == 1
    os.close(terminal)
    os.close(other)


WAIT_FOR_SIGNAL = """
got = []
signal.signal(signal.%s, lambda number, frame: got.append(number))
print("ready", flush=True)
while not got:
    time.sleep(0.02)
time.sleep(0.2)
print("got", *got)
"""


@pytest.mark.parametrize(
    ("name", "elsewhere"),
    [("SIGUSR1", False), ("SIGUSR1", True), pytest.param("SIGUSR2", False, marks=pytest.mark.slow)],
)
def test_signals_for_the_program_reach_all_replicas_once(job, name, elsewhere):
    words = ("-n", "2", "--mpi-args", ELSEWHERE) if elsewhere else ("-n", "2")
    number = getattr(signal, name)
    with job(WAIT_FOR_SIGNAL % name, *words) as process:
        assert wait_for_lines(process, 2) == ["[0] ready", "[1] ready"]
        process.send_signal(number)
        assert ended(process)[:2] == (0, [f"[0] got {number:d}", f"[1] got {number:d}"])


def test_what_is_ignored_at_the_start_stays_ignored(job):
    text = """
print("ready", signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, flush=True)
time.sleep(1)
print("still here")
"""
    with job(text, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        assert wait_for_lines(process, 2) == ["[0] ready True", "[1] ready True"]
        process.send_signal(signal.SIGHUP)
        assert ended(process)[:2] == (0, ["[0] still here", "[1] still here"])


def test_ctrl_z_stops_all_of_it_and_fg_continues(job):
    text = """
print(os.getpid(), flush=True)
for _ in range(50):
    time.sleep(0.05)
print("done")
"""
    with job(text) as process:
        replicas = [int(line.split()[1]) for line in wait_for_lines(process, 2)]
        process.send_signal(signal.SIGTSTP)
        end = time.monotonic() + LIMIT
        everyone = (process.pid, *replicas)
        while {state(pid) for pid in everyone} != {"T"} and time.monotonic() < end:
            time.sleep(0.02)
        assert [state(pid) for pid in everyone] == ["T"] * 3
        process.send_signal(signal.SIGCONT)
        assert ended(process)[:2] == (0, ["[0] done", "[1] done"])


def test_ctrl_c_where_nobody_reads_the_output(job):
    with job("while True:\n    print('x' * 1000)") as process:
        time.sleep(3)  # until all pipes are full
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=LIMIT) == 130
        assert time.monotonic() - begin < 8


def test_a_slow_reader_of_a_non_blocking_pipe_loses_nothing(job):
    text = "for number in range(100_000):\n    print(number)"
    with job(text, preexec_fn=lambda: os.set_blocking(1, False)) as process:
        time.sleep(3)
        code, lines, _ = ended(process)
        assert code == 0
        assert len(lines) == 200_000


def test_a_reader_that_goes_away_ends_the_job(job):
    with job("while True:\n    print('words', flush=True)\n    time.sleep(0.01)") as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=LIMIT) == 128 + signal.SIGPIPE
        assert b"the reader of standard output has exited" in process.stderr.read()


def test_a_reader_that_goes_away_is_not_needed_where_there_are_logs(job, tmp_path):
    words = ("-n", "2", "--log-dir", str(tmp_path / "logs"), "--tee")
    with job("for number in range(50):\n    print(number)\n    time.sleep(0.01)", *words) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=LIMIT) == 0
    assert len((tmp_path / "logs" / "replica-1.log").read_text().splitlines()) == 50


@pytest.mark.parametrize(
    "closed",
    [
        "<&- >&- 2>&-",
        pytest.param("<&-", marks=pytest.mark.slow),
        pytest.param(">&-", marks=pytest.mark.slow),
        pytest.param("2>&-", marks=pytest.mark.slow),
    ],
)
def test_standard_streams_may_be_closed(tmp_path, closed):
    program = tmp_path / "program.py"
    program.write_text("import sys\nprint('words')\nprint('errors', file=sys.stderr)\nsys.exit(3)")
    command = f'exec "$0" -m distopt_launch -n 2 "$1" {closed}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 3
    assert "distopt_launch" not in done.stderr  # a traceback
    if ">&-" not in closed.split():
        assert sorted(done.stdout.splitlines()) == ["[0] words", "[1] words"]


def test_a_process_that_is_left_behind_does_not_keep_the_job(job, tmp_path):
    text = f"""
if rank == 0:
    os.system("setsid sleep 30 & echo $! >{tmp_path}/pid")
print("done")
"""
    begin = time.monotonic()
    with job(text) as process:
        assert ended(process) == (0, ["[0] done", "[1] done"], "")
    assert time.monotonic() - begin < 20
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)  # it has not been ended


LEAVES = "import mpi4py.MPI as MPI\nMPI.COMM_WORLD.barrier()\nif rank == 1:\n    {}\nMPI.COMM_WORLD.barrier()"
LEFT = "replica 1 ended with exit code 0 before the end of its program"


@pytest.mark.parametrize(
    "how", ["os._exit(0)", pytest.param("os.execv('/bin/true', ['true'])", marks=pytest.mark.slow)]
)
def test_a_replica_that_leaves_the_others_is_a_failure(job, how):
    with job(LEAVES.format(how), "-n", "3") as process:
        code, _, err = ended(process)
    assert code == 1
    assert LEFT in err.splitlines()[-1]


def test_so_it_is_where_the_others_do_without_it(job):
    with job("if rank == 1: os._exit(0)\ntime.sleep(1)") as process:
        code, _, err = ended(process)
    assert code == 1
    assert LEFT in err.splitlines()[-1]


@pytest.mark.parametrize(
    "how",
    [
        "os.execv('/bin/true', ['true'])",
        "sys.exit(0)",
        pytest.param("os._exit(0)", marks=pytest.mark.slow),
        pytest.param("sys.exit()", marks=pytest.mark.slow),
    ],
)
def test_leaving_early_is_no_failure_where_all_do(job, how):
    with job(how) as process:
        assert ended(process) == (0, [], "")


def test_leaving_at_the_end_of_the_program_is_no_failure(job):
    skip_with_open_mpi("takes it for a failure, and sends the others SIGTERM")
    text = """
import atexit, mpi4py.MPI as MPI
MPI.COMM_WORLD.barrier()
if rank == 1:
    atexit.register(os._exit, 0)
else:
    atexit.register(time.sleep, 30)
MPI.COMM_WORLD.barrier()
"""
    with job(text, "-n", "3") as process:
        code, _, err = ended(process)
    assert code == 0
    assert "killed replicas 0, 2 after the end of the program" in err


def test_processes_that_never_started_are_a_failure(job):
    with job("", "-n", "2", "--mpi-args", "true") as process:
        code, _, err = ended(process)
    assert code == 1
    assert "2 of 2 processes had not started" in err


def test_the_next_start_removes_what_a_kill_has_left(job, tmp_path):
    with job("print('ready', flush=True)\ntime.sleep(30)") as process:
        wait_for_lines(process, 2)
    assert list(tmp_path.glob("distoptrun-*"))
    with job("") as process:
        assert ended(process)[0] == 0
    assert not list(tmp_path.glob("distoptrun-*"))


def test_a_reader_that_does_not_wait_for_the_help(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "distopt_launch", "--version"],
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=LIMIT,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")


@pytest.mark.skipif(
    subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode != 0,
    reason="takes the right to make namespaces",
)
def test_numbers_of_another_namespace_are_signalled_by_nobody_here(job):
    text = "print('pid', os.getpid(), flush=True)\ntime.sleep(60)"
    with job(text, "-n", "2", "--mpi-args", " ".join(NAMESPACE)) as process:
        assert [int(line.split()[2]) < 10 for line in wait_for_lines(process, 2)] == [True, True]
        process.send_signal(signal.SIGINT)
        code, _, err = ended(process)
    assert code == 130
    assert err.splitlines()[-1] == "distoptrun: interrupted"
