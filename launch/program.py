"""Program: loads and runs the user's program in the same way as Python."""

from __future__ import annotations

import builtins
import importlib.util
import os
import pkgutil
import sys
import types
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader, SourcelessFileLoader
from pathlib import Path
from typing import Any

from .interpreter import keeps_path


@dataclass(frozen=True)
class Program:
    """What to run: a script, a folder or zip file with ``__main__.py``, or the name of a ``module``."""

    name: str
    args: tuple[str, ...] = ()
    module: bool = False

    @property
    def argv(self) -> tuple[str, ...]:
        """The program and its arguments, as on Python's command line."""
        return ("-m", self.name, *self.args) if self.module else (self.name, *self.args)


@dataclass(frozen=True)
class LoadedProgram:
    """A compiled program, which can be run several times.

    Attributes:
        file: the file of its code.
        code: its code.
        names: the names that Python sets in ``__main__``: ``__file__``, ``__spec__``, ...
    """

    file: str
    code: types.CodeType
    names: dict[str, Any]

    def new_main(self) -> dict[str, Any]:
        """Makes a new ``__main__`` module and returns its namespace, for ``exec(code, namespace)``."""
        # Not with runpy, which deletes the module at the end, although atexit functions need its globals.
        main = types.ModuleType("__main__")
        main.__dict__.update(self.names, __annotations__={}, __builtins__=builtins)
        sys.modules["__main__"] = main
        return main.__dict__


def load(program: Program) -> LoadedProgram:
    """Finds and compiles a program, and adds its folder to ``sys.path``, which must not contain it yet.

    Raises:
        OSError: the file does not exist.
        ImportError: the module does not exist.
        SyntaxError: it is not a Python program.
    """
    # Like Python, this keeps "." and ".." in the path. getcwd() fails in a deleted folder, so it is not
    # called for absolute paths.
    file = program.name if os.path.isabs(program.name) else os.path.join(os.getcwd(), program.name)
    if program.module:
        prepend_path(os.getcwd())
        return _from_spec(_module_spec(program.name), program.name)
    if pkgutil.get_importer(file):
        # Even with -P or -I, because the program itself is in this folder or zip file.
        sys.path.insert(0, file)
        return _from_spec(main_spec(file), program.name)
    prepend_path(os.path.dirname(os.path.realpath(file)))
    return _from_script(file)


def execute(program: Program) -> None:
    """Runs the program in this process, as ``__main__``."""
    sys.argv = ["-m" if program.module else program.name, *program.args]
    loaded = load(program)
    if program.module:
        sys.argv[0] = loaded.file
    exec(loaded.code, loaded.new_main())


def prepend_path(folder: str) -> None:
    """Puts a folder first on ``sys.path``, unless Python was started with -P or -I."""
    if not keeps_path():
        sys.path.insert(0, folder)


def main_spec(path: str) -> ModuleSpec | None:
    """The spec of ``__main__`` in a folder or zip file."""
    finder = pkgutil.get_importer(path)
    return finder.find_spec("__main__") if finder is not None else None


def _module_spec(name: str) -> ModuleSpec | None:
    """The module's spec, or that of a package's ``__main__``. Imports the packages that it is in."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    return spec


def _from_script(file: str) -> LoadedProgram:
    names: dict[str, Any] = {"__file__": file, "__cached__": None}
    if file.endswith(".pyc"):
        compiled = SourcelessFileLoader("__main__", file)
        code = compiled.get_code("__main__")
        assert code is not None
        return LoadedProgram(file, code, {**names, "__loader__": compiled})
    code = compile(Path(file).read_bytes(), file, "exec", dont_inherit=True)
    return LoadedProgram(file, code, {**names, "__loader__": SourceFileLoader("__main__", file)})


def _from_spec(spec: ModuleSpec | None, name: str) -> LoadedProgram:
    get_code = getattr(spec.loader, "get_code", None) if spec is not None else None
    code = get_code(spec.name) if spec is not None and get_code is not None else None
    if spec is None or code is None:
        raise ImportError(f"no module named {name!r} that could be run as a program")
    names = {
        "__file__": spec.origin,
        "__cached__": spec.cached,
        "__loader__": spec.loader,
        "__package__": spec.parent,
        "__spec__": spec,
    }
    return LoadedProgram(spec.origin or name, code, names)


def own_part(error: BaseException) -> types.TracebackType | None:
    """The error's traceback without the leading frames of the launcher and of Python's import system."""
    here = os.path.dirname(os.path.abspath(__file__))
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if os.path.dirname(os.path.abspath(file)) != here and not file.startswith("<frozen"):
            return trace
        trace = trace.tb_next
    return None
