"""The user's program: checked once before the start, run in each replica as Python itself would run it."""

from __future__ import annotations

import builtins
import importlib.util
import os
import pkgutil
import re
import shlex
import shutil
import sys
import traceback
import types
import warnings
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader, SourcelessFileLoader
from pathlib import Path
from typing import Any

from .errors import LaunchError
from .interpreter import keeps_path

_PYTHON = re.compile(r"(python|pypy)[0-9.]*t?", re.ASCII)


@dataclass(frozen=True)
class Program:
    """What to run: a script, a folder or zip file with ``__main__.py``, or the name of a ``module``."""

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
    _refuse_interpreter(program)
    path = _module_file(program.name) if program.module else Path(program.name)
    try:
        if path is None or path.suffix == ".pyc":
            return
        if not program.module and pkgutil.get_importer(str(path)):
            if _main_of(str(path)) is None:
                raise LaunchError(f"can't find '__main__' module in {program.name[:200]!r}", code=1)
            return
        _refuse_stream(path)
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


def _refuse_interpreter(program: Program) -> None:
    """Raises LaunchError for ``distoptrun -n 2 python train.py``, as one writes for mpirun."""
    folder, name = os.path.split(program.name)
    if program.module or not _PYTHON.fullmatch(name):
        return
    if os.path.exists(name) if not folder else not shutil.which(program.name):
        return  # a script or a folder of that name
    rest = list(program.args)
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c"):
        del rest[0]
    words = "script.py args..." if not rest or rest[0] == "-c" else shlex.join(rest)
    raise LaunchError(
        f"{program.name!r} is not a script: distoptrun starts Python itself. Write: distoptrun -n N {words}"
    )


def _refuse_stream(path: Path) -> None:
    """Raises LaunchError for ``/dev/stdin``, and for a pipe such as the shell's ``<(...)``."""
    own = str(path).startswith(("/dev/stdin", "/dev/fd/", "/proc/self/"))
    if path.exists() and (own or not path.is_file()):
        raise LaunchError(
            f"{str(path)[:200]!r} is no file that every replica could read: write the program into one",
            code=2,
        )


def _module_file(name: str) -> Path | None:
    """The source of a plain top-level module; None where only an import could tell.

    Raises:
        LaunchError: there is no such top-level module.
    """
    top, _, below = name.partition(".")
    before = list(sys.path)
    _put_first(os.getcwd())
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    finally:
        sys.path[:] = before
    if spec is None:
        raise LaunchError(f"there is no module named {top!r} for {sys.executable}", code=1)
    plain = not below and spec.submodule_search_locations is None and spec.has_location and spec.origin
    return Path(spec.origin) if plain and spec.origin and spec.origin.endswith(".py") else None


def execute(program: Program) -> None:
    """Runs the program in this process, as ``__main__``; ``sys.path`` has no entry of a program yet."""
    sys.argv = ["-m" if program.module else program.name, *program.args]
    # As Python makes it absolute: with the dots that it has. An absolute one works in a removed folder.
    file = program.name if os.path.isabs(program.name) else os.path.join(os.getcwd(), program.name)
    if program.module:
        _put_first(os.getcwd())
        code, names = _of_spec(_find(program.name), program.name)
        sys.argv[0] = names["__file__"]
    elif pkgutil.get_importer(file):
        sys.path.insert(0, file)  # also where Python is told to keep the path: the program lies in there
        code, names = _of_spec(_main_of(file), program.name)
    else:
        _put_first(os.path.dirname(os.path.realpath(file)))
        code, names = _of_script(file)
    # Not by runpy: it throws the module away at the end, and atexit functions still need its globals.
    main = types.ModuleType("__main__")
    main.__dict__.update(names, __annotations__={}, __builtins__=builtins)
    sys.modules["__main__"] = main
    exec(code, main.__dict__)


def _put_first(folder: str) -> None:
    if not keeps_path():
        sys.path.insert(0, folder)


def _of_script(file: str) -> tuple[types.CodeType, dict[str, Any]]:
    names: dict[str, Any] = {"__file__": file, "__cached__": None}
    if file.endswith(".pyc"):
        compiled = SourcelessFileLoader("__main__", file)
        code = compiled.get_code("__main__")
        assert code is not None
        return code, {**names, "__loader__": compiled}
    code = compile(Path(file).read_bytes(), file, "exec", dont_inherit=True)
    return code, {**names, "__loader__": SourceFileLoader("__main__", file)}


def _find(name: str) -> ModuleSpec | None:
    """The module's spec, or that of a package's ``__main__``. Imports the packages that it is in."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    return spec


def _main_of(path: str) -> ModuleSpec | None:
    """The spec of ``__main__`` in a folder or zip file."""
    finder = pkgutil.get_importer(path)
    return finder.find_spec("__main__") if finder is not None else None


def _of_spec(spec: ModuleSpec | None, name: str) -> tuple[types.CodeType, dict[str, Any]]:
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
    return code, names


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
