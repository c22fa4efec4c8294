"""Says which MPI mpi4py loads. In a process of its own: in the launcher's it would stay loaded."""

from __future__ import annotations

import json

import mpi4py


def main() -> None:
    """Writes one line of JSON: the MPI's name, version and own words, the files in memory, mpi4py's."""
    mpi4py.rc.initialize = False  # nothing here is part of a job
    from mpi4py import MPI

    name, version = MPI.get_vendor()
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            files = sorted({line.split(maxsplit=5)[-1].rstrip("\n") for line in maps if "/" in line})
    except OSError:
        files = []
    print(json.dumps([name, version, MPI.Get_library_version(), files, mpi4py.__version__]))
