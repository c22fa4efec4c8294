"""One replica's run of a program, with a ``__main__`` module and random states of its own."""

from __future__ import annotations

import pdb
import random
import sys
from collections.abc import Callable

import numpy as np
from distopt_launch.program import LoadedProgram

__all__ = ["keep_own", "run_program"]


def run_program(program: LoadedProgram, debugger: pdb.Pdb | None = None) -> None:
    """Runs it once, in a new ``__main__`` module; a debugger stops it at its first line."""
    main = program.new_main()
    # As in a process of its own: random numbers that nobody seeded differ between replicas.
    np.random.seed()
    random.seed()
    if debugger is None:
        exec(program.code, main)
        return
    debugger.reset()
    sys.settrace(debugger.trace_dispatch)
    try:
        exec(program.code, main)
    finally:
        sys.settrace(None)


def keep_own() -> Callable[[], None]:
    """Remembers what processes have for themselves and threads share; returns what puts it back.

    These are ``sys.modules["__main__"]`` and the states of the global random generators of NumPy and
    Python: a script that seeds them by replica gets the numbers that it gets under an MPI launcher.

    Raises:
        RuntimeError: a module is being imported, which happens once for all replicas of a process: the
            others would wait for its end, and it for them.
    """
    module = _importing()
    if module is not None:
        raise RuntimeError(
            f"a collective call while module {module!r} is imported: replicas in one process share the "
            "modules that they import, so they cannot meet in there; call it in a function, or in the script"
        )
    main = sys.modules["__main__"]
    arrays, numbers = np.random.get_state(legacy=False), random.getstate()

    def put_back() -> None:
        sys.modules["__main__"] = main
        np.random.set_state(arrays)
        random.setstate(numbers)

    return put_back


def _importing() -> str | None:
    """The module whose import this thread is in, since the program began."""
    frame = sys._getframe(1)
    module = None
    while frame is not None and frame.f_code is not run_program.__code__:
        if frame.f_code.co_name == "<module>":
            module = str(frame.f_globals.get("__name__"))
        if module is not None and frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return module
        frame = frame.f_back  # type: ignore[assignment]
    return None
