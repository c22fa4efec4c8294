"""LocalSGD and DiLoCo under MPI: the bits of replicas in one process, and a replica that ends early."""

from pathlib import Path

import jobs
import local_rounds_program
import pytest

from tests.replicated import on_replicas

PROGRAM = Path(local_rounds_program.__file__)


@pytest.mark.launches
@pytest.mark.slow
def test_a_job_has_the_bits_of_threads_and_an_early_end_is_told(monkeypatch):
    monkeypatch.setenv("DISTOPT_NODES", "2")
    expected = on_replicas(4, local_rounds_program.main)
    assert expected[0] == expected[1] != expected[2] == expected[3]
    monkeypatch.setenv("DISTOPT_MEMORY", "private")
    assert on_replicas(4, local_rounds_program.main) == expected

    done = jobs.run(jobs.mpi(4, PROGRAM, "early"), 100, DISTOPT_NODES="2")
    lines = sorted(line.split()[1:] for line in done.out.splitlines() if line.startswith("HASH"))
    assert lines == [[str(replica), *hashes] for replica, hashes in enumerate(expected)]
    assert done.code != 0
    assert "replica 1: the end of its program" in done.err
