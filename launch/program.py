"""The user's program: checked once before the start, run in each replica as Python itself would run it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import runpy
import sys
import traceback
import types
import warnings
from dataclasses import dataclass
from pathlib import Path

from .errors import LaunchError


@dataclass(frozen=True)
class Program:
    """A script or, with ``module``, the name of a module; and its own arguments."""

    name: str
    args: tuple[str, ...] = ()
    module: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """As on Python's command line."""
        return ("-m", self.name, *self.args) if self.module else (self.name, *self.args)


def check(program: Program) -> None:
    """Finds what can be found before the start: no such script or module, a syntax error.

    Raises:
        LaunchError: with the words and the exit code of Python.
    """
    path = _module_file(program.name) if program.module else Path(program.name)
    try:
        if path is None or path.is_dir():
            return
        source = path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise LaunchError(f"cannot open the script {program.name[:200]!r}: {why}", code=2) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the replicas will say it
            compile(source, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        text = "".join(traceback.format_exception_only(type(error), error)).rstrip()
        raise LaunchError(f"{program.name} is not a Python program:\n{text}", code=1) from None


def _module_file(name: str) -> Path | None:
    """The source of a plain top-level module; None where only an import could tell.

    Raises:
        LaunchError: there is no such top-level module.
    """
    top, _, below = name.partition(".")
    sys.path.insert(0, os.getcwd())
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    finally:
        sys.path.pop(0)
    if spec is None:
        raise LaunchError(f"there is no module named {top!r} for {sys.executable}", code=1)
    plain = not below and spec.submodule_search_locations is None and spec.has_location and spec.origin
    return Path(spec.origin) if plain and spec.origin and spec.origin.endswith(".py") else None


def execute(program: Program) -> None:
    """Runs the program in this process, as ``__main__``."""
    sys.argv = [program.name, *program.args]
    if program.module:
        sys.path[0] = os.getcwd()
        runpy.run_module(program.name, run_name="__main__", alter_sys=True)
        return
    if os.path.isdir(program.name):
        del sys.path[0]
        runpy.run_path(program.name, run_name="__main__")
        return
    sys.path[0] = os.path.dirname(os.path.realpath(program.name))
    file = os.path.abspath(program.name)
    main = types.ModuleType("__main__")
    loader = importlib.machinery.SourceFileLoader("__main__", file)
    # Not runpy.run_path: it throws the module away at the end, and atexit functions still need its globals.
    main.__dict__.update(__file__=file, __loader__=loader, __builtins__=__builtins__)
    sys.modules["__main__"] = main
    exec(compile(Path(file).read_bytes(), file, "exec", dont_inherit=True), main.__dict__)


def own_part(error: BaseException) -> types.TracebackType | None:
    """The error's traceback from the program's first line on, without the frames that led to it."""
    here = os.path.dirname(os.path.abspath(__file__))
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if os.path.dirname(os.path.abspath(file)) != here and not file.startswith("<frozen"):
            return trace
        trace = trace.tb_next
    return None
