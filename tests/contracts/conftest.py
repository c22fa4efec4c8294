import sys
from pathlib import Path
from typing import Any

import pytest

# The recordings of the real optimizers are replayed here on replicas.
sys.path.append(str(Path(__file__).parent.parent / "optimizers"))
# A training that is saved, to be gone on with.
sys.path.append(str(Path(__file__).parent.parent / "checkpoint"))


@pytest.fixture
def directory(replicas: Any, tmp_path: Path) -> Path:
    """One folder that all replicas see."""
    if replicas.kind == "virtual":
        return tmp_path
    from mpi4py import MPI

    return MPI.COMM_WORLD.bcast(tmp_path, root=0)
