"""Reports which MPI mpi4py loads.

It runs in a separate process, so that MPI is not loaded in the launcher.
"""

from __future__ import annotations

import json

import mpi4py


def main() -> None:
    """Prints a JSON list: the MPI's name, version, version text, and loaded files; and mpi4py's version."""
    mpi4py.rc.initialize = False  # this process is not part of a job
    from mpi4py import MPI

    name, version = MPI.get_vendor()
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            files = sorted({line.split(maxsplit=5)[-1].rstrip("\n") for line in maps if "/" in line})
    except OSError:
        files = []
    print(json.dumps([name, version, MPI.Get_library_version(), files, mpi4py.__version__]))
