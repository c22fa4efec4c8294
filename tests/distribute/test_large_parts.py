"""Messages come in large parts, so that a look now and then is enough for them."""

from pathlib import Path

import jobs
import pytest

from distopt.launched import receive_in_large_parts

PROGRAM = Path(__file__).parent / "looks_program.py"
NAME = "UCX_TCP_RX_SEG_SIZE"
#: What MPICH takes for messages between hosts; others do not know these names.
BETWEEN_HOSTS = {"UCX_TLS": "tcp,self", "MPIR_CVAR_NOLOCAL": "1"}


def looks(**variables):
    done = jobs.run(jobs.mpi(2, PROGRAM), 100, **BETWEEN_HOSTS, **variables)
    assert done.code == 0, done.err
    by_ucx, count = done.out.split()
    if by_ucx == "False":
        pytest.skip("this MPI has no UCX")
    return int(count)


@pytest.mark.launches
@pytest.mark.slow
def test_8_mb_take_fewer_looks_than_they_have_parts_of_64_kb():
    assert looks() < 64 < 128 <= looks(UCX_TCP_RX_SEG_SIZE="64k")


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv(NAME, "1m")
    receive_in_large_parts()
    assert jobs.environment()[NAME] == "1m"
    monkeypatch.delenv(NAME)
    receive_in_large_parts()
    assert jobs.environment()[NAME] == "512k"
