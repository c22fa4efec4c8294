"""A script as the program of one replica, with a ``__main__`` module and random states of its own."""

from __future__ import annotations

import builtins
import importlib.util
import os
import pdb
import pkgutil
import random
import sys
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader, SourcelessFileLoader
from types import CodeType
from typing import Any

import numpy as np

__all__ = ["Program", "keep_own", "keeps_path"]


class Program:
    """A script or module, compiled once and run by every replica.

    ``sys.path`` and what the program sees of itself are as Python makes them.

    Args:
        name: a script, a folder or zip file with ``__main__.py``, or the name of a module.
        module: whether it is a module's name.

    Raises:
        OSError: there is no such file.
        ImportError: there is no such module.
        SyntaxError: it is no Python program.
    """

    def __init__(self, name: str, module: bool = False) -> None:
        # As Python makes it absolute: with the dots that it has. An absolute one works in a removed folder.
        self.file = name if os.path.isabs(name) else os.path.join(os.getcwd(), name)
        if module:
            _put_first(os.getcwd())
            self._of_spec(_find(name), name)
        elif pkgutil.get_importer(self.file):
            sys.path.insert(
                0, self.file
            )  # also where Python is told to keep the path: the program lies in there
            self._of_spec(_main_of(self.file), name)
        else:
            _put_first(os.path.dirname(os.path.realpath(self.file)))
            self._of_script()

    def _of_script(self) -> None:
        self._names: dict[str, Any] = {"__file__": self.file, "__cached__": None}
        if self.file.endswith(".pyc"):
            compiled = SourcelessFileLoader("__main__", self.file)
            code = compiled.get_code("__main__")
            assert code is not None
            self._names["__loader__"] = compiled
            self._code = code
            return
        with open(self.file, "rb") as source:
            self._code = compile(source.read(), self.file, "exec", dont_inherit=True)
        self._names["__loader__"] = SourceFileLoader("__main__", self.file)

    def _of_spec(self, spec: ModuleSpec | None, name: str) -> None:
        get_code = getattr(spec.loader, "get_code", None) if spec is not None else None
        code: CodeType | None = get_code(spec.name) if spec is not None and get_code is not None else None
        if spec is None or code is None:
            raise ImportError(f"no module named {name!r} that could be run as a program")
        self.file, self._code = spec.origin or name, code
        self._names = {
            "__file__": spec.origin,
            "__cached__": spec.cached,
            "__loader__": spec.loader,
            "__spec__": spec,
            "__package__": spec.parent,
        }

    def run(self, debugger: pdb.Pdb | None = None) -> None:
        """Runs it once, in a ``__main__`` module of its own; stopped at its first line by a debugger."""
        main = types.ModuleType("__main__")
        main.__dict__.update(self._names, __annotations__={}, __builtins__=builtins)
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


def keeps_path() -> bool:
    """Whether Python was told to put no folder of the program's first on ``sys.path`` (``-P``, ``-I``)."""
    return bool(getattr(sys.flags, "safe_path", sys.flags.isolated))


def _put_first(folder: str) -> None:
    if not keeps_path():
        sys.path.insert(0, folder)


def _find(name: str) -> ModuleSpec | None:
    """The module's spec, or that of a package's ``__main__``."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    return spec


def _main_of(path: str) -> ModuleSpec | None:
    """The spec of ``__main__`` in a folder or zip file."""
    finder = pkgutil.get_importer(path)
    return finder.find_spec("__main__") if finder is not None else None


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
