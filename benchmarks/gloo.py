"""The process group of PyTorch's peers, over the loopback."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.clock import World

__all__ = ["process_group"]


@contextmanager
def process_group(everyone: World) -> Iterator[None]:
    """Has ``torch.distributed`` know the replicas of the MPI job, joined by Gloo; one thread each."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    name = None
    if everyone.rank == 0:
        descriptor, name = tempfile.mkstemp(prefix="distopt-bench-gloo-")
        os.close(descriptor)
        os.unlink(name)  # the store makes it
    name = everyone.comm.bcast(name, root=0)
    dist.init_process_group(
        "gloo", init_method=f"file://{name}", rank=everyone.rank, world_size=everyone.size
    )
    try:
        yield
    finally:
        everyone.barrier()
        dist.destroy_process_group()
        if everyone.rank == 0 and os.path.exists(name):
            os.unlink(name)
