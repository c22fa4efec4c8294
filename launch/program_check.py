"""Checks a program once, before any replica is started."""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import re
import shlex
import shutil
import sys
import traceback
import warnings
from pathlib import Path

from .errors import JobStartError
from .program import Program, main_spec, prepend_path

_PYTHON = re.compile(r"(python|pypy)[0-9.]*t?", re.ASCII)


def check(program: Program) -> None:
    """Checks that the script or module exists, and that a script has no syntax error.

    Raises:
        JobStartError: with the message and the exit code of Python.
    """
    _refuse_interpreter(program)
    path = _module_file(program.name) if program.module else Path(program.name)
    try:
        if path is None or path.suffix == ".pyc":
            return
        if not program.module and pkgutil.get_importer(str(path)):
            if main_spec(str(path)) is None:
                raise JobStartError(f"can't find '__main__' module in {program.name[:200]!r}", code=1)
            return
        _refuse_stream(path)
        source = path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise JobStartError(f"cannot open the script {program.name[:200]!r}: {why}", code=2) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the replicas will show them
            compile(source, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        text = "".join(traceback.format_exception_only(type(error), error)).rstrip()
        raise JobStartError(f"{program.name} is not a Python program:\n{text}", code=1) from None


def _refuse_interpreter(program: Program) -> None:
    """Raises JobStartError for ``distoptrun -n 2 python train.py``, which is mpirun's form."""
    folder, name = os.path.split(program.name)
    if program.module or not _PYTHON.fullmatch(name):
        return
    if os.path.exists(name) if not folder else not shutil.which(program.name):
        return  # a script or a folder of that name
    rest = list(program.args)
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c"):
        del rest[0]
    command = "script.py args..." if not rest or rest[0] == "-c" else shlex.join(rest)
    raise JobStartError(
        f"{program.name!r} is not a script: distoptrun starts Python itself. Write: distoptrun -n N {command}"
    )


def _refuse_stream(path: Path) -> None:
    """Raises JobStartError for ``/dev/stdin``, and for a pipe such as the shell's ``<(...)``."""
    own = str(path).startswith(("/dev/stdin", "/dev/fd/", "/proc/self/"))
    if path.exists() and (own or not path.is_file()):
        raise JobStartError(
            f"{str(path)[:200]!r} is not a file that every replica can read: write the program into one",
            code=2,
        )


def _module_file(name: str) -> Path | None:
    """The source of a plain top-level module; None if only an import could tell.

    Raises:
        JobStartError: there is no such top-level module.
    """
    top, _, below = name.partition(".")
    before = list(sys.path)
    prepend_path(os.getcwd())
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    finally:
        sys.path[:] = before
    if spec is None:
        raise JobStartError(f"there is no module named {top!r} for {sys.executable}", code=1)
    plain = not below and spec.submodule_search_locations is None and spec.has_location and spec.origin
    return Path(spec.origin) if plain and spec.origin and spec.origin.endswith(".py") else None
