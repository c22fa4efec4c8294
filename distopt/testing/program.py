"""A script as the program of one replica, with a ``__main__`` module and random states of its own."""

from __future__ import annotations

import importlib.util
import os
import pdb
import random
import sys
import types
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from types import CodeType
from typing import Any

import numpy as np

__all__ = ["Program", "keep_own"]


class Program:
    """A script or module, compiled once and run by every replica.

    Args:
        name: a file, or the name of a module.
        module: whether it is a module's name.

    Raises:
        OSError: there is no such file.
        ImportError: there is no such module.
        SyntaxError: it is no Python program.
    """

    def __init__(self, name: str, module: bool = False) -> None:
        self._names: dict[str, Any] = {"__builtins__": __builtins__}
        if module:
            self._code = self._find(name)
            return
        self.file = os.path.abspath(name)
        with open(self.file, "rb") as source:
            self._code = compile(source.read(), self.file, "exec", dont_inherit=True)
        loader = SourceFileLoader("__main__", self.file)
        self._names |= {"__file__": self.file, "__loader__": loader}

    def _find(self, name: str) -> CodeType:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(name + ".__main__")
        get_code = getattr(spec.loader, "get_code", None) if spec is not None else None
        code: CodeType | None = get_code(spec.name) if spec is not None and get_code is not None else None
        if spec is None or code is None:
            raise ImportError(f"no module named {name!r} that could be run as a program")
        self.file = spec.origin or name
        self._names |= {
            "__file__": spec.origin,
            "__loader__": spec.loader,
            "__spec__": spec,
            "__package__": spec.parent,
        }
        return code

    def run(self, debugger: pdb.Pdb | None = None) -> None:
        """Runs it once, in a ``__main__`` module of its own; stopped at its first line by a debugger."""
        main = types.ModuleType("__main__")
        main.__dict__.update(self._names)
        sys.modules["__main__"] = main
        # As a process of its own would: random numbers that nobody seeded differ between replicas.
        np.random.seed()
        random.seed()
        if debugger is None:
            exec(self._code, main.__dict__)
            return
        debugger.reset()
        sys.settrace(debugger.trace_dispatch)
        try:
            exec(self._code, main.__dict__)
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
    while frame is not None and frame.f_code is not Program.run.__code__:
        if frame.f_code.co_name == "<module>":
            module = str(frame.f_globals.get("__name__"))
        if module is not None and frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return module
        frame = frame.f_back  # type: ignore[assignment]
    return None
