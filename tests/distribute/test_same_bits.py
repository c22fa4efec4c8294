"""The same bits anywhere: threads, processes, mixtures, private memory, several nodes."""

import re
from pathlib import Path

import jobs
import pytest
import steps_of_all_kinds

from distopt.distribute import VirtualStrategy

PROGRAM = Path(__file__).parent / "steps_of_all_kinds.py"

pytestmark = pytest.mark.launches


@pytest.fixture(scope="module")
def expected():
    """The hashes under VirtualStrategy, by number of replicas and names of what makes the steps."""
    known = {}

    def of(replicas, names=tuple(steps_of_all_kinds.QUICK)):
        if (replicas, names) not in known:
            known[replicas, names] = VirtualStrategy(replicas).run(lambda: steps_of_all_kinds.main(names))
        return known[replicas, names]

    return of


def hashes(done):
    assert done.code == 0, done.err
    found = dict(re.findall(r"HASH (.+): ([0-9a-f]{64})", done.out))
    return found


#: (replicas, MPI processes, environment); the processes hold equal numbers of replicas.
LAYOUTS = {
    "3 in 3 processes, private": (3, 3, {"DISTOPT_MEMORY": "private"}),
    "6 in 2 processes on 2 nodes": (6, 2, {"DISTOPT_NODES": "2"}),
}
MORE_LAYOUTS = {
    "8 in 2 processes": (8, 2, {}),
    "8 in 1 process": (8, 1, {}),
    "8 in 4 processes": (8, 4, {}),
    "8 in 8 processes": (8, 8, {}),
    "8 in 4 processes, private": (8, 4, {"DISTOPT_MEMORY": "private"}),
    "8 in 8 processes on 2 nodes": (8, 8, {"DISTOPT_NODES": "2"}),
    "6 in 6 processes on 3 nodes": (6, 6, {"DISTOPT_NODES": "3"}),
    "6 in 6 processes on 2 nodes": (6, 6, {"DISTOPT_NODES": "2"}),
    "8 in 8 processes on 8 nodes": (8, 8, {"DISTOPT_NODES": "8"}),
    "8 in 8 processes on 3 unequal nodes": (8, 8, {"DISTOPT_NODES": "3"}),
    "12 in 6 processes on 6 nodes": (12, 6, {"DISTOPT_NODES": "6"}),
}


@pytest.mark.parametrize(
    "layout", [*LAYOUTS, *(pytest.param(n, marks=pytest.mark.slow) for n in MORE_LAYOUTS)]
)
def test_one_hash_under_every_layout(expected, layout):
    """Quick layouts with those that are quick, the others with all."""
    replicas, processes, variables = {**LAYOUTS, **MORE_LAYOUTS}[layout]
    quick = layout in LAYOUTS
    words = [PROGRAM] if processes == replicas else jobs.inprocess(replicas // processes, PROGRAM)
    words += ["--quick"] * quick
    command = jobs.python(*words) if processes == 1 else jobs.mpi(processes, *words)
    names = steps_of_all_kinds.QUICK if quick else steps_of_all_kinds.MAKERS
    want = expected(
        replicas, tuple(names)
    )  # first: what it compiles need not be compiled by each of the job's processes
    assert hashes(jobs.run(command, **variables)) == want


def test_hashes_tell_numbers_of_replicas_and_optimizers_apart(expected):
    """Otherwise equal hashes would say nothing."""
    three, six = expected(3), expected(6)
    assert len(set(three.values())) == len(three)
    assert not set(three.values()) & set(six.values())
