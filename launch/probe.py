"""Reports which MPI mpi4py loads. A separate process: in the launcher it would stay loaded."""

from __future__ import annotations

import json

import mpi4py


def main() -> None:
    """Prints a line of JSON: the MPI's name, version, full version text, loaded files; mpi4py's version."""
    mpi4py.rc.initialize = False  # this process is not part of a job
    from mpi4py import MPI

    name, version = MPI.get_vendor()
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            files = sorted({line.split(maxsplit=5)[-1].rstrip("\n") for line in maps if "/" in line})
    except OSError:
        files = []
    print(json.dumps([name, version, MPI.Get_library_version(), files, mpi4py.__version__]))
