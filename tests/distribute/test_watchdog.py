"""Nobody waits in silence, or for ever: replicas that are late, at every stage of a job."""

import re

import jobs
import pytest

pytestmark = pytest.mark.launches

LIMITS = {"DISTOPT_STALL_SECONDS": "1", "DISTOPT_ABORT_SECONDS": "2.5"}


def messages(text):
    """``(header, {replica: line})`` of each message of the watchdog, when all have come to use it."""
    found = []
    for line in text.splitlines():
        if line.startswith("distopt: waiting for ") and "at its first use" not in line:
            found.append((line, {}))
        elif match := re.match(r"  replica (\d): (.*)", line):
            found[-1][1][int(match[1])] = match[2]
    return found


@pytest.mark.parametrize(
    ("replicas", "nodes", "late"),
    [
        (2, 1, [1]),
        pytest.param(4, 2, [0, 1], marks=pytest.mark.slow),
        pytest.param(4, 1, [2], marks=pytest.mark.slow),
        pytest.param(2, 2, [1], marks=pytest.mark.slow),
        pytest.param(2, 2, [0], marks=pytest.mark.slow),
        pytest.param(4, 2, [3], marks=pytest.mark.slow),
    ],
)
def test_it_says_who_is_waited_for_and_where_all_stand(job, replicas, nodes, late):
    done = job(
        f"if rank in {late}:\n    time.sleep(300)\nstep()", replicas, DISTOPT_NODES=str(nodes), **LIMITS
    )
    assert done.code != 0
    assert 2.5 <= done.seconds < 60
    found = messages(done.err)
    assert 2 <= len(found) <= 2 * nodes, done.err  # at the stall and at the end, and not from everyone
    names = ("replica " if len(late) == 1 else "replicas ") + ", ".join(map(str, late))
    for header, lines in found:
        assert header.endswith(f" s, for {names}")
        assert sorted(lines) == list(range(replicas))
        for replica, line in lines.items():
            if replica in late:
                assert line.startswith("has not arrived")
                assert re.search(r"apply_gradients of SGD at program.py:\d+ \(step 1, call 3\)$", line)
            else:
                own = line.endswith(" (this one)")
                assert re.match(r"in " if own else r"waits for \d s in ", line)
                assert re.search(r"apply_gradients of SGD at program.py:\d+ \(step 2, call 4\)", line)
    assert "distopt: ending the job (abort limit 2.5 s)" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("replicas", "nodes"),
    [(2, 2), pytest.param(4, 1, marks=pytest.mark.slow), pytest.param(4, 2, marks=pytest.mark.slow)],
)
def test_a_late_replica_that_comes_after_all_is_welcome(job, replicas, nodes):
    done = job(
        f'if rank == {replicas - 1}: time.sleep(2)\nstep(); step(); say("sum", v.numpy().sum())',
        replicas,
        DISTOPT_NODES=str(nodes),
        DISTOPT_STALL_SECONDS="1",
    )
    assert done.code == 0, done.err
    assert done.out.splitlines() == [f"sum {300 * 70 * (1 - 3 * replicas * 0.5)}"] * replicas
    assert 1 <= len(messages(done.err)) <= nodes


def test_it_watches_inside_a_step_of_python_code(job):
    done = job(
        """
def slow(grads_and_vars):
    time.sleep(300 * rank)
    return grads_and_vars
optimizer = SGD(0.5, gradient_transformers=[slow])
step()
""",
        DISTOPT_NODES="2",
        **LIMITS,
    )
    assert done.code != 0
    header, lines = messages(done.err)[-1]
    assert header.endswith("for replica 1")
    assert "(step 2, call " in lines[0]


@pytest.mark.slow
def test_replicas_of_one_process_are_named_together(tmp_path):
    (tmp_path / "program.py").write_text(FIRST_CALL.replace("== 1", "== 3"))
    command = jobs.mpi(2, *jobs.inprocess(2, tmp_path / "program.py"))
    done = jobs.run(command, DISTOPT_NODES="2", **LIMITS)
    assert done.code != 0
    reports = [line for line in done.err.splitlines() if "distopt: waiting for " in line]
    header = next(line for line in reports if "MPI_Init" not in line)  # one may be late for that, too
    assert header.endswith(" s, for replicas 2-3")


def test_it_watches_a_jobs_first_call(tmp_path):
    """What is made at a job's first call is made by MPI itself, which waits in silence."""
    (tmp_path / "program.py").write_text(FIRST_CALL)
    done = jobs.run(jobs.mpi(2, tmp_path / "program.py"), **LIMITS)
    assert done.code != 0
    _, lines = messages(done.err)[0]
    assert lines[1].startswith("has not arrived")
    assert lines[0].startswith("in all_reduce('sum') at program.py:")


FIRST_CALL = """
import time
from mpi4py import MPI
from distopt.distribute import get_replica_context
MPI.COMM_WORLD.Barrier()
context = get_replica_context()
if context.replica_id_in_sync_group == 1:
    time.sleep(300)
context.all_reduce("sum", 1.0)
"""


@pytest.mark.parametrize(
    ("first", "words"),
    [
        pytest.param(
            "", "process 0 is in MPI_Init, which not all 2 processes have reached", id="before MPI_Init"
        ),
        pytest.param(
            "from mpi4py import MPI",
            "replica 0 is at its first use of distopt, which not all 2 have reached",
            id="after it",
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.parametrize("limit", ["2.5", pytest.param("0", marks=pytest.mark.slow)])
def test_it_watches_the_start_of_mpi(tmp_path, first, words, limit):
    """A late replica ends the job at the limit; without a limit it is waited for, not in silence."""
    (tmp_path / "program.py").write_text(START.format(first=first, seconds=300 if float(limit) else 2))
    variables = {"DISTOPT_STALL_SECONDS": "1", "DISTOPT_ABORT_SECONDS": limit}
    done = jobs.run(jobs.mpi(2, tmp_path / "program.py"), **variables)
    assert f"distopt: waiting for 1 s: {words}" in done.err
    if float(limit):
        assert done.code != 0
        assert 2.5 <= done.seconds < 60
        assert "distopt: ending the job (abort limit 2.5 s)" in done.err
    else:
        assert done.code == 0, done.err
        assert done.out.splitlines() == ["3"] * 2
        assert "ending the job" not in done.err


START = """
import os, time
{first}
from distopt.distribute import get_replica_context
rank = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "")))
if rank == 1:
    time.sleep({seconds})
total = get_replica_context().all_reduce("sum", rank + 1)
os.write(1, f"{{int(total)}}\\n".encode())
"""
