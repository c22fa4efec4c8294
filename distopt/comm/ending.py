"""Ends the whole job immediately."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

from distopt.comm.output import drain
from distopt.launched import end_before_mpi

__all__ = ["abort_job"]


def abort_job(code: int) -> NoReturn:
    """Ends all processes of the job with an exit code, after this process's output has been read."""
    drain()
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not mpi.Is_initialized():
        end_before_mpi(code)
    elif not mpi.Is_finalized():
        with suppress(OSError):  # suppress MPI's own text, which would hide the message before it
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        mpi.COMM_WORLD.Abort(code)
    os._exit(code)  # some MPIs return from Abort before they end the process
