"""Runs a program as one of several replicas, with its own ``__main__`` module and random states."""

from __future__ import annotations

import pdb
import sys
from collections.abc import Callable

from distopt_launch.program import LoadedProgram

from distopt.core.generators import save_states, seed_from_entropy, set_states

__all__ = ["keep_own", "run_program"]


def run_program(program: LoadedProgram, debugger: pdb.Pdb | None = None) -> None:
    """Runs a program once, in a new ``__main__`` module; a debugger stops at its first line."""
    main = program.new_main()
    # As in separate processes: without a seed, random numbers differ between replicas.
    seed_from_entropy()
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
    """Saves state that threads share but processes do not; returns a function that restores it.

    This is ``sys.modules["__main__"]`` and the states of the global random generators of Python, NumPy and,
    where the script has imported it, PyTorch (on the CPU): a script that seeds them by replica gets the same
    numbers as under an MPI launcher.

    Raises:
        RuntimeError: a module is being imported. That happens once for all replicas of a process: they would
            wait for the import, and it for them.
    """
    module = _importing()
    if module is not None:
        raise RuntimeError(
            f"a collective call while module {module!r} is being imported: replicas in one process share "
            "their modules, so a collective call in an import would wait forever: make it in a function, "
            "or in the script"
        )
    main = sys.modules["__main__"]
    states = save_states()

    def restore() -> None:
        sys.modules["__main__"] = main
        set_states(states)

    return restore


def _importing() -> str | None:
    """The module that this thread is importing, if any."""
    frame = sys._getframe(1)
    module = None
    while frame is not None and frame.f_code is not run_program.__code__:
        if frame.f_code.co_name == "<module>":
            module = str(frame.f_globals.get("__name__"))
        if module is not None and frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return module
        frame = frame.f_back  # type: ignore[assignment]
    return None
