"""The program of ``distoptrun --check``: measures latency and bandwidth in a ring of processes."""

from __future__ import annotations

import json
import os
import sys
import time

from mpi4py import MPI

from .environment import inherited

_ROUNDS = 200
_BYTES = 8 << 20
_REPEATS = 5
_ROW = 1024  # bytes for the JSON of each process


def main() -> None:
    """Measures.

    Rank 0 writes the results as JSON, one row per process, to the file named by the first argument.
    """
    world = MPI.COMM_WORLD
    rank, size = world.rank, world.size
    after, before = (rank + 1) % size, (rank - 1) % size
    token = bytearray(8)
    world.Barrier()
    begin = time.perf_counter()
    for _ in range(_ROUNDS):
        world.Sendrecv_replace(token, dest=after, source=before)
    hop = (time.perf_counter() - begin) / _ROUNDS
    out, into = bytearray(os.urandom(1024) * (_BYTES // 1024)), bytearray(_BYTES)
    best = float("inf")
    for _ in range(_REPEATS):
        world.Barrier()
        begin = time.perf_counter()
        world.Sendrecv(out, dest=after, recvbuf=into, source=before)
        best = min(best, time.perf_counter() - begin)
    row = {
        "host": MPI.Get_processor_name(),
        "next": after,
        "hop_us": hop * 1e6,
        "bandwidth": _BYTES / best,
        "threads": inherited().get("OMP_NUM_THREADS", ""),
        "size": size,
    }
    texts = bytearray(_ROW * size)
    world.Gather(json.dumps(row).encode().ljust(_ROW), texts)
    if rank == 0:
        rows = [json.loads(texts[at : at + _ROW]) for at in range(0, len(texts), _ROW)]
        with open(sys.argv[1], "w", encoding="utf-8") as file:
            json.dump(rows, file)
