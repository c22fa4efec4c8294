"""Finds the MPI library that mpi4py loads, and its mpiexec."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import JobStartError
from .interpreter import running

#: mpi4py's name of an MPI -> its family. The MPIs of a family have the same launcher and variables.
_FAMILIES: Mapping[str, str] = {
    "MPICH": "mpich",
    "MVAPICH": "mpich",
    "MVAPICH2": "mpich",
    "Open MPI": "openmpi",
    "Intel MPI": "intel",
    "Cray MPI": "mpich",
}

#: family -> names of its launcher, unambiguous ones first.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "mpich": ("mpiexec.hydra", "mpiexec.mpich", "mpiexec", "mpirun"),
    "openmpi": ("mpirun.openmpi", "mpiexec.openmpi", "mpirun", "mpiexec"),
    "intel": ("mpiexec.hydra", "mpiexec", "mpirun"),
}

#: family -> its distribution on PyPI, with library and launcher.
_PACKAGES: Mapping[str, str] = {"mpich": "mpich", "openmpi": "openmpi", "intel": "impi-rt"}
#: Names of the folders that libraries are installed into, under a prefix.
_LIBRARIES = ("lib", "lib32", "lib64")

_SIGNS = (
    ("intel", re.compile(r"Intel\(R\) MPI Library.*?Version (\d[\w.]*)", re.S)),
    ("openmpi", re.compile(r"(?:Open MPI\)?|OpenRTE\)?|PRRTE\)?|prterun\)?)\s+v?(\d[\w.]*)")),
    ("mpich", re.compile(r"HYDRA build details:\s*Version:\s*(\S+)")),
)

_PROBE_SECONDS = 60.0


@dataclass(frozen=True)
class Library:
    """The MPI that mpi4py loads.

    Attributes:
        family: ``mpich``, ``openmpi`` or ``intel``.
        name: with the version, for messages.
        path: the library's file; empty if unknown.
        mpi4py: version of mpi4py.
    """

    family: str
    name: str
    path: str
    mpi4py: str


@dataclass(frozen=True)
class Launcher:
    """A program that starts MPI jobs: its file, family (empty if unknown) and version."""

    path: str
    family: str
    version: str


def find_library(environ: Mapping[str, str]) -> Library:
    """Asks mpi4py, in a separate process.

    Raises:
        JobStartError: mpi4py is missing, finds no MPI, or loads an unknown one.
    """
    command = running("distopt_launch.probe")
    try:
        done = subprocess.run(
            command, env=dict(environ), capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise JobStartError(f"importing mpi4py.MPI did not end within {_PROBE_SECONDS:.0f} s") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise JobStartError(
            f"mpi4py cannot be loaded by {sys.executable}: {reason}\n"
            "Install it with an MPI: pip install mpi4py mpich, or mpi4py openmpi; "
            "on a cluster load the site's MPI and: pip install mpi4py."
        )
    name, version, text, files, mpi4py = json.loads(done.stdout.splitlines()[-1])
    family = _FAMILIES.get(name)
    full = f"{name} {'.'.join(map(str, version))}"
    if family is None:
        raise JobStartError(
            f"mpi4py loads {full} ({text.splitlines()[0].strip()}), whose launcher distoptrun does not know. "
            "Start the program with that MPI's own launcher: mpiexec -n N python script.py"
        )
    libraries = [file for file in files if re.fullmatch(r"libmpi.*\.so.*", os.path.basename(file))]
    path = min(libraries, key=lambda file: len(os.path.basename(file)), default="")
    return Library(family, full, path, mpi4py)


def candidates(library: Library, environ: Mapping[str, str]) -> list[str]:
    """Launchers that may belong to the library: first beside it, then on ``PATH``."""
    folders = [folder / "bin" for folder in _prefixes(library.path)]
    folders += map(Path, search_path(environ))
    names = _NAMES[library.family]
    found = [shutil.which(name, path=str(folder)) for folder in dict.fromkeys(folders) for name in names]
    return list(dict.fromkeys(file for file in found if file))


def search_path(environ: Mapping[str, str]) -> list[str]:
    """The absolute folders of ``PATH``.

    Relative ones are left out, so that nothing in the working directory runs.
    """
    return [folder for folder in environ.get("PATH", "").split(os.pathsep) if os.path.isabs(folder)]


def _prefixes(file: str) -> list[Path]:
    """The folders above a library, up to its installation prefix, which is the parent of ``lib`` or the like.

    Folders above the prefix are left out, because they may belong to anyone.
    """
    above = list(Path(file).parents) if file else []
    ends = [at for at, folder in enumerate(above) if folder.name in _LIBRARIES]
    return above[: ends[0] + 2] if ends else above[:1]


def identify(path: str) -> Launcher:
    """Finds out to which MPI a launcher belongs, from the output of ``--version``."""
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace", timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return Launcher(path, "", "")
    return recognize(path, done.stdout + done.stderr)


def recognize(path: str, text: str) -> Launcher:
    """The launcher at ``path`` that answers ``--version`` with ``text``."""
    for family, sign in _SIGNS:
        if match := sign.search(text):
            return Launcher(path, family, match[1])
    return Launcher(path, "", "")


def find_launcher(library: Library, environ: Mapping[str, str]) -> Launcher:
    """The launcher of the MPI that mpi4py loads.

    Raises:
        JobStartError: there is none; the message lists all that were found.
    """
    others = []
    for path in candidates(library, environ):
        launcher = identify(path)
        if launcher.family == library.family:
            return launcher
        others.append(f"  {path}: {launcher.family or 'of unknown kind'} {launcher.version}".rstrip())
    found = "\n".join(["Found, but of another MPI:", *others]) if others else "No mpiexec was found at all."
    loaded = f"{library.name} ({library.path or 'file unknown'})"
    raise JobStartError(
        f"mpi4py loads {loaded}, but its mpiexec was not found. {found}\n"
        "Put that MPI's bin folder on PATH (on a cluster: load its module), "
        f"or install one with its launcher: pip install {_PACKAGES[library.family]}."
    )
