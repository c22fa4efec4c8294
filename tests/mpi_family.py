"""Which MPI starts the jobs of these tests."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest


@cache
def is_open_mpi():
    """Whether this environment's ``mpiexec`` is Open MPI's."""
    mpiexec = Path(sys.executable).parent / "mpiexec"
    if not mpiexec.exists():
        return False
    said = subprocess.run([mpiexec, "--version"], capture_output=True, text=True, timeout=30, check=False)
    return "Open MPI" in said.stdout


def skip_with_open_mpi(reason):
    """Ends a test of what Open MPI does in another way; docs/howto/launching.md lists these."""
    if is_open_mpi():
        pytest.skip(f"Open MPI {reason}")
