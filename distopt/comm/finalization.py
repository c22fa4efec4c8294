"""The finalization of MPI, which only the replica's own process may do.

mpi4py finalizes MPI at the very end of the interpreter, in forked children too. There it would close
the replica's connections. MPI first deletes the attributes of COMM_SELF (MPI 4.1, section 11.4.1). In a
child this fails here, which ends MPICH's finalization. Open MPI continues nevertheless, so the child
ends at this point, with exit code 1 after an exception and 0 otherwise.
"""

from __future__ import annotations

import ctypes
import os
import sys
from types import TracebackType
from typing import Any

import numpy as np
from numba import cfunc, types

from distopt.comm.precompile import precompiled

__all__ = ["guard_finalization"]

_getpid = types.ExternalFunction("getpid", types.int32())
_exit = types.ExternalFunction("_exit", types.int32(types.int32))
_pointer: Any = types.CPointer
_INT, _HANDLE, _NUMBERS = types.int32, types.intp, _pointer(types.int64)

#: For the callbacks: the process of the replica; whether _delete ends a child; and with which exit code.
_state = np.zeros(3, np.int64)


@precompiled(_INT(_HANDLE, _INT, _NUMBERS, _NUMBERS, _NUMBERS, _pointer(_INT)), cfunc)
def _copy(_comm: Any, _key: Any, _state: Any, _value: Any, _new: Any, flag: Any) -> int:
    """The copy callback: duplicates of the communicator do not get the attribute."""
    flag[0] = 0
    return 0


@precompiled(_INT(_HANDLE, _INT, _NUMBERS, _NUMBERS), cfunc)
def _delete(_comm: Any, _key: Any, _value: Any, state: Any) -> int:
    """The delete callback: succeeds in the replica; in a child process, fails or ends the process."""
    if _getpid() == state[0]:
        return 0
    if state[1] != 0:
        _exit(state[2])
    return 1


def guard_finalization(mpi: Any) -> None:
    """Prevents forked children from finalizing the replica's MPI when their interpreter exits.

    Args:
        mpi: the module ``mpi4py.MPI``.
    """
    if _state[0]:
        return
    _state[:2] = os.getpid(), mpi.get_vendor()[0] == "Open MPI"
    library, pointer, key = ctypes.CDLL(mpi.__file__), ctypes.c_void_p, ctypes.c_int()
    # MPI uses them after the interpreter has freed all modules, so they are never freed.
    for kept in (_state, _copy, _delete):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
    copy, delete, state = (pointer(a) for a in (_copy.address, _delete.address, _state.ctypes.data))
    if library.MPI_Comm_create_keyval(copy, delete, ctypes.byref(key), state) == mpi.SUCCESS:
        library.MPI_Comm_set_attr(pointer(mpi._handleof(mpi.COMM_SELF)), key, state)
    if _state[1]:
        os.register_at_fork(after_in_child=_note_exceptions)


def _note_exceptions() -> None:
    """In a forked child: makes an uncaught exception set the exit code that _delete uses."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        _state[2] = 1
        before(kind, error, trace)

    sys.excepthook = hook
