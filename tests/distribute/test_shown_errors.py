"""How errors are shown by whole jobs: the cause, once, with the program's own line, under each launcher."""

import os
import signal
import sys
import time

import jobs
import pytest
from pages import ROOT
from shown_errors import judge, lines_of

sys.path.append(str(ROOT / "docs"))
from error_cases import GROUPS

pytestmark = [pytest.mark.launches, pytest.mark.slow]

CASES = {case.name: case for cases in GROUPS.values() for case in cases}
CHOSEN = [
    "shape",  # all replicas alike
    "another variable",
    "a step less",
    "a replica's own exception",
    "a replica that leaves",
    "an aggregator's exception",
    "a constraint's exception",
    "unknown variable",
]
WAYS = ["mpiexec", "distoptrun"]

HEAD = """
import sys, time
import distopt as tf
context = tf.distribute.get_replica_context()
rank = context.replica_id_in_sync_group
context.all_reduce("sum", 1.0)
"""


def command(way, *words):
    if way == "mpiexec":
        return jobs.mpi(2, "train.py")
    return jobs.python("-m", "distopt_launch", "-n", "2", *words, "train.py")


@pytest.fixture
def start(tmp_path, monkeypatch):
    """``start(way, text, *words, **variables)``: a running job of the program."""
    monkeypatch.chdir(tmp_path)

    def run(way, text, *words, **variables):
        (tmp_path / "train.py").write_text(text)
        return jobs.start(command(way, *words), **variables)

    return run


def ended(process, limit=60):
    return jobs.finish(process, time.monotonic(), limit)


def interrupt(process):
    """Ctrl-C, which all processes of the terminal get, once the program says that it is ready."""
    while "ready" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    return ended(process)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CHOSEN)
def test_the_cause_is_shown_once(start, way, name):
    case = CASES[name]
    done = ended(start(way, case.source, **case.environ))
    assert done.code not in (0, None)
    judge(case, done.out + done.err)


def test_the_whole_is_shown_on_demand(start):
    case = CASES["a replica's own exception"]
    done = ended(start("mpiexec", case.source, DISTOPT_DEBUG="1"))
    assert "optimizer.py" in done.err
    assert "left out" not in done.err


@pytest.mark.parametrize("way", WAYS)
def test_a_replica_that_fails_before_it_starts_mpi_ends_the_job(start, way):
    """The other one waits in MPI_Init, and MPICH's launcher would let it."""
    text = """
import os, time
import distopt as tf
if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "0":
    tf.distribute.get_replica_context()
time.sleep(1)
raise LookupError("no such setting")
"""
    done = ended(start(way, text))
    assert done.code not in (0, None)
    assert done.seconds < 30
    assert lines_of(done.err).count("LookupError: no such setting") == 1


def test_ctrl_c_is_a_line(start):
    text = HEAD + "print('ready', flush=True)\ntime.sleep(60 * rank)\ncontext.all_reduce('sum', 1.0)\n"
    done = interrupt(start("mpiexec", text))
    assert done.code == 130
    own = [line for line in done.err.splitlines() if not line.startswith("[mpiexec@")]
    assert own == ["distopt: process 0 of 2 interrupted at train.py:9"]


def test_ctrl_c_under_distoptrun(start):
    done = interrupt(start("distoptrun", HEAD + "print('ready', flush=True)\ntime.sleep(60)\n"))
    assert done.code == 130
    assert done.err == "distoptrun: interrupted\n"


# -- two replicas with errors of their own
@pytest.mark.parametrize(("late", "shown"), [(0.2, 0), (2.0, 1)])
def test_of_two_errors_one_is_shown(start, late, shown):
    """The first replica's if it comes soon, and without it the other one's."""
    text = HEAD + f"time.sleep({late} * (1 - rank))\nraise LookupError(f'of replica {{rank}}')\n"
    done = ended(start("mpiexec", text))
    assert done.code == 1
    assert [line for line in done.err.splitlines() if "LookupError: " in line] == [
        f"LookupError: of replica {shown}"
    ]


def test_log_files_have_both(start, tmp_path):
    text = HEAD + "time.sleep(0.2 * (1 - rank))\nraise LookupError(f'of replica {rank}')\n"
    done = ended(start("distoptrun", text, "--log-dir", "logs"))
    assert done.code == 1
    assert "LookupError: of replica" in done.err
    for rank in range(2):
        found = [file.read_text() for file in (tmp_path / "logs").iterdir() if str(rank) in file.name]
        assert any(f"LookupError: of replica {rank}" in text for text in found)


def test_a_consequence_is_shown_if_its_cause_is_not(start):
    """The cause is caught where it arose, and that replica goes on."""
    text = (
        HEAD
        + """
if rank == 0:
    context.all_reduce("sum", 1.0)
try:
    context.all_reduce("sum", None)
except ValueError:
    time.sleep(60)
"""
    )
    done = ended(start("mpiexec", text))
    assert done.code == 1
    assert "distopt.errors.ReplicaFailed: nothing was applied, because replica 1 of 2" in done.err
    assert 'train.py", line 9' in done.err


def test_threads_show_the_programs_lines(start):
    text = (
        HEAD
        + """
import contextvars, threading
def work():
    context.all_reduce("sum", [1.0] * (1 + rank))
thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name="helper")
thread.start()
thread.join()
"""
    )
    done = ended(start("distoptrun", text))
    assert done.code == 0
    lines = lines_of(done.err)
    assert lines.count("Exception in thread helper:") == 2
    assert [line.rpartition(" in ")[2] for line in lines if line.startswith("  File ")] == ["work", "work"]


def test_processes_of_several_replicas_show_it_once(start):
    case = CASES["another shape"]
    done = ended(start("distoptrun", case.source, "--replicas-per-process", "2"))
    assert done.code not in (0, None)
    assert done.err.count("ReplicaMismatch: ") == 1
